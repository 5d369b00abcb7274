import pytest
import torch
from media_clips import moving_pattern

from genve_core.bundle import load_bundle
from genve_core.diffuser.windows import WindowConfig, windows
from genve_core.pipeline import EnhanceConfig, Enhancer
from genve_core.segments import InMemory, segments

SMALL = WindowConfig(length=4, overlap=1)


@pytest.mark.parametrize("frames", [1, 4, 11, 12, 13, 29, 40])
@pytest.mark.parametrize("length", [1, 6, 9, 100])
@pytest.mark.parametrize("steps", [1, 3])
def test_segments_own_every_frame_once_and_see_whole_windows(frames, length, steps):
    spans = windows(frames, SMALL)
    found = segments(frames, SMALL, length=length, steps=steps, reach=2)
    assert [i for s in found for i in s.own] == list(range(frames))
    for s in found:
        assert s.seen.start <= max(0, s.own.start - 2) and s.seen.stop >= min(frames, s.own.stop + 2)
        # a run of windows cut out of the shot is cut into the same windows again
        inside = [w for w in spans if s.seen.start <= w.start and w.stop <= s.seen.stop]
        assert [range(w.start - s.seen.start, w.stop - s.seen.start) for w in inside] == windows(len(s.seen), SMALL)


def test_a_segment_sees_one_window_more_for_every_step():
    middle = [segments(60, SMALL, length=12, steps=steps, reach=1)[2].seen for steps in (1, 2, 3)]
    assert [m.start for m in middle] == [middle[0].start - 3 * i for i in range(3)]
    assert [m.stop for m in middle] == [middle[0].stop + 3 * i for i in range(3)]


def test_a_shot_not_much_longer_than_a_segment_is_one():
    assert len(segments(130, WindowConfig(), length=96, steps=1, reach=3)) == 1
    assert len(segments(200, WindowConfig(), length=96, steps=1, reach=3)) == 2


@pytest.mark.parametrize("frames, length", [(200, 96), (480, 96), (1000, 96), (1000, 24)])
def test_at_a_border_no_more_is_worked_on_twice_than_one_window(frames, length):
    found = segments(frames, WindowConfig(), length=length, steps=1, reach=3)
    assert len(found) > 1 and sum(len(s.seen) for s in found) == frames + (len(found) - 1) * 16


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def shot():
    return moving_pattern(23, 16, 24)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("keys", [(), (2, 20)])
def test_pieces_give_what_the_whole_gives(bundle, shot, steps, keys):
    """Key frames that lie in another segment included."""
    pictures = {key: torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(key)) * 2 - 1 for key in keys} or None
    results = []
    for length in (100, 5):
        config = EnhanceConfig(scale=2.0, steps=steps, window=SMALL, segment=length, precision="float32")
        enhancer = Enhancer(bundle, config, "cpu")
        assert (len(enhancer.segments(len(shot))) > 2) == (length == 5)
        results.append(torch.cat(list(enhancer.run(shot, pictures))))
    assert (results[0] - results[1]).abs().max() < 1e-4


class Counting(InMemory):
    """Frames that note what is asked for."""

    def read(self, span):
        asked.append(span)
        return super().read(span)


asked: list[range] = []


def test_no_more_than_a_segment_is_read_at_once(bundle, shot):
    enhancer = Enhancer(bundle, EnhanceConfig(scale=1.0, window=SMALL, segment=5, steps=1), "cpu")
    source = Counting(torch.cat([shot, shot.flip(0)] * 2))
    references = enhancer.references(source, {11: None})
    pieces = enhancer.segments(len(source))
    asked.clear()
    frames = [frame for piece in pieces for frame in enhancer.run_segment(source, piece, references)]
    assert len(frames) == 92 and max(map(len, asked)) < 40
    assert [span.start for span in asked] == sorted(span.start for span in asked)


def test_statistics_over_the_shot_keep_it_in_one_piece(bundle):
    from genve_core.media import ColourConfig

    config = EnhanceConfig(window=SMALL, segment=5, colour=ColourConfig("adain"))
    assert len(Enhancer(bundle, config, "cpu").segments(100)) == 1
