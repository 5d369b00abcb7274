import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from media_clips import moving_pattern

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.decode import decode_clip
from genve_core.decoder.detail_decoder import EDGE
from genve_core.errors import InputError
from genve_core.media.colour import ColourConfig
from genve_core.pipeline import EnhanceConfig, Enhancer, enhance
from genve_core.steps import encode_clip, find_flow, given_reference, own_reference


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def clip():
    return moving_pattern(7, 19, 27)


@pytest.fixture(scope="module")
def picture():
    return torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1)) * 2 - 1


def run(clip, bundle, reference=None, **config):
    """The picture is taken as it lies: it shows something else than the clip."""
    return enhance(clip, bundle=bundle, device="cpu", reference=reference,
                   **{"precision": "float32", "align": False, **config})


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize("scale", [1.0, 1.5, 4.0])
def test_frames_in_are_frames_out_at_the_size_asked_for(clip, bundle, frames, scale):
    assert run(clip[:frames], bundle, scale=scale).shape == (frames, 3, round(19 * scale), round(27 * scale))


def test_an_exact_size_overrides_the_scale(clip, bundle):
    assert run(clip[:2], bundle, size=(45, 83)).shape == (2, 3, 45, 83)


def test_eight_pixels_are_enough(clip, bundle):
    assert run(clip[:2, :, :8, :8], bundle).shape == (2, 3, 32, 32)


def test_a_batch_axis_is_kept(clip, bundle):
    assert run(clip[None, :2], bundle, scale=1.0).shape == (1, 2, 3, 19, 27)


def test_same_seed_same_result_and_another_seed_another(clip, bundle):
    first = run(clip, bundle, scale=2.0, seed=3)
    assert torch.equal(first, run(clip, bundle, scale=2.0, seed=3))
    assert not torch.equal(first, run(clip, bundle, scale=2.0, seed=4))


def test_the_result_does_not_depend_on_the_chunking(clip, bundle, picture):
    whole = run(clip, bundle, picture, scale=2.0, chunk=7)
    assert (whole - run(clip, bundle, picture, scale=2.0, chunk=2)).abs().max() < 1e-4


