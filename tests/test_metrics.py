import numpy as np
import pytest

from genve_core.errors import InputError
from genve_core.evaluation import metrics
from genve_core.evaluation.motion import checked_motion, warp
from genve_core.evaluation.niqe import fit_aggd, load_model, mscn, niqe, niqe_grey, patch_features
from genve_core.evaluation.perceptual import Perceptual

H, W = 96, 128


@pytest.fixture(scope="module")
def clip():
    """Five frames of soft texture that moves by (3, 2) pixels a frame, (5, 96, 128, 3)."""
    import cv2

    noise = np.random.default_rng(1).normal(128, 400, (H + 40, W + 40, 3))
    big = np.clip(cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)
    return np.stack([big[20 - 2 * i : 20 - 2 * i + H, 20 - 3 * i : 20 - 3 * i + W] for i in range(5)])


def flat(*values):
    return np.stack([np.full((5, 7, 3), v, np.uint8) for v in values])


def test_psnr_is_the_mean_of_the_frames_psnr():
    # errors of 5 and 10 grey levels: 20 log10(255/5) = 34.151 and 20 log10(255/10) = 28.131
    assert metrics.psnr(flat(105, 90), flat(100, 100)) == pytest.approx((34.1514 + 28.1308) / 2, abs=1e-3)


def test_psnr_counts_one_wrong_channel_as_a_third_of_the_error():
    wrong = flat(100)
    wrong[..., 2] = 130
    assert metrics.psnr(wrong, flat(100)) == pytest.approx(10 * np.log10(255**2 / (900 / 3)))


def test_psnr_leaves_the_given_frame_out_and_caps_identical_frames():
    result, truth = flat(105, 100, 90), flat(100, 100, 100)
    assert metrics.psnr_per_frame(result, truth)[1] == metrics.PSNR_CAP
    assert metrics.psnr(result, truth, leave_out=1) == pytest.approx((34.1514 + 28.1308) / 2, abs=1e-3)


@pytest.mark.parametrize("index", [-1, 3])
def test_psnr_refuses_to_leave_out_a_frame_that_is_not_there(index):
    with pytest.raises(InputError, match=f"frame {index} cannot be left out of 3 frames"):
        metrics.psnr(flat(1, 2, 3), flat(1, 2, 3), leave_out=index)


def test_psnr_of_only_the_key_frame_is_refused():
    with pytest.raises(InputError, match="one frame has no frame left"):
        metrics.psnr(flat(1), flat(2), leave_out=0)


def test_frames_of_another_kind_or_size_are_refused():
    with pytest.raises(InputError, match=r"result must be uint8 \(f, h, w, 3\), got float64"):
        metrics.psnr(flat(1).astype(float), flat(1))
    with pytest.raises(InputError, match=r"truth must be uint8 \(f, h, w, 3\), got uint8 \(5, 7, 3\)"):
        metrics.psnr(flat(1), flat(1)[0])
    with pytest.raises(InputError, match=r"result must be \(1, 4, 7, 3\) like the truth, got \(1, 5, 7, 3\)"):
        metrics.psnr(flat(1), flat(1)[:, :4])


def test_input_psnr_sees_only_what_the_input_could_show():
    rng = np.random.default_rng(2)
    low = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    assert metrics.input_psnr(low.repeat(4, 1).repeat(4, 2), low) == metrics.PSNR_CAP
    assert metrics.input_psnr(low.repeat(4, 1).repeat(4, 2), 255 - low) < 15


def test_ssim_is_one_for_the_truth_and_falls_with_noise(clip):
    pytest.importorskip("skimage")
    noisy = np.clip(clip + np.random.default_rng(3).normal(0, 20, clip.shape), 0, 255).astype(np.uint8)
    assert metrics.ssim(clip, clip) == pytest.approx(1)
    assert metrics.ssim(noisy, clip) < 0.8


def test_vmaf_is_high_for_the_truth_and_low_for_a_blurred_copy(clip):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("imageio_ffmpeg")
    same = metrics.vmaf(clip, clip)
    blurred = metrics.vmaf(np.stack([cv2.GaussianBlur(f, (0, 0), 4) for f in clip]), clip)
    assert set(same) == {"vmaf", "vmaf_neg"}
    assert min(same.values()) > 90, same
    assert max(blurred.values()) < 50, blurred


def test_vmaf_says_why_ffmpeg_failed():
    pytest.importorskip("imageio_ffmpeg")
    tiny = np.zeros((2, 2, 2, 3), np.uint8)  # libvmaf cannot filter 2 x 2 pixels
    with pytest.raises(RuntimeError, match="libvmaf failed"):
        metrics.vmaf(tiny, tiny)


def test_flow_finds_a_known_translation_and_the_warp_undoes_it(clip):
    flow, valid = checked_motion(clip[0], clip[1])
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(np.median(flow[inner], axis=(0, 1)) - (3, 2)).max() < 0.1
    assert valid[inner].mean() > 0.95
    exact = np.broadcast_to(np.float32([3, 2]), (H, W, 2))
    assert (warp(clip[1], exact)[: H - 2, : W - 3] == clip[0][: H - 2, : W - 3]).all()


