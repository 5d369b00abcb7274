"""--preview: finished frames can be watched while the rest is made; the output does not know of it."""

from fractions import Fraction

import av
import pytest
import torch
from media_clips import write_clip

from genve_core import preview as module
from genve_core.cli import main
from genve_core.cli_progress import TimeLeft, duration
from genve_core.errors import InputError
from genve_core.film import FilmRun
from genve_core.media import probe
from genve_core.media.pixels import to_rgb
from genve_core.preview import Preview, preview_path


def frames(count, h=24, w=32):
    ys, xs = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    return torch.stack([torch.stack([torch.sin((xs - i) / 4), torch.cos(ys / 5), torch.full_like(xs, i / count)])
                        for i in range(count)]) * 0.8


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    pixels = ((frames(40) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return write_clip(tmp_path_factory.mktemp("preview") / "clip.mkv", list(pixels), pixel_format="bgr0")


def seen(path):
    """What a player finds in the file as it is now, (3, h, w); it goes by the colour matrix that the file names.

    PyAV's own conversion is of no use: up to 14.2 at least it takes BT.601 whatever is named.
    """
    with av.open(str(path)) as container:
        return [(frame.time, to_rgb(frame, probe(path).colour, alpha=False)[0]) for frame in container.decode(video=0)]


def test_a_growing_file_opens_and_shows_what_was_made_but_for_the_last_second(video, tmp_path):
    info, clip = probe(video), torch.nn.functional.interpolate(frames(30), size=(900, 1200), mode="bilinear")
    with Preview(tmp_path / "out.mkv", info, (900, 1200)) as preview:
        assert preview.path == tmp_path / "out.preview.mp4"
        for i, frame in enumerate(clip[:-1]):
            preview.write(frame, i / info.rate)
        shown = seen(preview.path)
        assert 20 <= len(shown) <= 29
        for i, (time, picture) in enumerate(shown):
            assert picture.shape == (3, 480, 640) and abs(time - float(i / info.rate)) < 1e-3
            wanted = torch.nn.functional.interpolate(clip[i : i + 1], size=(480, 640), mode="area")[0]
            assert (picture - wanted).abs().mean() < 0.03
    assert list(tmp_path.iterdir()) == [] and preview.note == ""


def test_another_file_of_that_name_is_refused_and_an_old_preview_replaced(video, tmp_path):
    path = preview_path(tmp_path / "out.mp4")
    path.write_bytes(video.read_bytes())
    with pytest.raises(InputError, match=r"out\.preview\.mp4 is no preview of ours, .*move it, or leave --preview out"):
        Preview(tmp_path / "out.mp4", probe(video), (24, 32))
    path.unlink()
    kept = Preview(tmp_path / "out.mp4", probe(video), (24, 32))
    kept.__enter__()  # and the process is killed
    for i in range(60):
        kept.write(frames(1)[0], Fraction(i, 25))
    with Preview(tmp_path / "out.mp4", probe(video), (24, 32)):
        pass
    assert not path.exists()


def test_a_preview_that_cannot_be_written_stops_nothing_and_says_so(video, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with Preview(tmp_path / "out.mp4", probe(video), (24, 32)) as preview:
        monkeypatch.setattr(module, "to_yuv_frame", full)
        for i in range(3):
            preview.write(frames(1)[0], Fraction(i, 25))
    assert "out.preview.mp4 is left out from here on: [Errno 28] No space" in preview.note


def test_the_output_does_not_know_of_a_preview_which_a_resumed_run_fills_again(video, tiny_bundle, tmp_path, capsys,
                                                                               monkeypatch):
    def enhance(name, *more):
        return main(["enhance", str(video), "-o", str(tmp_path / name), "--scale", "1", "--bundle", str(tiny_bundle),
                     "--lossless", "--segment", "12", "--window", "6", *more])

    assert enhance("plain.mkv") == 0
    kept, at_start = FilmRun.piece, {}

    def watched(self, piece, report):
        number = piece.segment.own.start
        if number and preview_path(tmp_path / "watched.mkv").exists():
            at_start[number] = len(seen(preview_path(tmp_path / "watched.mkv")))
        yield from kept(self, piece, report)
        if stop:
            raise KeyboardInterrupt

    stop = [True]
    monkeypatch.setattr(FilmRun, "piece", watched)
    assert enhance("watched.mkv", "--preview") == 130
    assert not preview_path(tmp_path / "watched.mkv").exists()
    stop.clear()
    assert enhance("watched.mkv", "--preview") == 0
    said = capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.mkv", "watched.mkv"]
    assert (tmp_path / "plain.mkv").read_bytes() == (tmp_path / "watched.mkv").read_bytes()
    assert max(at_start.values()) >= 20  # of the 28 frames before the last piece
    assert " s left" in said


def test_time_left_goes_by_the_frames_made_in_this_run(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("genve_core.cli_progress.time.perf_counter", lambda: clock[0])
    left = TimeLeft([100, 10, 20, 30])
    assert left.at(1) == ""
    clock[0] = 20.0
    assert left.at(2) == "about 2 min left"
    clock[0] = 60.0
    assert left.at(3) == "about 60 s left"
    assert [duration(x) for x in (40, 89, 95, 7100, 12000)] == ["40 s", "89 s", "2 min", "118 min", "3 h 20 min"]
