"""The reference brought to every frame: one as `warp_latent` does it, several without holes and without a jump."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from genve_core.clip import ClipFlow, Reference
from genve_core.conditioning.temporal import carry, nearness, reach, shares
from genve_core.conditioning.warp import warp_latent
from genve_core.errors import InputError
from genve_core.training.camera import CameraConfig, MovingCamera

FRAMES, H, W, C = 9, 24, 40, 4  # the flow lies on (12, 20), latents on (3, 5)
WHOLE = slice(None)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reference(key: int, y: Tensor | None = None) -> Reference:
    y = noise(C, H // 8, W // 8, seed=key) if y is None else y
    return Reference(key, torch.zeros(3, H, W), y, torch.ones(1, H, W))


def flow_to(*keys: int, frames: int = FRAMES, moving: bool = True) -> ClipFlow:
    """Noisy flow with holes, other for every key frame; `moving` False: nothing moves and nothing is hidden."""
    zero = torch.zeros(frames, 2, H // 2, W // 2)
    to_key = {key: noise(*zero.shape, seed=100 + key) * moving for key in keys}
    valid = {key: ((noise(frames, 1, H // 2, W // 2, seed=200 + key) > -1) | (not moving)).float() for key in keys}
    return ClipFlow(zero, zero, to_key, valid)


def test_a_single_reference_is_warped_exactly_as_by_warp_latent():
    flow, only = flow_to(2), reference(2)
    Y, valid = carry([only], flow)
    assert Y.shape == (1, FRAMES, C, H // 8, W // 8)
    assert torch.equal(Y[0], warp_latent(only.y, flow.to_key[2], flow.valid[2]))
    assert torch.equal(valid, flow.valid[2])
    assert 0 < valid.mean() < 1


@pytest.mark.parametrize("keys", [(4,), (12, 40), (40, 12), (0, 1), (3, 5, 47), (47, 0, 20, 21)])
def test_nearness_sums_to_one_and_is_one_at_its_own_key_frame(keys):
    weights = nearness(range(48), keys)
    assert weights.shape == (len(keys), 48)
    assert torch.allclose(weights.sum(0), torch.ones(48))
    assert weights.min() >= 0
    for row, key in zip(weights, keys):
        assert row[key] == 1
        assert (row[: key + 1].diff() >= 0).all() and (row[key:].diff() <= 0).all()  # it falls on both sides


def test_nearness_by_hand():
    first, second = nearness(range(13), (2, 10))
    assert first[:3].tolist() == second[10:].tolist() == [1, 1, 1]
    assert first[6] == second[6] == 0.5  # half way
    assert first[4] == second[8] == 1 - 0.25**2 * (3 - 0.5)  # a quarter of the way
    assert torch.equal(nearness(range(4, 9), (2, 10)), nearness(range(13), (2, 10))[:, 4:9])


def test_two_references_of_one_frame_are_refused():
    with pytest.raises(InputError, match="two references depict frame 3; give one reference a frame"):
        carry([reference(3), reference(5), reference(3)], flow_to(3, 5))


@pytest.mark.parametrize("given", [(2,), (2, 7)])
def test_a_flow_that_leads_elsewhere_is_refused(given):
    with pytest.raises(InputError, match="depicts frame 2, but the flow leads to key frame 5, 7; use one key frame for both"):
        carry([reference(key) for key in given], flow_to(5, 7))
    with pytest.raises(InputError, match="depicts frame 2, but the flow leads to key frame none"):
        shares([reference(2)], flow_to(), WHOLE)


def test_shares_sum_to_one_where_any_reference_reaches_and_to_zero_elsewhere():
    flow, three = flow_to(1, 4, 8), [reference(key) for key in (1, 4, 8)]
    anywhere = torch.stack([flow.valid[key] for key in (1, 4, 8)]).amax(0)
    assert 0 < anywhere.mean() < 1
    assert torch.allclose(torch.stack(shares(three, flow, WHOLE)).sum(0), anywhere)
    assert torch.equal(carry(three, flow)[1], anywhere)


def test_shares_of_a_part_are_a_part_of_the_shares():
    flow, two = flow_to(1, 7), [reference(1), reference(7)]
    for part, whole in zip(shares(two, flow, slice(3, 6)), shares(two, flow, WHOLE)):
        assert torch.equal(part, whole[3:6])


def test_what_one_reference_leaves_open_is_filled_by_the_other():
    flow, (a, b) = flow_to(2, 6, moving=False), (reference(2), reference(6))
    flow.valid[2][:, :, :, :8] = 0  # two latent columns that the first does not know, in no frame
    filled = carry([a, b], flow)[0][0, 0]  # frame 0 is governed by the first alone
    assert torch.allclose(filled[:, :, :2], b.y[:, :, :2])
    assert torch.allclose(filled[:, :, 2:], a.y[:, :, 2:])


def test_the_less_the_governing_reference_is_trusted_the_more_the_other_fills():
    flow, two = flow_to(2, 6, moving=False), [reference(2), reference(6)]
    for trust, other in ((0.1, 0.9), (0.5, 0.5), (0.9, 0.2)):
        flow.valid[2][:], flow.valid[6][:] = trust, other
        near, far = (part[0, 0, 0, 0] for part in shares(two, flow, WHOLE))
        assert near == pytest.approx(trust)
        assert far == pytest.approx(max(0, other - trust))  # together the better of both
    assert torch.equal(carry(two, flow)[1], torch.full((FRAMES, 1, H // 2, W // 2), 0.9))


def test_the_governing_reference_is_not_disturbed_by_the_other():
    flow, (a, b) = flow_to(2, 6, moving=False), (reference(2), reference(6))
    Y = carry([a, b], flow)[0][0]
    for frame, governing in ((0, a), (2, a), (6, b), (8, b)):
        assert torch.equal(Y[frame], governing.y)
    assert torch.allclose(Y[4], (a.y + b.y) / 2, atol=1e-5)


def test_two_equal_references_are_one():
    y = noise(C, H // 8, W // 8)
    still = flow_to(2, 6, moving=False)
    assert torch.allclose(carry([reference(2, y), reference(6, y)], still)[0], carry([reference(2, y)], still)[0], atol=1e-6)
    flow = flow_to(2, 6)
    flow.to_key[6], flow.valid[6] = flow.to_key[2], flow.valid[2]
    assert torch.allclose(carry([reference(2, y), reference(6, y)], flow)[0], carry([reference(2, y)], flow)[0], atol=1e-6)


def test_a_reference_that_covers_half_of_its_frame_reaches_half_of_the_others():
    flow, half = flow_to(2, moving=False), reference(2)
    half.valid[:, :, : W // 2] = 0
    flow.to_key[2][:, 0] = 2.0  # everything lies 2 px of the flow's grid further right in the key frame
    reached = reach(half, flow, WHOLE)
    assert reached[:, :, :, : W // 4 - 2].max() == 0
    assert reached[:, :, :, W // 4 - 2 :].min() == 1


def moving_camera(frames: int = 29, size: int = 96) -> tuple[Tensor, ClipFlow, tuple[int, int]]:
    """A clip (f, 3, size, size) in [-1, 1] of a camera over texture, and its flow, as inexact as estimated flow is."""
    rng = np.random.default_rng(3)
    still = sum(cv2.resize(rng.integers(0, 255, (side, side, 3), dtype=np.uint8), (400, 400), interpolation=cv2.INTER_CUBIC)
                .astype(np.float32) for side in (12, 50, 200)) / 3
    config = CameraConfig(max_speed=1.5, shake=0.5, motion_blur=0.0, static=0.0)
    camera = MovingCamera([still.astype(np.uint8)], frames, size, config, rng)
    keys, blur = (4, 24), torch.nn.AvgPool2d(5, 1, 2)
    to_key, valid = {}, {}
    for key in keys:
        exact = [camera.flow(i, key) for i in range(frames)]
        distance = (torch.arange(frames) - key).abs().view(-1, 1, 1, 1)
        wrong = blur(noise(frames, 2, size, size, seed=key)) * distance / 10
        to_key[key] = torch.from_numpy(np.stack([flow for flow, _ in exact])) + wrong
        valid[key] = torch.from_numpy(np.stack([there for _, there in exact]))
    video = torch.from_numpy(np.stack([camera.frame(i) for i in range(frames)])).permute(0, 3, 1, 2) / 127.5 - 1
    zero = torch.zeros_like(to_key[keys[0]])
    return video, ClipFlow(zero, zero, to_key, valid), keys


def test_the_change_over_between_two_references_is_not_seen():
    """Where the references take turns, frames change no more than with either alone, though they differ in tone."""
    video, flow, (a, b) = moving_camera()
    whole = torch.ones(1, *video.shape[-2:])
    good = [Reference(a, video[a], video[a], whole), Reference(b, 0.9 * video[b] + 0.05, 0.9 * video[b] + 0.05, whole)]
    seen = flow.valid[a] * flow.valid[b]
    seen = seen[1:] * seen[:-1]

    def change(carried: Tensor) -> Tensor:
        """From frame to frame, as a multiple of the clip's own, where both references reach."""
        result, truth = ((x.diff(dim=0).abs() * seen).sum((1, 2, 3)) for x in (carried, video))
        return result / truth

    one, other = (carry([reference], flow)[0][0] for reference in good)
    most = 1.02 * torch.minimum(change(one), change(other))
    turn, middle = slice(a, b), (a + b) // 2
    assert (change(carry(good, flow)[0][0])[turn] <= most[turn]).all()
    switched = torch.cat([one[:middle], other[middle:]])
    assert change(switched)[middle - 1] > 1.1 * most[middle - 1]  # what a switch would show


def test_shares_follow_the_key_frames_not_the_order_of_the_references():
    flow, (a, b) = flow_to(2, 6), (reference(2), reference(6))
    assert torch.allclose(carry([a, b], flow)[0], carry([b, a], flow)[0], atol=1e-6)
    swapped = [replace(a, y=b.y), replace(b, y=a.y)]
    assert not torch.allclose(carry([a, b], flow)[0], carry(swapped, flow)[0], atol=0.1)