def test_flow_of_a_change_that_no_motion_explains_is_not_valid(clip):
    other = np.random.default_rng(4).integers(0, 256, clip[0].shape, dtype=np.uint8)
    assert checked_motion(clip[0], other).valid.mean() < 0.5


def test_warp_error_by_hand():
    from genve_core.evaluation.motion import Motion

    valid = np.zeros((5, 7), bool)
    valid[2, 3] = True  # the only pixel that counts
    frames = flat(10, 10, 10)
    frames[1, 2, 4] = 16  # where flow (1, 0) finds pixel (3, 2) of the first frame
    right, still = np.zeros((2, 5, 7, 2), np.float32)
    right[..., 0] = 1
    assert metrics.warp_error(frames, [Motion(right, valid), Motion(still, valid)]) == pytest.approx((36 + 0) / 2)
    assert metrics.warp_error(frames, [Motion(right, ~valid & False)] * 2) == 0
    with pytest.raises(InputError, match="2 motions need 3 frames, got 2"):
        metrics.warp_error(frames[:2], [Motion(right, valid)] * 2)


def test_warp_ratio_is_one_for_the_truth_above_for_flicker_and_below_for_blur(clip):
    cv2 = pytest.importorskip("cv2")
    motion = metrics.motion_between_frames(clip)
    flicker = clip.copy()
    flicker[::2] = np.minimum(clip[::2], 247) + 8
    assert metrics.warp_ratio(clip, clip, motion) == pytest.approx(1)
    assert metrics.warp_ratio(flicker, clip, motion) > 2
    grain = np.clip(clip + np.random.default_rng(8).normal(0, 9, clip.shape), 0, 255).astype(np.uint8)
    smooth = np.stack([cv2.GaussianBlur(f, (0, 0), 2) for f in grain])
    assert metrics.warp_ratio(smooth, grain, motion) < 0.5  # a blur takes the truth's own grain away


def test_warp_ratio_of_a_still_or_single_frame_is_unknown(clip):
    assert metrics.warp_ratio(clip[:1], clip[:1]) is None
    still = clip[:1].repeat(3, 0)
    assert metrics.warp_ratio(clip[:3], still) is None


def test_aggd_finds_a_gaussian_and_a_laplacian():
    rng = np.random.default_rng(5)
    tiles = np.stack([rng.normal(0, 1, (96, 96)), rng.laplace(0, 1, (96, 96))])
    shape, left, right = fit_aggd(tiles)
    assert shape == pytest.approx([2, 1], rel=0.06)
    # a Gaussian's scale is sqrt(2) sigma, a Laplacian's is its own b
    assert left == pytest.approx([np.sqrt(2), 1], rel=0.06)
    assert right == pytest.approx(left, rel=0.06)


def test_niqe_counts_18_features_a_patch_and_prefers_its_own_model():
    rng = np.random.default_rng(6)
    sharp = np.clip(rng.normal(128, 30, (192, 288)), 0, 255)
    features = patch_features(mscn(sharp), 96)
    assert features.shape == (6, 18)
    from genve_core.evaluation.niqe import NiqeModel, _half

    both = np.hstack([features, patch_features(mscn(_half(sharp)), 48)])
    model = NiqeModel(both.mean(0), np.cov(both, rowvar=False))
    assert niqe_grey(sharp, model) == pytest.approx(0, abs=1e-6)
    assert niqe_grey(sharp // 64 * 64, model) > 1
    assert np.isnan(niqe_grey(np.full((96, 192), 7.0), model))


def test_niqe_refuses_small_frames_and_wrong_parameters(tmp_path):
    good = tmp_path / "good.npz"
    np.savez(good, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    with pytest.raises(InputError, match="two patches of 96x96 px, got a picture of 191x97 px"):
        niqe(np.zeros((1, 97, 191, 3), np.uint8), load_model(good))
    np.savez(tmp_path / "bad.npz", mu_pris_param=np.zeros(35), cov_pris_param=np.eye(36))
    for path in (tmp_path / "bad.npz", tmp_path / "missing.npz"):
        with pytest.raises(InputError, match=f"{path.name} cannot be used .*; give niqe_pris_params.npz"):
            load_model(path)


def test_metrics_that_need_an_extra_name_it(monkeypatch, clip):
    for module in ("pyiqa", "skimage.metrics", "imageio_ffmpeg"):
        monkeypatch.setitem(__import__("sys").modules, module, None)  # as if it were not installed
    with pytest.raises(InputError, match=r"metric lpips needs pyiqa.*genve\[metrics\]"):
        Perceptual("lpips")
    with pytest.raises(InputError, match=r"SSIM needs scikit-image.*genve\[evaluate\]"):
        metrics.ssim(clip, clip)
    with pytest.raises(InputError, match=r"VMAF needs imageio-ffmpeg.*genve\[evaluate\]"):
        metrics.vmaf(clip, clip)
    with pytest.raises(InputError, match="metric 'fid' is unknown; choose from lpips"):
        Perceptual("fid")
