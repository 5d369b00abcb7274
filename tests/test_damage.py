"""Film damage and combing: what they change, what they leave alone."""

import numpy as np
import pytest
import torch

from genve_core.training.damage import comb, damage, dust, scratches
from genve_core.training.degradation import DegradationConfig, degrade


def numbered(frames: int = 6, h: int = 64, w: int = 96) -> torch.Tensor:
    """Every frame has its own grey, so that a pixel tells where it came from."""
    return torch.linspace(-0.5, 0.5, frames).view(-1, 1, 1, 1).expand(-1, 3, h, w).clone()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_combing_takes_every_other_line_of_the_later_clip_from_the_next_frame(scale):
    video = numbered()
    lines = comb(video, scale).unflatten(2, (-1, scale))
    assert torch.equal(lines[:, :, ::2], video.unflatten(2, (-1, scale))[:, :, ::2])
    assert torch.equal(lines[:-1, :, 1::2], video[1:].unflatten(2, (-1, scale))[:, :, 1::2])
    assert torch.equal(lines[-1], video[-1].unflatten(1, (-1, scale)))  # there is no later field


def test_dust_covers_little_and_lies_elsewhere_in_every_frame():
    video = numbered(h=240, w=320)
    for seed in range(10):
        spoilt = dust(video, np.random.default_rng(seed))
        covered = (spoilt != video).any(1)
        assert covered.float().mean((1, 2)).max() < 0.05
        assert spoilt.abs().max() <= 1
        both = (covered[1:] & covered[:-1]).sum()
        assert both <= 0.3 * covered.sum()
    assert covered.any()


def test_a_scratch_runs_down_the_whole_frame_and_stays_near_its_place():
    video = numbered(h=240, w=320)
    found = 0
    for seed in range(10):
        change = (scratches(video, np.random.default_rng(seed), most=1) - video).abs().mean((1, 2))  # (f, w)
        if change.amax() < 0.02:
            continue  # out of the frame
        found += 1
        places = change.argmax(-1)
        assert (places[1:] - places[:-1]).abs().max() <= 6
        assert (change > 0.01).float().mean() < 0.1
    assert found >= 5


def test_both_kinds_of_damage_come_up_and_the_input_is_left_alone():
    video = numbered()
    results = [damage(video, 2, np.random.default_rng(seed)) for seed in range(20)]
    combed = [torch.equal(x, comb(video, 2)) for x in results]
    assert 0 < sum(combed) < 20
    assert torch.equal(video, numbered())


def test_a_share_of_the_clips_is_damaged():
    video = numbered()
    settings = [DegradationConfig(clean=1.0, mild=0.0, damaged=share) for share in (0.0, 1.0)]
    for seed in range(5):
        whole, worn = (degrade(video, 2, config, np.random.default_rng(seed)) for config in settings)
        assert torch.equal(whole, degrade(video, 2, DegradationConfig(clean=1.0, mild=0.0), np.random.default_rng(seed)))
        assert not torch.equal(whole, worn)
