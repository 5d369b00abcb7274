import itertools

import pytest
import torch

from genve_core.diffuser.windows import WindowConfig, frame_noise, fuse, window_weights, windows
from genve_core.errors import InputError

LENGTHS = [1, 2, 15, 16, 17, 18, 28, 29, 40, 41, 100]


def random_parts(spans):  # (b, f, c, h, w) each
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((2, len(span), 3, 5, 4), generator=generator) for span in spans]


def test_windows_by_hand():
    assert windows(28) == [range(0, 16), range(12, 28)]
    assert windows(29) == [range(0, 16), range(12, 28), range(13, 29)]
    assert windows(5, WindowConfig(length=3, overlap=0)) == [range(0, 3), range(2, 5)]
    assert windows(1) == [range(1)]


@pytest.mark.parametrize(
    "config", [WindowConfig(), WindowConfig(5, 2), WindowConfig(1, 0), WindowConfig(8, 7)]
)
@pytest.mark.parametrize("frames", LENGTHS)
def test_windows_cover_every_frame_at_full_length_and_can_be_cross_faded(frames, config):
    spans = windows(frames, config)
    assert {i for span in spans for i in span} == set(range(frames))
    assert {len(span) for span in spans} == {min(frames, config.length)}
    for left, right in itertools.pairwise(spans):
        assert left.start < right.start, f"{right} does not advance past {left}"
        assert left.stop - right.start >= config.overlap, f"{left} and {right} overlap too little"


@pytest.mark.parametrize("frames", LENGTHS)
def test_weights_are_positive_and_sum_to_one_at_every_frame(frames):
    spans = windows(frames)
    total = torch.zeros(frames)
    for span, weight in zip(spans, window_weights(spans), strict=True):
        assert weight.shape == (len(span),) and (weight > 0).all()
        total[span.start : span.stop] += weight
    torch.testing.assert_close(total, torch.ones(frames))


def test_weights_fade_across_an_overlap():
    first, second = window_weights(windows(28))
    torch.testing.assert_close(first[-5:], torch.tensor([1, 0.8, 0.6, 0.4, 0.2]))
    torch.testing.assert_close(second[:5], torch.tensor([0.2, 0.4, 0.6, 0.8, 1]))


@pytest.mark.parametrize("frames", LENGTHS)
def test_pieces_of_one_clip_fuse_to_that_clip(frames):
    clip = torch.randn((2, frames, 3, 5, 4), generator=torch.Generator().manual_seed(frames))
    spans = windows(frames)
    parts = [clip[:, span.start : span.stop] for span in spans]
    torch.testing.assert_close(fuse(parts, spans, window_weights(spans), frames), clip)


def test_a_single_window_is_passed_on_bit_for_bit():
    spans = windows(7)
    (part,) = random_parts(spans)
    assert torch.equal(fuse([part], spans, window_weights(spans), 7), part)


def test_fusion_is_the_weighted_mean_and_keeps_the_dtype():
    spans = windows(28)
    low, high = (torch.full((1, 16, 2, 3, 1), value, dtype=torch.bfloat16) for value in (0.0, 10.0))
    fused = fuse([low, high], spans, window_weights(spans), 28)
    assert fused.dtype == torch.bfloat16
    torch.testing.assert_close(fused[0, 11:17, 0, 0, 0].float(), torch.tensor([0.0, 2, 4, 6, 8, 10]))


def test_parts_that_do_not_fit_are_refused():
    spans = windows(20)
    weights, parts = window_weights(spans), random_parts(spans)
    with pytest.raises(ValueError, match=r"must hold frames 0 to 20, got"):
        fuse(parts, spans, weights, 21)
    with pytest.raises(ValueError, match=r"must hold frames 0 to 19, got \[range\(4, 20\)\]"):
        fuse(parts[1:], spans[1:], weights[1:], 20)
    with pytest.raises(ValueError, match=r"window range\(4, 20\) must have 16 frames, got 15"):
        fuse([parts[0], parts[1][:, :15]], spans, weights, 20)


def test_a_frames_noise_does_not_depend_on_how_frames_are_asked_for():
    whole = frame_noise((3, 5, 7), range(40), seed=11, stream="start")
    for span in windows(40):
        assert torch.equal(frame_noise((3, 5, 7), span, 11, "start"), whole[span.start : span.stop])


def test_noise_differs_by_frame_seed_and_stream_and_is_gaussian():
    base = frame_noise((4, 32, 33), range(3), seed=1, stream="start")
    others = [
        base[1],
        *frame_noise((4, 32, 33), range(1), 2, "start"),
        *frame_noise((4, 32, 33), range(1), 1, "y"),
    ]
    for other in others:
        correlation = (base[0] * other).mean()
        assert abs(correlation) < 0.06, f"two noises that should be independent correlate by {correlation}"
    assert abs(base.mean()) < 0.03 and abs(base.std() - 1) < 0.03


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    frame_noise((2, 3), range(4), 0, "start")
    assert torch.equal(torch.rand(3), wanted)


def test_wrong_lengths_are_refused():
    with pytest.raises(InputError, match="at least 1 frame, got 0"):
        windows(0)
    for length, overlap in [(4, 4), (0, 0), (4, -1)]:
        with pytest.raises(InputError, match=f"0 <= overlap < window length, got {overlap} and {length}"):
            WindowConfig(length, overlap)
