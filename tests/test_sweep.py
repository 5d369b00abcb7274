import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.diffuser.windows import WindowConfig
from genve_core.errors import InputError
from genve_core.models import Models
from genve_core.pipeline import Enhancer
from genve_core.settings import EnhanceConfig
from genve_core.steps import encode_clip, find_flow, given_reference
from genve_core.sweep import SweepConfig, spread, sweep

SIZE = (40, 56)


@pytest.fixture(scope="module")
def models(tiny_bundle):
    return Models(load_bundle(tiny_bundle), "cpu")


@pytest.fixture(scope="module")
def frames():
    """Eleven frames of a smooth pattern moving right, 20 x 28 px."""
    x = torch.linspace(0, 6, 28 + 11)
    wave = torch.stack([torch.sin(x + phase) for phase in (0.0, 1.0, 2.0)])[:, None].expand(3, 20, -1)
    return torch.stack([0.8 * wave[..., i : i + 28] for i in range(11)])


@pytest.fixture(scope="module")
def picture():
    return torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(3)) * 1.6 - 0.8


@pytest.fixture(scope="module")
def made(models, frames, picture):
    """What lies before the sweep in the graph: clip, Z, references, flow."""
    clip = Clip(frames, SIZE)
    references = {name: (given_reference(models, clip, shown, 4, align=False),)
                  for name, shown in {"A": picture, "B": -picture}.items()}
    return clip, encode_clip(models, clip), references, find_flow(models, clip, [4])


def run(models, made, config, references=None):
    clip, Z, given, flow = made
    return dict(sweep(models, clip, Z, references or given, flow, config))


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_pictures_are_those_of_the_whole_run(models, made, frames, picture, strength):
    columns = run(models, made, SweepConfig((0, 300), (0, 7), seed=5, strength=strength))
    assert list(columns) == ["n = 0, A", "n = 300, A", "n = 0, B", "n = 300, B"]
    config = EnhanceConfig(scale=2, noise_level=300, seed=5, key_frame=4, reference_strength=strength, align=False)
    whole = torch.cat([*Enhancer(models, config).run(frames, picture)])
    for shown, frame in zip(columns["n = 300, A"], (0, 7), strict=True):
        assert (shown - whole[frame]).abs().max() < 1e-5


def test_levels_references_and_seeds_make_a_difference(models, made):
    columns = run(models, made, SweepConfig((0, 300), (7,)))
    seen = [column[0] for column in columns.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    other = run(models, made, SweepConfig((300,), (7,), seed=1))
    assert not torch.equal(other["n = 300, A"][0], columns["n = 300, A"][0])


def test_far_frames_get_their_own_windows_with_the_noise_of_the_clip(models, made, frames, picture):
    """Windows 0-3, 3-6, 6-9, 7-10. Frame 0 needs the first, frame 9 the last two: what lies between is not computed."""
    window = WindowConfig(4, 1)
    columns = run(models, made, SweepConfig((300,), (0, 9), window=window), {"": made[2]["A"]})
    assert list(columns) == ["n = 300"]
    config = EnhanceConfig(scale=2, noise_level=300, key_frame=4, window=window, align=False)
    whole = torch.cat([*Enhancer(models, config).run(frames, picture)])
    # with one step windows do not speak with each other before they are fused
    assert (columns["n = 300"][0] - whole[0]).abs().max() < 1e-5
    assert (columns["n = 300"][1] - whole[9]).abs().max() < 1e-5


def test_progress_is_told_and_can_stop_the_work(models, made):
    seen = []

    def stop(stage, done, total):
        seen.append((stage, done, total))
        if done:
            raise KeyboardInterrupt

    clip, Z, given, flow = made
    with pytest.raises(KeyboardInterrupt):
        list(sweep(models, clip, Z, given, flow, SweepConfig((0, 300), (3,)), report=stop))
    assert seen[0] == ("sweep", 0, 4) and seen[-1] == ("sweep", 1, 4)


@pytest.mark.parametrize(("count", "total", "frames"), [(1, 9, (4,)), (2, 16, (4, 12)), (3, 2, (0, 1)), (4, 4, (0, 1, 2, 3))])
def test_spread_frames_are_even_and_away_from_the_ends(count, total, frames):
    assert spread(count, total) == frames


@pytest.mark.parametrize(("config", "message"), [
    ({"levels": ()}, "at least one noise level and one frame, got 0 and 1"),
    ({"frames": ()}, "at least one noise level and one frame, got 1 and 0"),
    ({"levels": (100, 1000)}, r"noise level must be in \[0, 999\], got 1000"),
    ({"strength": 1.5}, r"reference strength must be in \[0, 1\], got 1.5"),
])
def test_settings_out_of_range_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        SweepConfig(**{"levels": (0,), "frames": (0,)} | config)


def test_frames_that_are_not_there_and_too_many_pictures_are_refused(models, made):
    with pytest.raises(InputError, match="frame 11 is not in the clip of 11 frames; choose from 0 to 10"):
        run(models, made, SweepConfig((0,), (0, 11)))
    with pytest.raises(InputError, match="the sweep would have 110 pictures, at most 100 are made"):
        run(models, made, SweepConfig((0, 1, 2, 3, 4), tuple(range(11))))
