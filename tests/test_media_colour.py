import pytest
import torch
from media_clips import smooth_video

from genve_core.media import ColourConfig, ColourMatch, colour
from genve_core.media.colour import ClipStatistics, chroma, low_pass


def clip(frames=6, h=45, w=61):
    """Soft colours with sharp detail on top, within the range that a cast does not clip."""
    detail = torch.randn(frames, 3, h, w, generator=torch.Generator().manual_seed(1)) * 0.05
    return smooth_video(frames, h, w) * 0.4 + detail


CAST = torch.tensor([0.2, -0.1, 0.05]).view(1, 3, 1, 1)


@pytest.mark.parametrize("sigma", [1 / 64, 1 / 16, 0.5])
def test_low_removes_a_constant_cast(sigma):
    video = clip()
    fixed = ColourMatch(ColourConfig("low", sigma, tolerance=0)).apply(video + CAST, video)
    assert (fixed - video).abs().max() < 1 / 255


def test_what_a_codec_does_to_colours_is_not_taken_over_from_the_input():
    video, level = clip(), 1 / 127.5
    for shift, left in ((1.5, 1.5), (-1.5, -1.5), (2.0, 2.0), (9.0, 2.0), (-30.0, -2.0)):
        fixed = ColourMatch().apply(video + shift * level, video)
        assert (fixed - video - left * level).abs().max() < 1e-4


def test_adain_removes_a_constant_cast_and_a_gain():
    video = clip()
    match = ColourMatch(ColourConfig("adain"))
    for part in (slice(0, 1), slice(1, 6)):
        match.observe(video[part] * 0.7 + CAST, video[part])
    fixed = torch.cat(
        [match.apply(video[part] * 0.7 + CAST, video[part]) for part in (slice(0, 2), slice(2, 6))]
    )
    assert match.needs_first_pass and (fixed - video).abs().max() < 1 / 255


def test_adain_does_not_follow_single_frames():
    """A frame that alone differs from its input is not pulled to it: that would flicker."""
    video = clip()
    result = video.clone()
    result[2] += 0.1
    match = ColourMatch(ColourConfig("adain"))
    match.observe(result, video)
    change = (match.apply(result, video) - result).mean(dim=(1, 2, 3))
    assert change.max() - change.min() < 0.02


@pytest.mark.parametrize("method", ["low", "adain", "none"])
def test_equal_clips_stay_as_they_are(method):
    video = clip()
    match = ColourMatch(ColourConfig(method))
    match.observe(video, video)
    assert (match.apply(video, video) - video).abs().max() < 1e-5


def test_low_keeps_sharp_detail_and_takes_slow_colour_from_the_input():
    h = w = 96
    slow = torch.linspace(-0.4, 0.4, w).expand(1, 3, h, w)
    detail = 0.2 * ((torch.arange(w) % 4 < 2).float() - 0.5).expand(1, 3, h, w)
    fixed = ColourMatch(ColourConfig(tolerance=0)).apply(detail - slow, slow)
    inner = fixed[..., 24:-24, 24:-24]
    assert (inner - (slow + detail)[..., 24:-24, 24:-24]).abs().max() < 0.01


@pytest.mark.parametrize("tint", [(0, 0, 0), (0.1, 0, -0.1)])
def test_low_keeps_a_grey_or_tinted_clip_free_of_fringes(tint):
    grey = clip()[:, :1].expand(-1, 3, -1, -1) * 0.5 + torch.tensor(tint).view(1, 3, 1, 1)
    invented = grey + 0.1 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(1))
    result = ColourMatch().apply(invented, grey)
    assert (chroma(result) - chroma(grey)).abs().max() < 1e-5
    assert (result.mean(1) - grey.mean(1)).std() > 0.05  # the detail in brightness stays


def test_low_leaves_the_detail_of_a_clip_in_colour_as_it_is(monkeypatch):
    inputs, result = clip(), clip() + 0.1 * torch.randn(clip().shape, generator=torch.Generator().manual_seed(1))
    matched = ColourMatch().apply(result, inputs)
    monkeypatch.setattr(colour, "COLOURFUL", 1e-9)
    assert torch.equal(matched, ColourMatch().apply(result, inputs))


def test_chunks_do_not_change_the_result():
    video = clip()
    match = ColourMatch()
    whole = match.apply(video + CAST, video)
    parts = torch.cat([match.apply(video[i : i + 1] + CAST, video[i : i + 1]) for i in range(6)])
    assert torch.equal(whole, parts)
    statistics = ClipStatistics()
    for i in range(6):
        statistics.add(video[i : i + 1])
    assert torch.allclose(statistics.mean, video.double().mean(dim=(0, 2, 3)))
    assert torch.allclose(statistics.deviation, video.double().std(dim=(0, 2, 3), correction=0))


def test_strength_none_and_type():
    video = clip()
    assert torch.equal(ColourMatch(ColourConfig("none")).apply(video + CAST, video), video + CAST)
    assert torch.equal(ColourMatch().apply(video + CAST, video, strength=0), video + CAST)
    half = ColourMatch(ColourConfig(tolerance=0)).apply(video + CAST, video, strength=0.5)
    assert (half - video - CAST / 2).abs().max() < 1e-5
    assert ColourMatch().apply(video.half(), video.half()).dtype == torch.float16


@pytest.mark.parametrize("h, w", [(1, 1), (3, 5), (37, 201), (300, 211)])
def test_low_pass_keeps_constants_and_the_fast_way_is_close_to_the_exact_one(h, w):
    assert torch.allclose(
        low_pass(torch.full((1, 3, h, w), 0.3), 1 / 8), torch.full((1, 3, h, w), 0.3), atol=1e-6
    )
    if min(h, w) > 100:
        from genve_core.media.colour import gaussian

        x = torch.nn.functional.interpolate(clip(1, 9, 7), size=(h, w), mode="bicubic")
        assert (low_pass(x, 1 / 16) - gaussian(x, min(h, w) / 16)).abs().max() < 2 / 255  # of [-1, 1]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"colour method must be low, adain or none, got 'lab'"):
        ColourConfig("lab")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sigma must be in \(0, 1\] of the shorter side, got 0"):
        ColourConfig(sigma=0)
    with pytest.raises(ValueError, match="tolerance must be 0 grey levels or more, got -1"):
        ColourConfig(tolerance=-1)
    with pytest.raises(ValueError, match=r"upsampled must be \(1, 3, 4, 5\) like result, got \(1, 3, 4, 6\)"):
        ColourMatch().apply(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 4, 6))
    with pytest.raises(ValueError, match=r"nothing was observed; call observe\(\) first"):
        ColourMatch(ColourConfig("adain")).apply(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 4, 5))
