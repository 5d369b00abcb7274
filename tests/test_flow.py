import cv2
import numpy as np
import pytest
import torch

from genve_core.conditioning.flow import (
    FlowConfig,
    consistent,
    dis_flow,
    flow_estimator,
    flow_with_validity,
    key_frame_flow,
    neighbour_flow,
    reduce_frames,
    to_grey,
)
from genve_core.errors import InputError


def scene(h: int, w: int, seed: int = 0) -> np.ndarray:
    """A smooth random texture (h, w, 3) in [-1, 1] with detail of 4 to 20 pixels."""
    rng = np.random.default_rng(seed)
    sharp = rng.normal(0, 1, (h, w, 3)).astype(np.float32)
    image = sum(cv2.GaussianBlur(sharp, (0, 0), s) * s for s in (2, 5, 10))
    return np.clip(image / np.abs(image).max() * 1.5, -1, 1)


def view(image: np.ndarray, x: float, y: float, h: int, w: int) -> torch.Tensor:
    """The (1, 3, h, w) cut-out at (x, y): moving it by (dx, dy) moves its content by -(dx, dy)."""
    to_view = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    cut = cv2.warpAffine(image, to_view, (w, h), flags=cv2.INTER_CUBIC)
    return torch.from_numpy(cut).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("dx", "dy"), [(3.0, -2.0), (0.4, 1.7), (-7.5, 5.25)])
def test_dis_finds_a_known_translation_to_a_fraction_of_a_pixel(dx, dy):
    image = scene(160, 200)
    a, b = view(image, 30, 30, 75, 101), view(image, 30 - dx, 30 - dy, 75, 101)
    flow = dis_flow(a, b)
    assert flow.shape == (1, 2, 75, 101) and flow.dtype == torch.float32
    error = (flow - torch.tensor([dx, dy]).view(1, 2, 1, 1))[..., 12:-12, 12:-12].square().sum(1).sqrt()
    assert error.mean() < 0.15, error.mean()


def test_every_pair_of_a_batch_is_estimated_by_itself():
    image = scene(160, 200)
    a = view(image, 30, 30, 61, 83).expand(3, -1, -1, -1)
    b = torch.cat([view(image, 30 - d, 30, 61, 83) for d in (0, 2, -4)])
    flow = dis_flow(a, b)
    assert flow[:, 0, 20:-20, 20:-20].mean((1, 2)).tolist() == pytest.approx([0, 2, -4], abs=0.1)
    assert torch.equal(flow[1:2], dis_flow(a[1:2], b[1:2]))


@pytest.mark.parametrize(("h", "w"), [(8, 8), (9, 61), (45, 11)])
def test_tiny_frames_have_flow_too(h, w):
    image = scene(h + 8, w + 8)
    frames = torch.cat([view(image, 2 + 0.5 * k, 2, h, w) for k in range(3)])
    reduced = reduce_frames(frames, FlowConfig())
    assert reduced.shape[-2:] == (max(8, round(h / 2)), max(8, round(w / 2)))
    flow, valid = key_frame_flow(reduced, reduced[1], FlowConfig(), dis_flow, [1])
    assert flow.shape == (3, 2, *reduced.shape[-2:]) and torch.isfinite(flow).all()
    assert flow.abs().mean() < 2 and set(valid.unique().tolist()) <= {0.0, 1.0}


def test_reducing_averages_blocks():
    frames = torch.arange(2 * 3 * 24 * 32, dtype=torch.float32).view(2, 3, 24, 32)
    assert torch.equal(reduce_frames(frames, FlowConfig(reduce=1)), frames)
    reduced = reduce_frames(frames, FlowConfig(reduce=2))
    assert reduced.shape == (2, 3, 12, 16)
    assert reduced[0, 0, 0, 0].item() == (0 + 1 + 32 + 33) / 4


def test_grey_is_the_luma_of_8_bit():
    red, white = torch.tensor([1.0, -1, -1]), torch.ones(3)
    frames = torch.stack([red, white, -white]).view(3, 3, 1, 1)
    assert to_grey(frames).flatten().tolist() == [76, 255, 0]


