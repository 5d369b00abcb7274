import math

import numpy as np
import pytest
import torch

from genve_core.training import degradation as d
from genve_core.training import kernels
from genve_core.training.degradation import (
    DegradationConfig,
    codec_round_trip,
    degrade,
    quantise,
    resize,
    walk,
)


def clip(f: int, h: int, w: int) -> torch.Tensor:
    """A moving ramp with some texture, (f, 3, h, w) in [-1, 1]."""
    t, y, x = torch.meshgrid(torch.arange(f), torch.arange(h), torch.arange(w), indexing="ij")
    base = torch.stack([torch.sin(0.2 * (x + t)), torch.cos(0.15 * y), torch.sin(0.1 * (x + y))], dim=1)
    return 0.8 * base


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


KINDS = {  # shares that force one way of making a clip poor
    "clean": DegradationConfig(clean=1.0, mild=0.0),
    "mild": DegradationConfig(clean=0.0, mild=1.0),
    "two stages": DegradationConfig(clean=0.0, mild=0.0),
    "blocky": DegradationConfig(clean=0.0, mild=1.0, blocky=1.0),
    "aliased": DegradationConfig(clean=0.0, mild=1.0, aliased=1.0, sharpened=1.0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_poor_clip_is_smaller_by_the_scale_and_8_bit(kind, codec, scale):
    poor = degrade(clip(3, 40, 56), scale, KINDS[kind], rng(scale), codec=codec)
    assert poor.shape == (3, 3, 40 // scale, 56 // scale)
    levels = (poor + 1) * 127.5
    assert levels.min() >= 0 and levels.max() <= 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_alone_decides(kind):
    video = clip(3, 32, 48)
    first, again, other = (degrade(video, 2, KINDS[kind], rng(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert kind == "clean" or not torch.equal(first, other)
    assert torch.equal(video, clip(3, 32, 48)), "the input was changed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_poor_clip_still_shows_the_same(kind):
    video = clip(3, 64, 96)
    for seed in range(4):
        poor = degrade(video, 4, KINDS[kind], rng(seed))
        truth = resize(video, (16, 24), "area")
        far = (poor - truth).abs().mean()
        assert far < (0.02 if kind == "clean" else 0.35), f"seed {seed}: {far}"


def test_a_walk_is_bounded_steps_little_and_moves():
    values = walk(5.0, 0.5, 200, 4.0, 6.0, rng())
    assert values.shape == (200,) and values.dtype == torch.float32 and values[0] == 5.0
    assert values.min() >= 4.0 and values.max() <= 6.0
    steps = values.diff().abs()
    assert steps.max() <= 0.5 + 1e-5 and (steps > 0).float().mean() > 0.3
    assert walk(9.0, 0.5, 1, 4.0, 6.0, rng()).tolist() == [6.0]


@pytest.mark.parametrize("kind", ["gaussian", "generalised", "plateau"])
def test_kernels_sum_to_one_and_are_symmetric(kind):
    sx, sy, angle = torch.tensor([0.4, 1.5, 3.0]), torch.tensor([0.4, 2.5, 1.0]), torch.tensor([0.0, 0.7, -2.0])
    kernel = kernels.anisotropic(sx, sy, angle, kind, 1.3, 15)
    assert kernel.shape == (3, 15, 15) and kernel.min() >= 0
    assert kernel.sum((1, 2)).tolist() == pytest.approx([1, 1, 1])
    assert torch.allclose(kernel, kernel.flip(1, 2), atol=1e-7), "not symmetric about its centre"


def test_an_anisotropic_kernel_is_as_wide_as_asked_along_its_angle():
    kernel = kernels.anisotropic(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([math.pi / 2]), "gaussian", 1, 21)[0]
    axis = torch.arange(21.0) - 10
    spread_y, spread_x = ((kernel.sum(k) * axis.square()).sum().sqrt().item() for k in (1, 0))
    assert spread_y == pytest.approx(2.0, abs=0.02) and spread_x == pytest.approx(1.0, abs=0.02)


def test_a_sinc_kernel_sums_to_one_rings_and_stops_what_is_above_its_cutoff():
    kernel = kernels.sinc(math.pi / 3, 21)[0]
    assert kernel.sum().item() == pytest.approx(1) and kernel.min() < -1e-3
    assert torch.equal(kernel, kernel.T) and kernel.argmax().item() == 10 * 21 + 10
    wave = torch.arange(21) - 10
    passed = (kernel * torch.cos(0.3 * wave)).sum().item()
    stopped = (kernel * torch.cos(2.2 * wave)).sum().item()
    assert passed == pytest.approx(1, abs=0.1) and abs(stopped) < 0.05


def test_blur_filters_each_frame_with_its_own_kernel_and_keeps_a_flat_one():
    spike = torch.zeros(2, 3, 9, 11)
    spike[:, :, 4, 5] = 1
    own = kernels.anisotropic(torch.tensor([0.6, 2.0]), torch.tensor([0.6, 2.0]), torch.zeros(2), "gaussian", 1, 5)
    result = kernels.blur(spike, own)
    for k in range(2):
        assert torch.allclose(result[k, 1, 2:7, 3:8], own[k], atol=1e-6)
    flat = torch.full((2, 3, 2, 3), 0.25)  # smaller than the kernel
    assert torch.allclose(kernels.blur(flat, own), flat)


@pytest.mark.parametrize(("sigma", "size"), [(0.2, 3), (1.0, 7), (2.0, 13), (9.0, 21)])
def test_a_kernel_is_odd_and_holds_three_sigma_up_to_its_limit(sigma, size):
    assert kernels.gaussian_size(sigma) == size


def test_an_unknown_kernel_is_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="kind must be one of gaussian, generalised, plateau, got 'box'"):
        kernels.anisotropic(one, one, one, "box", 1, 5)


@pytest.mark.parametrize(("codec", "preset", "quantiser"), [("libx264", "medium", 23), *(
    (name, "ultrafast", good) for name, (good, _) in d.BLOCKY.items())])
@pytest.mark.parametrize(("f", "h", "w"), [(1, 18, 34), (5, 17, 34), (7, 18, 33), (12, 31, 45)])
def test_a_codec_round_trip_keeps_frames_sizes_and_order(f, h, w, codec, preset, quantiser):
    levels = torch.linspace(-0.8, 0.8, f).view(f, 1, 1, 1).expand(f, 3, h, w)
    back = codec_round_trip(levels, quantiser, codec, preset)
    assert back.shape == (f, 3, h, w)
    assert back.mean((1, 2, 3)).tolist() == pytest.approx(levels[:, 0, 0, 0].tolist(), abs=0.03)


def test_a_higher_crf_loses_more():
    video = clip(4, 48, 64)
    fine, coarse = ((codec_round_trip(video, crf) - video).abs().mean() for crf in (12, 45))
    assert fine < 0.5 * coarse, (fine, coarse)


@pytest.mark.parametrize("codec", d.BLOCKY)
def test_a_blocky_codec_loses_more_the_coarser_it_is_and_leaves_edges_between_its_blocks(codec):
    noise = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    video = kernels.gaussian_blur(noise, 4.0) * 3  # smooth, so that a step in it is a block's edge
    good, poor = (codec_round_trip(video, quantiser, codec, "ultrafast") for quantiser in d.BLOCKY[codec])
    filtered = codec_round_trip(video, d.BLOCKY["libx264"][1])
    assert (good - video).abs().mean() < 0.7 * (poor - video).abs().mean()

    def edges(back: torch.Tensor) -> float:
        """Steps between columns, at the borders of blocks against those in between."""
        steps = (back[..., 1:] - back[..., :-1]).abs().mean((0, 1, 2))
        return float(steps[7::8].mean() / steps[3::8].mean())

    assert edges(poor) > 1.2 * max(edges(filtered), edges(video))


def aliases(video: torch.Tensor, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """One small picture of each kind."""
    return {str(rng(seed).choice(["field", "decimated", "doubled"])): d.alias(video, size, rng(seed)) for seed in range(12)}


def test_aliasing_leaves_smooth_pictures_where_they_are():
    video = resize(clip(2, 32, 48), (96, 144), "bicubic")
    wanted = resize(video, (24, 36), "area")
    small = aliases(video, (24, 36))
    assert set(small) == {"field", "decimated", "doubled"}
    for each in small.values():
        assert each.shape == wanted.shape
        assert (each - wanted)[..., 2:-2, 2:-2].abs().max() < 0.03


@pytest.mark.parametrize(("kind", "pixels"), [("field", 1), ("decimated", 1), ("doubled", 2)])
def test_aliasing_shows_lines_that_are_too_fine_to_be_shown(kind, pixels):
    y = torch.arange(96.0).view(1, 1, 96, 1).expand(1, 3, 96, 128)
    lines = torch.sin(2 * math.pi * y / (4.3 * pixels))  # a little more than what becomes one pixel
    filtered = resize(resize(lines, (24 // pixels, 32), "area"), (24, 32), "bilinear")
    assert aliases(lines, (24, 32))[kind].std() > 4 * filtered.std()


def test_a_sharpened_clip_has_rims_at_edges_and_nowhere_else():
    video = torch.full((1, 3, 24, 32), -0.5)
    video[..., 16:] = 0.5
    sharp = kernels.sharpen(video, 0.5, 1.0)
    assert sharp[..., 16].min() > 0.55 and sharp[..., 15].max() < -0.55
    assert torch.allclose(sharp[..., :8], video[..., :8], atol=1e-5)
    assert torch.allclose(sharp[..., 24:], video[..., 24:], atol=1e-5)


def test_a_camera_sharpens_as_much_and_as_wide_as_asked():
    def rims(amount: float, sigma: float) -> torch.Tensor:
        config = DegradationConfig(mild=1.0, clean=0.0, mild_blur=(0.1, 0.1), mild_noise=(0.0, 0.0), crf=(0, 1), sharpened=1.0,
                                   sharpening=(amount, amount), radius=(sigma, sigma))
        step = torch.full((1, 3, 48, 128), -0.5)
        step[..., 64:] = 0.5
        return d.degrade(step, 2, config, rng(5))[0, 0, 12, 32:]  # from the edge on

    weak, strong, wide = rims(0.3, 0.8), rims(1.0, 0.8), rims(1.0, 2.0)
    assert 0.51 < weak.max() < strong.max() - 0.05
    assert strong[2] < 0.51 and wide[2] > strong[2] + 0.05, "how far the rim reaches"


def test_jpeg_takes_any_size_and_a_quality_a_frame():
    video = clip(2, 19, 35)
    back = d.jpeg(video, torch.tensor([95.0, 10.0]))
    assert back.shape == video.shape
    good, bad = (back - video).abs().mean((1, 2, 3)).tolist()
    assert good < 0.5 * bad


def test_grain_has_the_strength_asked_and_may_be_grey():
    flat = torch.zeros(4, 3, 64, 64)
    seen = set()
    for seed in range(24):
        grain = d.add_grain(flat, (10.0, 10.0), 0.0, rng(seed)) * 127.5
        grey = torch.equal(grain[:, 0], grain[:, 1])
        shot = grain.std() < 9.5 or grain.std() > 10.5
        wanted = 10 * (1.4 * math.sqrt(0.5) if shot else 1)
        assert grain.std().item() == pytest.approx(wanted, rel=0.03)
        seen.add(grey)
    assert seen == {True, False}


def test_random_blur_keeps_size_and_brightness_for_every_kind():
    video = clip(3, 40, 48) * 0.3 + 0.2
    for seed in range(12):
        result = d.random_blur(video, (0.5, 3.0), rng(seed))
        assert result.shape == video.shape
        assert result.mean().item() == pytest.approx(video.mean().item(), abs=0.02), seed


@pytest.mark.parametrize("kind", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 11), (35, 45), (21, 27)])
def test_resizing_keeps_a_flat_frame(kind, size):
    flat = torch.full((2, 3, 21, 27), -0.3)
    result = resize(flat, size, kind)
    assert result.shape == (2, 3, *size) and torch.allclose(result, torch.full_like(result, -0.3), atol=1e-5)


def test_quantise_rounds_to_8_bit_and_clips():
    values = torch.tensor([-1.5, -1.0, 0.0019, 1 / 127.5 - 1.0, 1.2])
    assert ((quantise(values) + 1) * 127.5).tolist() == pytest.approx([0, 0, 128, 1, 255])
