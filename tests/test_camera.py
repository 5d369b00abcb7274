import cv2
import numpy as np
import pytest
import torch

from genve_core.conditioning.warp import warp
from genve_core.training.camera import CameraConfig, MovingCamera

SIZE = 72


def photo(seed: int, h: int = 150, w: int = 190) -> np.ndarray:
    """A smooth random picture, RGB uint8 (h, w, 3)."""
    noise = np.random.default_rng(seed).normal(0, 1, (h, w, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (127.5 + 127.5 * np.clip(smooth / np.abs(smooth).max(), -1, 1)).astype(np.uint8)


def camera(seed: int, layers: int = 1, frames: int = 6, **settings: float) -> MovingCamera:
    config = CameraConfig(**({"static": 0.0, "motion_blur": 0.0} | settings))
    return MovingCamera([photo(10 * seed + k) for k in range(layers)], frames, SIZE, config, np.random.default_rng(seed))


def missed(cam: MovingCamera, i: int, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey levels (h, w) between frame i and frame j warped to it; the flow and its validity."""
    flow, valid = cam.flow(i, j)
    a, b = (torch.from_numpy(cam.frame(k)).permute(2, 0, 1)[None].float() for k in (i, j))
    back = warp(b, torch.from_numpy(flow)[None])
    return (back - a).abs().mean(1)[0].numpy(), flow, valid[0] > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("i", "j"), [(0, 1), (4, 1)])
def test_a_frame_warped_by_the_flow_is_the_other_frame(seed, i, j):
    error, flow, valid = missed(camera(seed, max_speed=8.0), i, j)
    assert flow.shape == (2, SIZE, SIZE) and flow.dtype == np.float32
    assert valid.mean() > 0.3 and error[valid].max() < 12 and error[valid].mean() < 1.0, error[valid].mean()


@pytest.mark.parametrize("seed", range(4))
def test_with_a_layer_in_front_what_is_valid_still_fits_and_what_does_not_is_invalid(seed):
    error, _, valid = missed(camera(seed, layers=2, max_speed=8.0), 2, 4)
    assert error[valid].mean() < 1.5 and np.percentile(error[valid], 99) < 12, (error[valid].mean(), error[valid].max())
    assert valid.any() and not valid.all()


def test_the_flow_of_the_true_motion_is_what_makes_it_fit():
    cam = camera(0, max_speed=8.0)
    error, flow, valid = missed(cam, 0, 3)
    still = np.abs(cam.frame(0).astype(float) - cam.frame(3)).mean(-1)
    assert np.abs(flow).max() > 5 and error[valid].mean() < 0.2 * still[valid].mean()


def test_flow_there_and_back_cancels():
    cam = camera(1, max_speed=6.0)
    there, valid = cam.flow(0, 2)
    back = warp(torch.from_numpy(cam.flow(2, 0)[0])[None], torch.from_numpy(there)[None])[0].numpy()
    interior = np.zeros_like(valid, bool)
    interior[:, 2:-2, 2:-2] = True
    both = np.broadcast_to((valid > 0) & interior, there.shape)
    assert np.abs(there + back)[both].max() < 0.05


@pytest.mark.parametrize("layers", [1, 2])
def test_a_static_clip_repeats_its_frame_and_has_no_flow(layers):
    cam = camera(3, layers=layers, static=1.0)
    assert all(np.array_equal(cam.frame(0), cam.frame(i)) for i in (2, 5))
    flow, valid = cam.flow(0, 5)
    assert np.abs(flow).max() < 1e-3
    assert layers == 2 or valid.all()


def test_a_static_view_lies_inside_its_photograph():
    """Photographs that are one grey level a column: a view outside would show the mirror image of its edge."""
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None] * 2, 90, axis=0).repeat(3, axis=2)
    for seed in range(6):
        config = CameraConfig(static=1.0, motion_blur=0.0)
        frame = MovingCamera([ramp], 3, SIZE, config, np.random.default_rng(seed)).frame(0)
        steps = np.diff(frame[SIZE // 2, :, 0].astype(int))
        assert (steps >= -1).all() or (steps <= 1).all(), steps


def test_the_edge_of_the_layer_in_front_is_invalid_in_both_frames():
    cam = camera(0, layers=2, static=1.0)
    mask = cam._mask(1, 0)
    _, valid = cam.flow(0, 2)
    soft = (mask[..., 0] > 0.06) & (mask[..., 0] < 0.94)
    assert soft.any() and not valid[0][soft].any()
    assert valid[0][(mask[..., 0] < 0.01) | (mask[..., 0] > 0.99)].all()


def test_background_that_the_front_layer_covers_is_invalid():
    cam = camera(0, layers=2)
    scene, views, mask = cam.layers[0]
    cam.layers[0] = (scene, np.tile(views[0], (6, 1, 1)), mask)  # the background stands still,
    to_right = np.tile(cam.layers[1][1][3], (6, 1, 1))
    for i in range(6):  # the front moves right by 5 pixels a frame
        to_right[i] = to_right[i] @ np.array([[1, 0, -5.0 * (i - 3)], [0, 1, 0], [0, 0, 1]])
    front = np.zeros((SIZE, SIZE, 1), np.float32)
    front[20:50, 30:40] = 1  # in frame 3, the middle one
    cam.layers[1] = (cam.layers[1][0], to_right, front)
    flow, valid = cam.flow(3, 5)
    assert flow[:, 35, 35].tolist() == pytest.approx([10, 0], abs=1e-3) and valid[0, 22:48, 32:38].all()
    assert not valid[0, 22:48, 42:48].any(), "the front lies there in frame 5"
    assert valid[0, :, :25].all() and valid[0, :, 55:].all() and np.abs(flow[:, :, 55:]).max() < 1e-3


def test_leaving_the_frame_is_invalid():
    cam = camera(0)
    view = np.tile(cam.layers[0][1][2], (6, 1, 1))
    for i in range(6):
        view[i] = view[i] @ np.array([[1, 0, 4.0 * i], [0, 1, 0], [0, 0, 1]])  # the content moves left
    cam.layers[0] = (cam.layers[0][0], view, None)
    flow, valid = cam.flow(0, 2)
    assert flow[0].ravel() == pytest.approx(-8, abs=1e-3)
    assert not valid[0, :, :7].any() and valid[0, :, 9:].all()


def test_the_same_generator_gives_the_same_clip():
    first, again, other = (camera(s, layers=2).frame(4) for s in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