def test_what_an_object_covers_has_no_source_in_the_other_frame():
    """A block moves right by 6: what it covers in b (behind its right edge) is invalid, nothing else is."""
    background, block = scene(64, 96, 1), scene(64, 96, 2)
    a, b = background.copy(), background.copy()
    a[20:44, 30:50], b[20:44, 36:56] = block[20:44, 30:50], block[20:44, 30:50]
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b))
    flow, valid = flow_with_validity(a, b, FlowConfig(reduce=1), dis_flow)
    assert valid[0, 0, 24:40, 50:55].mean() < 0.4, "covered background counts as seen"
    assert valid[0, 0, 24:40, 33:46].mean() > 0.95, "the block itself is seen in both"
    assert valid[0, 0, :, 70:].mean() > 0.95 and valid[0, 0, :, :20].mean() > 0.95
    assert flow[0, 0, 28:36, 36:44].mean().item() == pytest.approx(6, abs=0.3)


def test_the_forward_backward_check_by_hand():
    forward, back = torch.zeros(1, 2, 1, 6), torch.zeros(1, 2, 1, 6)
    forward[:, 0] = 2.0
    back[:, 0] = torch.tensor([-2.0, -2, -2, -2, 0, -1.5])
    # pixel 0 -> 2 (-2, fits), 1 -> 3 (fits), 2 -> 4 (comes back 2 off), 3 -> 5 (0.5 off: 0.25 < 0.01 * 6.25 + 0.5),
    # 4 and 5 leave the frame
    strict = {"relative_tolerance": 0.01, "absolute_tolerance": 0.5}
    assert consistent(forward, back, FlowConfig(reduce=1, **strict)).flatten().tolist() == [1, 1, 0, 1, 0, 0]
    # the tolerance is in pixels of the full frame: 0.25 > 0.01 * 6.25 + 0.5 / 4
    assert consistent(forward, back, FlowConfig(reduce=2, **strict)).flatten().tolist() == [1, 1, 0, 0, 0, 0]


def test_the_key_frame_itself_does_not_move():
    image = scene(80, 100)
    frames = torch.cat([view(image, 20 + 2 * k, 20, 40, 56) for k in range(3)])
    flow, valid = key_frame_flow(frames, frames[1], FlowConfig(reduce=1), dis_flow, [1])
    assert (flow[1] == 0).all() and (valid[1] == 1).all()
    assert flow[:, 0, 12:-12, 12:-12].mean((1, 2)).tolist() == pytest.approx([-2, 0, 2], abs=0.1)


def test_neighbours_have_opposite_flow_and_the_ends_none():
    image = scene(80, 100)
    frames = torch.cat([view(image, 20 + 2 * k, 20, 40, 56) for k in range(3)])
    forward, backward = neighbour_flow(frames, dis_flow)
    assert forward[:, 0, 12:-12, 12:-12].mean((1, 2)).tolist() == pytest.approx([-2, -2, 0], abs=0.1)
    assert backward[:, 0, 12:-12, 12:-12].mean((1, 2)).tolist() == pytest.approx([0, 2, 2], abs=0.1)
    assert (forward[2] == 0).all() and (backward[0] == 0).all()
    for flow in neighbour_flow(frames[:1], dis_flow):
        assert flow.shape == (1, 2, 40, 56) and (flow == 0).all()


def test_the_estimator_is_chosen_by_the_config():
    assert flow_estimator(FlowConfig()) is dis_flow
    with pytest.raises(InputError, match=r"raft has no weights: .* train it with `genve train flow`, or use .* auto"):
        flow_estimator(FlowConfig(estimator="raft"))


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="flow reduce must be 1 or more, got 0"):
        FlowConfig(reduce=0)
    with pytest.raises(InputError, match="flow estimator must be 'auto', 'dis' or 'raft', got 'farneback'"):
        FlowConfig(estimator="farneback")  # type: ignore[arg-type]
