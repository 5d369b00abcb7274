import numpy as np
import pytest
import torch

from genve_core.errors import InputError
from genve_core.evaluation import metrics
from genve_core.evaluation.peers import Bicubic, FlowWarp, FrameFolder, GenVE, RealESRGAN
from genve_core.evaluation.report import write_frames

SCALE, H, W = 4, 64, 96


@pytest.fixture(scope="module")
def truth():
    """Four frames (4, 64, 96, 3): sharp texture on a coarse one, moving by (2, 1) pixels a frame."""
    import cv2

    rng = np.random.default_rng(1)
    coarse = cv2.GaussianBlur(rng.normal(0, 900, (H + 20, W + 20, 3)), (0, 0), 8)
    fine = cv2.GaussianBlur(rng.normal(0, 60, coarse.shape), (0, 0), 1)
    big = np.clip(128 + coarse + fine, 0, 255).astype(np.uint8)
    return np.stack([big[10 - i : 10 - i + H, 10 - 2 * i : 10 - 2 * i + W] for i in range(4)])


@pytest.fixture(scope="module")
def low(truth):
    import cv2

    return np.stack([cv2.resize(f, (W // 4, H // 4), interpolation=cv2.INTER_AREA) for f in truth])


def test_bicubic_keeps_flat_colour_and_gives_the_asked_size():
    flat = np.empty((2, 5, 7, 3), np.uint8)
    flat[:] = (3, 100, 255)
    result = Bicubic()(flat, 3)
    assert result.shape == (2, 15, 21, 3) and (result == (3, 100, 255)).all()


def test_flow_warp_returns_the_good_frame_and_carries_its_detail(low, truth):
    result = FlowWarp()(low, SCALE, (truth[2], 2))
    assert result.dtype == np.uint8 and (result[2] == truth[2]).all()
    assert metrics.psnr(result, truth, 2) > metrics.psnr(Bicubic()(low, SCALE), truth, 2) + 2


def test_flow_warp_takes_low_frequencies_from_the_input(low, truth):
    dark = (truth[2] // 2).astype(np.uint8)
    result = FlowWarp()(low, SCALE, (dark, 2))
    assert abs(float(result[0].mean()) - truth[0].mean()) < 4


def test_flow_warp_refuses_a_reference_that_does_not_fit(low, truth):
    with pytest.raises(InputError, match="flow-warp has no reference"):
        FlowWarp()(low, SCALE)
    with pytest.raises(InputError, match=r"reference is \(64, 95, 3\) at frame 1, but must be \(64, 96, 3\)"):
        FlowWarp()(low, SCALE, (truth[1][:, 1:], 1))
    for key in (-1, 4):
        with pytest.raises(InputError, match=f"at frame {key}, but must be .* at one of 4 frames"):
            FlowWarp()(low, SCALE, (truth[1], key))


@pytest.fixture(scope="module")
def compact_weights(tmp_path_factory):
    """An untrained network of Real-ESRGAN animevideo's class, whose residual branch is nothing: nearest x4."""
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact import Compact

    net = Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=4, act_type="prelu")
    for p in net.parameters():
        p.data.zero_()
    path = tmp_path_factory.mktemp("weights") / "compact.pth"
    torch.save(net.state_dict(), path)
    return path


def test_real_esrgan_with_an_empty_residual_is_nearest_enlargement(compact_weights, low):
    result = RealESRGAN(compact_weights)(low[:2], SCALE)
    assert (result == low[:2].repeat(4, 1).repeat(4, 2)).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_real_esrgan_is_reduced_where_less_is_wanted(compact_weights, low, scale):
    result = RealESRGAN(compact_weights)(low[:2], scale)
    assert (result == low[:2].repeat(scale, 1).repeat(scale, 2)).all()


def test_real_esrgan_is_enlarged_where_more_is_wanted(compact_weights, low):
    result, at_4x = (RealESRGAN(compact_weights)(low[:2], scale) for scale in (8, 4))
    assert result.shape == (2, 128, 192, 3)
    kept = result.reshape(2, 64, 2, 96, 2, 3).mean((2, 4)) - at_4x
    assert abs(kept.mean()) < 0.5 and abs(kept).mean() < 5


def test_real_esrgan_refuses_other_files(compact_weights, low, tmp_path):
    with pytest.raises(InputError, match=r"weights .*missing.pth do not exist"):
        RealESRGAN(tmp_path / "missing.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth is no up-scaler that spandrel knows"):
        RealESRGAN(tmp_path / "other.pth")


def test_real_esrgan_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"realesrgan needs spandrel.*genve\[evaluate\]"):
        RealESRGAN(tmp_path / "x.pth")


def test_genve_enhances_with_and_without_a_reference(tiny_bundle, low, truth):
    from genve_core.pipeline import enhance

    method = GenVE(enhance, bundle=tiny_bundle, device="cpu", steps=1, seed=3)
    alone, guided = method(low, SCALE), method(low, SCALE, (truth[2], 2))
    assert alone.shape == guided.shape == truth.shape and alone.dtype == np.uint8
    assert (alone != guided).any()
    weak = GenVE(enhance, bundle=tiny_bundle, device="cpu", steps=1, seed=4)
    assert (weak(low, SCALE) != alone).any()  # options reach the pipeline


def test_a_folder_of_frames_is_measured_as_it_is(low, truth, tmp_path):
    write_frames(tmp_path / "good", truth)
    assert (FrameFolder(tmp_path / "good")(low, SCALE) == truth).all()


def test_a_folder_with_other_frames_is_refused(low, truth, tmp_path):
    write_frames(tmp_path / "few", truth[:3])
    write_frames(tmp_path / "many", truth[[0, 1, 2, 3, 0]])
    write_frames(tmp_path / "narrow", truth[:, :, 1:])
    for name, shape in (("few", "3, 64, 96"), ("many", "5, 64, 96"), ("narrow", "4, 64, 95")):
        with pytest.raises(InputError, match=rf"{name} holds frames \({shape}, 3\).*needs \(4, 64, 96, 3\)"):
            FrameFolder(tmp_path / name)(low, SCALE)
    with pytest.raises(InputError, match=r"results folder .*none does not exist"):
        FrameFolder(tmp_path / "none")(low, SCALE)
