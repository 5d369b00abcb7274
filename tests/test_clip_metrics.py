import json
import math

import numpy as np
import pytest
import torch

from genve_core.clip import ClipFlow
from genve_core.diffuser.windows import WindowConfig
from genve_core.errors import InputError
from genve_core.evaluation.clip_metrics import (
    changes,
    enlarged,
    measure,
    motion_of_flow,
    reduced,
    seam_score,
    sharpness_per_frame,
    window_borders,
)
from genve_core.evaluation.metrics import PSNR_CAP
from genve_core.media.eight_bit import as_bytes

H, W = 48, 64


def flat(*values: int, h: int = 12, w: int = 16) -> np.ndarray:
    return np.stack([np.full((h, w, 3), value, np.uint8) for value in values])


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Six frames of soft texture that moves by (2, 1) pixels a frame."""
    import cv2

    noise = np.random.default_rng(1).normal(128, 300, (H + 20, W + 20, 3))
    big = np.clip(cv2.GaussianBlur(noise, (0, 0), 2), 0, 255).astype(np.uint8)
    return np.stack([big[10 - i : 10 - i + H, 12 - 2 * i : 12 - 2 * i + W] for i in range(6)])


@pytest.fixture(scope="module")
def poor(truth) -> np.ndarray:
    return reduced(truth, (H // 4, W // 4))


def test_a_result_that_reduces_to_the_input_is_fully_faithful(truth, poor):
    assert measure(truth, poor).values["input_psnr"] == PSNR_CAP


def test_fidelity_is_the_psnr_on_the_inputs_grid():
    # 10 grey levels off on the small grid: 20 log10(255 / 10)
    report = measure(flat(110, 110, h=48, w=64), flat(100, 100))
    assert report.values["input_psnr"] == pytest.approx(28.1308, abs=1e-3)
    assert (report.about["input_width"], report.about["input_height"]) == (16, 12)


def test_an_up_scaled_input_is_compared_on_the_poor_grid(truth, poor):
    large = enlarged(poor, (H, W))
    by_scale = measure(truth, large, scale=4)
    assert by_scale.values["input_psnr"] > 30 > measure(truth, large, scale=1).values["input_psnr"]
    assert (by_scale.about["input_height"], by_scale.about["input_width"]) == (12, 16)


def test_sharpness_is_the_mean_gradient():
    ramp = np.tile(np.arange(0, 200, 5, dtype=np.uint8)[None, :, None], (20, 1, 3))[None]  # 5 levels a pixel
    # Sobel mirrors at both side columns, where the horizontal gradient is 0
    assert sharpness_per_frame(ramp)[0] == pytest.approx(5 * 38 / 40, rel=1e-3)
    assert sharpness_per_frame(flat(7))[0] == 0


def test_a_sharper_result_has_a_gain_above_one(truth, poor):
    large = enlarged(poor, (H, W))
    assert measure(truth, poor).values["sharpness_gain"] > 1.2
    assert measure(large, poor).values["sharpness_gain"] == pytest.approx(1)


def test_the_truth_is_as_steady_as_itself_and_flicker_is_not(truth, poor):
    assert measure(truth, poor, truth=truth).values["warp_ratio"] == pytest.approx(1)
    flicker = truth.copy()
    flicker[::2] = np.clip(flicker[::2].astype(int) + 12, 0, 255)
    report = measure(flicker, poor, truth=truth)
    assert report.values["warp_ratio"] > 3
    assert report.values["psnr"] < PSNR_CAP and report.about["warp_base"] == "truth"
    assert measure(flicker, poor).about["warp_base"] == "input"


def test_every_step_of_a_cross_fade_is_a_border():
    # windows 0-7 and 4-11: shared are 4 to 7, so shares change from 3 to 4 and up to 7 to 8
    assert window_borders(12, WindowConfig(8, 4)) == [4, 5, 6, 7, 8]
    assert window_borders(12, WindowConfig(6, 0)) == [6]
    assert window_borders(12, WindowConfig(16, 4)) == []


def test_a_jump_at_the_windows_border_is_a_seam(truth, poor):
    jump = truth.copy()
    jump[3:] = np.clip(jump[3:].astype(int) + 20, 0, 255)
    windows = WindowConfig(3, 0)
    assert measure(truth, poor, window=windows).values["seam_score"] == pytest.approx(1, abs=0.05)
    report = measure(jump, poor, window=windows)
    assert report.borders == [3] and report.values["seam_score"] > 1.1


def test_motion_of_the_input_itself_is_no_seam():
    """A jump that the input makes too, as at a fast moment, counts for nothing."""
    given = flat(10, 10, 10, 90, 90, 90)
    assert changes(given, given)[1:].tolist() == pytest.approx([1] * 5)
    assert seam_score(changes(given, given), [3]) == pytest.approx(1)


def test_without_a_border_or_without_an_elsewhere_there_is_no_seam_score():
    change = np.array([math.nan, 1.0, 2.0])
    assert seam_score(change, []) is None
    assert seam_score(change, [1, 2]) is None
    assert seam_score(change, [2]) == 2


def test_one_frame_has_what_can_be_known():
    values = measure(flat(100, h=48, w=64), flat(100)).values
    assert values == {"input_psnr": PSNR_CAP, "sharpness": 0, "sharpness_gain": None, "warp_ratio": None,
                      "seam_score": None, "psnr": None}


def test_the_text_names_what_is_known_and_json_holds_no_nan(truth, poor):
    report = measure(truth, poor, truth=truth, window=WindowConfig(3, 0))
    assert [line.split(":")[0] for line in report.text().splitlines()] == [
        "Fidelity to the input", "Sharpness", "Sharpness gain", "Warp ratio", "Seam score", "PSNR against the truth"]
    assert "times the truth's change along the motion" in report.text()
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    assert plain["frames"] == 6 and plain["overlap"] == 0 and plain["borders"] == [3]
    assert plain["per_frame"]["change"][0] is None and len(plain["per_frame"]["psnr"]) == 6
    assert len(measure(flat(100), flat(100)).text().splitlines()) == 2


def test_the_graphs_own_flow_is_taken_to_the_results_grid():
    # 2 px of the half grid to the right are 4 px of the frame; the frame ends at 20x28 of 32x32 padded pixels
    forward, backward = torch.zeros(3, 2, 16, 16), torch.zeros(3, 2, 16, 16)
    forward[:2, 0], backward[1:, 0] = 2.0, -2.0
    backward[2, 0, 4:8, 4:8] = 9.0  # disagrees there
    motion = motion_of_flow(ClipFlow(forward, backward), (32, 32), (20, 28))
    assert len(motion) == 2 and motion[0].flow.shape == (20, 28, 2) and motion[0].valid.shape == (20, 28)
    assert np.allclose(motion[0].flow, [4.0, 0.0])
    assert motion[0].valid[:, :26].all() and not motion[1].valid[10, 6]


def test_frames_become_the_bytes_that_are_saved():
    values = torch.tensor([-1.2, -1.0, 0.0, 1.0, 1.2]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert as_bytes(values)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_clips_that_do_not_fit_are_refused():
    big, small = flat(1, 2, h=48, w=64), flat(1, 2)
    with pytest.raises(InputError, match="the result has 2 frames and the input 1, wanted as many"):
        measure(big, small[:1])
    with pytest.raises(InputError, match=r"input is 64x48 px and the result 16x12 px.*are the two swapped"):
        measure(small, big)
    with pytest.raises(InputError, match=r"truth has 2 frames of 16x12 px, the result 2 frames of 64x48 px"):
        measure(big, small, truth=small)
    with pytest.raises(InputError, match="scale must be 1 or more, got 0"):
        measure(big, small, scale=0)
    with pytest.raises(InputError, match="overlap"):
        measure(big, small, window=WindowConfig(4, 4))