def test_the_layout_that_a_cpu_convolves_fastest_changes_nothing_but_time(clip, bundle):
    enhancer = Enhancer(bundle, EnhanceConfig(precision="float32"), "cpu")
    fast = torch.cat(list(enhancer.run(clip)))
    networks = [enhancer.models.build(name) for name in ("vae", "decoder")]
    kernels = [p for network in networks for p in network.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    for network in networks:
        network.to(memory_format=torch.contiguous_format)
    assert torch.allclose(torch.cat(list(enhancer.run(clip))), fast, atol=1e-4)


def test_strength_zero_is_exactly_no_reference(clip, bundle, picture):
    none = run(clip, bundle, scale=2.0, reference_strength=0.0)
    assert torch.equal(none, run(clip, bundle, picture, scale=2.0, reference_strength=0.0))
    assert torch.equal(none, run(clip, bundle, -picture, scale=2.0, reference_strength=0.0))


def test_a_reference_of_its_own_helps_frames_that_are_less_sharp_and_no_others(clip, bundle):
    """Of frames as sharp as the key frame, only the latents know of it; blurred ones are given its picture."""
    sharp = torch.rand(1, 3, 19, 27, generator=torch.Generator().manual_seed(2)) * 2 - 1
    soft = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    models = Enhancer(bundle, device="cpu").models

    def with_and_without(frames):
        shot = Clip(frames, (76, 108))
        Z, flow = encode_clip(models, shot), find_flow(models, shot, [0])
        own = own_reference(models, shot, Z, 0)
        assert own.own
        return (torch.stack(list(decode_clip(models, shot, Z, flow, used, n=250, steadiness=0.0))) for used in ([own], []))

    assert torch.equal(*with_and_without(sharp.expand(3, -1, -1, -1)))
    own, none = with_and_without(torch.cat([sharp, soft, soft]))
    assert torch.equal(own[0], none[0]) and (own[2] - none[2]).abs().max() > 0.05


@pytest.mark.parametrize("size, as_if", [((38, 54), 300), ((76, 108), 100)])
def test_a_clip_that_is_enlarged_by_two_is_given_the_detail_that_its_bundle_asks_for(clip, bundle, size, as_if):
    """In the frames, and in the reference that is made of one of them, which is shown beside them."""
    models, shot = Enhancer(bundle, EnhanceConfig(precision="float32"), "cpu").models, Clip(clip, size)
    Z, flow = encode_clip(models, shot), find_flow(models, shot, [])

    def made(n, detail_at_2x):
        models.defaults = replace(models.defaults, noise_level=n, detail_at_2x=detail_at_2x)
        return own_reference(models, shot, Z, 0).image, torch.stack(list(decode_clip(models, shot, Z, flow, n=n)))

    for more, higher, plain in zip(made(100, 3.0), made(as_if, 1.0), made(100, 1.0), strict=True):
        assert torch.equal(more, higher)
        assert torch.equal(higher, plain) == (as_if == 100)  # n is seen at all


def test_above_the_default_detail_stays_within_what_the_default_has_around_it(clip, bundle):
    models, shot = Enhancer(bundle, EnhanceConfig(precision="float32"), "cpu").models, Clip(clip, (76, 108))
    Z, flow = encode_clip(models, shot), find_flow(models, shot, [])

    def made(n, default):
        models.defaults = replace(models.defaults, noise_level=default)
        return torch.stack(list(decode_clip(models, shot, Z, flow, n=n, steadiness=0, colour=ColourConfig("none"))))

    usual, held, free = made(100, 100), made(999, 100), made(999, 999)
    lightest, darkest = F.max_pool2d(usual, 2 * EDGE + 1, 1, EDGE), -F.max_pool2d(-usual, 2 * EDGE + 1, 1, EDGE)
    inside = (..., slice(EDGE, -EDGE), slice(EDGE, -EDGE))  # at the border what lies beyond the clip counts too
    assert ((free > lightest + 1e-3) | (free < darkest - 1e-3))[inside].any()
    assert ((held <= lightest + 1e-5) & (held >= darkest - 1e-5))[inside].all() and (held - usual).abs().max() > 1e-3


def test_beside_a_picture_that_was_given_a_guess_is_not_shown_to_the_decoder(clip, bundle, picture):
    models, shot = Enhancer(bundle, device="cpu").models, Clip(clip, (76, 108))
    Z, flow = encode_clip(models, shot), find_flow(models, shot, [0, 6])
    own, given = own_reference(models, shot, Z, 0), given_reference(models, shot, picture, 6, align=False)
    both, alone = (torch.stack(list(decode_clip(models, shot, Z, flow, used, n=250))) for used in ([own, given], [given]))
    assert torch.equal(both, alone)


def test_another_reference_gives_another_result(clip, bundle, picture):
    assert not torch.equal(run(clip, bundle, picture, scale=2.0), run(clip, bundle, picture.flip(-1), scale=2.0))


def test_a_reference_that_does_not_reach_the_border_changes_less(clip, bundle, picture):
    covering = run(clip, bundle, picture, scale=2.0, fit="cover")
    contained = run(clip, bundle, picture[:, :, :20], scale=2.0, fit="contain")
    none = run(clip, bundle, scale=2.0, reference_strength=0.0)
    left = slice(0, 8)  # no part of the narrow picture lies here
    assert (contained - none)[..., left].abs().mean() < (covering - none)[..., left].abs().mean()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_step_count_gives_a_finite_result(clip, bundle, steps):
    assert torch.isfinite(run(clip, bundle, scale=1.0, steps=steps)).all()


def test_long_clips_are_cut_into_windows(clip, bundle):
    long = clip.repeat(4, 1, 1, 1)[:23]
    assert run(long, bundle, scale=1.0).shape == (23, 3, 19, 27)


def test_progress_counts_every_frame_and_times_are_kept(clip, bundle):
    seen = {}
    enhancer = Enhancer(bundle, EnhanceConfig(scale=1.0), "cpu")
    chunks = list(enhancer.run(clip, on_progress=lambda stage, done, total: seen.update({stage: (done, total)})))
    assert sum(map(len, chunks)) == 7
    assert seen["encode"] == seen["flow"] == seen["decode"] == (7, 7)
    assert seen["diffuse"][0] == seen["diffuse"][1]
    assert {"encode", "reference", "flow", "diffuse", "decode"} <= enhancer.seconds.keys()


def test_the_key_frame_asked_for_is_used(clip, bundle):
    enhancer = Enhancer(bundle, EnhanceConfig(scale=1.0, key_frame=5), "cpu")
    list(enhancer.run(clip))
    assert enhancer.keys == (5,)


def test_a_picture_of_a_named_frame_is_the_picture_of_that_key_frame(clip, bundle, picture):
    named = run(clip, bundle, {5: picture}, scale=2.0)
    assert torch.equal(named, run(clip, bundle, picture, scale=2.0, key_frame=5))


def test_of_two_references_each_governs_the_frames_nearest_to_its_own(clip, bundle, picture):
    other = picture.flip(-1)
    both = run(clip, bundle, {6: other, 0: picture}, scale=2.0, steadiness=0.0)
    first, last = (run(clip, bundle, one, scale=2.0, steadiness=0.0) for one in ({0: picture}, {6: other}))
    for frame, near, far in ((0, first, last), (6, last, first)):
        assert (both[frame] - near[frame]).abs().mean() < 0.1 * (both[frame] - far[frame]).abs().mean()
    assert not torch.allclose(both[3], first[3], atol=1e-3)
    assert not torch.allclose(both[3], last[3], atol=1e-3)


def test_several_references_at_strength_zero_are_exactly_none(clip, bundle, picture):
    none = run(clip, bundle, scale=2.0, reference_strength=0.0)
    assert torch.equal(none, run(clip, bundle, {1: picture, 5: -picture}, scale=2.0, reference_strength=0.0))


def test_several_references_do_not_depend_on_the_chunking(clip, bundle, picture):
    references = {1: picture, 5: picture.flip(-1)}
    whole = run(clip, bundle, references, scale=2.0, chunk=7)
    assert (whole - run(clip, bundle, references, scale=2.0, chunk=2)).abs().max() < 1e-4


def test_the_key_frames_of_several_references_and_their_notes_are_told(clip, bundle, picture):
    picture = picture[:, :57, :81]  # of the frames' aspect
    glass = torch.cat([picture, torch.ones(1, 57, 80)])
    glass[3, :28] = -1
    enhancer = Enhancer(bundle, EnhanceConfig(scale=1.0, align=False), "cpu")
    list(enhancer.run(clip, {6: glass, 2: picture}))
    assert enhancer.keys == (2, 6)
    assert enhancer.notes == ("49 % of the reference is transparent and not used",)
    list(enhancer.run(clip, picture))
    assert enhancer.notes == ()


@pytest.mark.parametrize(("frames", "config", "message"), [
    ((), {}, "empty mapping"), ((2, 7), {}, r"key frame must be in \[0, 6\] for a clip of 7 frames, got 7"),
    ((-1,), {}, "got -1"), (("2",), {}, "frame number: picture}, got the frame '2'"),
    ((2, 5), {"key_frame": 2}, r"key frame 2 was given beside references that name their frames \(2, 5\)"),
])
def test_references_of_impossible_frames_are_refused(clip, bundle, picture, frames, config, message):
    with pytest.raises(InputError, match=message):
        run(clip, bundle, dict.fromkeys(frames, picture), **config)


@pytest.mark.parametrize(("config", "message"), [
    ({"scale": 0.0}, "scale must be above 0"), ({"scale": 9.0}, "at most 8"), ({"size": (4, 100)}, "size must be 8"),
    ({"noise_level": 1000}, r"noise level must be in \[0, 999\], got 1000"), ({"noise_level": -1}, "noise level"),
    ({"reference_strength": 1.5}, "reference strength must be in"), ({"steps": 0}, "steps must be 1 or more"),
    ({"steadiness": 2.0}, "steadiness must be in"), ({"preclean": -0.1}, r"preclean must be in \[0, 1\], got -0.1"),
    ({"dehalo": 1.5}, r"dehalo must be in \[0, 1\], got 1.5"),
    ({"precision": "int8"}, "precision must be"), ({"key_frame": 7}, "7"), ({"steps": 1001}, "steps must be in"),
])
def test_settings_out_of_range_are_refused(clip, bundle, config, message):
    with pytest.raises(InputError, match=message):
        run(clip, bundle, **config)


@pytest.mark.parametrize(("video", "message"), [
    (torch.zeros(0, 3, 16, 16), "at least one frame"), (torch.zeros(2, 4, 16, 16), r"must be \(f, 3, h, w\)"),
    (torch.zeros(2, 3, 7, 16), "needs 8 px a side"), (torch.full((1, 3, 8, 8), math.nan), "NaN"),
])
def test_a_video_that_cannot_be_used_is_refused(bundle, video, message):
    with pytest.raises(InputError, match=message):
        run(video, bundle)


def test_an_unknown_device_is_refused(clip, bundle):
    with pytest.raises(InputError, match="device 'cuda:99' cannot be used here"):
        enhance(clip, bundle=bundle, device="cuda:99")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_clip_that_is_not_finite_is_refused(value):
    frames = torch.zeros(2, 3, 16, 24)
    frames[1, 0, 3, 5] = value
    with pytest.raises(InputError, match="video holds NaN or infinity"):
        enhance(frames)
