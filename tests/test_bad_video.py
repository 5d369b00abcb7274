"""Videos and surroundings that are broken or odd, given to the command line: one clear line, and nothing lost.

GENVE_FUZZ sets how many generated inputs are tried (default 12).
"""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_clips import smooth_video, to_bytes, write_clip

from genve_core.cli import main
from genve_core.film import FilmRun
from genve_core.job import Job, find_jobs, job_folder
from genve_core.media import VideoReader

FRAMES, H, W = 12, 16, 24
CODECS = {"mkv": ("ffv1", "bgr0"), "mp4": ("libx264", "yuv420p"), "avi": ("mjpeg", "yuvj420p"), "mov": ("png", "rgb24"),
          "h264": ("libx264", "yuv420p"), "webm": ("libvpx-vp9", "yuv420p")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """One small clip of each kind."""
    folder = tmp_path_factory.mktemp("clips")
    pictures = list(to_bytes(smooth_video(FRAMES, H, W)))
    return {kind: write_clip(folder / f"a.{kind}", pictures, codec=codec, pixel_format=pixels,
                             options={"g": "4"} if codec == "libx264" else None)
            for kind, (codec, pixels) in CODECS.items()}


@pytest.fixture
def genve(tiny_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(name, *extra, out="out.mkv"):
        code = main(["enhance", name, "-o", out, "--scale", "1", "--device", "cpu", "--bundle", str(tiny_bundle), *extra])
        return code, capsys.readouterr().err.splitlines()

    return run


def frames_of(path):
    with VideoReader(path) as video:
        return [frame.rgb for frame in video]


SEGMENTS = ("--lossless", "--one-shot", "--segment", "4", "--steps", "1")


@pytest.fixture
def long(tmp_path):
    return write_clip(tmp_path / "long.mkv", list(to_bytes(smooth_video(40, H, W))), pixel_format="bgr0")


def test_of_a_video_cut_in_mid_stream_the_frames_before_are_kept_and_the_place_is_named(genve, long):
    whole = long.read_bytes()
    Path("cut.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    code, err = genve("cut.mkv", "--lossless")
    kept = len(frames_of("out.mkv"))
    assert code == 0 and 13 < kept < 30 and kept == len(frames_of("cut.mkv"))
    assert [line for line in err if re.match(r"note: cut\.mkv.*(ends at|to|near) \d\.\d\d s", line)], err


def test_a_stream_without_duration_or_times_keeps_every_frame(genve, clips):
    shutil.copy(clips["h264"], "raw.h264")
    assert genve("raw.h264", "--lossless")[0] == 0
    assert len(frames_of("out.mkv")) == FRAMES


@pytest.mark.parametrize("kind", ["mkv", "mp4", "webm"])
def test_a_title_that_is_not_utf_8_is_no_reason_to_refuse_a_video(genve, clips, kind):
    # an "é" of Latin-1 in the tags that muxer and encoder left
    Path(f"old.{kind}").write_bytes(clips[kind].read_bytes().replace(b"Lav", b"\xe9av"))
    assert genve(f"old.{kind}", "--lossless")[0] == 0
    assert len(frames_of("out.mkv")) == FRAMES


def test_fewer_frames_than_announced_are_told(genve, clips):
    data = bytearray(clips["mp4"].read_bytes())
    at = data.index(b"mdat")
    start, stop = at + 4 + (len(data) - at) // 3, data.index(b"moov") - 4
    data[start:stop] = bytes(stop - start)
    Path("less.mp4").write_bytes(data)
    code, err = genve("less.mp4", "--lossless")
    assert code == 0 and 0 < len(frames_of("out.mkv")) <= FRAMES
    assert [line for line in err if line.startswith("note: less.mp4")], err


def test_a_change_of_size_names_the_frame_and_leaves_nothing(genve, tmp_path):
    one, two = (write_clip(tmp_path / f"{w}.h264", list(to_bytes(smooth_video(4, 16, w))), codec="libx264",
                           pixel_format="yuv420p") for w in (32, 48))
    Path("both.h264").write_bytes(one.read_bytes() + two.read_bytes())
    one.unlink(), two.unlink()
    code, err = genve("both.h264")
    assert code == 2
    assert re.search(r"both\.h264 changes its size from 32x16 to 48x16 px on the way, at frame 4;", err[-1]), err
    assert os.listdir() == ["both.h264"]


def test_an_output_folder_removed_on_the_way_is_one_line(genve, long, monkeypatch):
    Path("there").mkdir()
    made = FilmRun.piece

    def removing(self, piece, report):
        if piece.segment.own.start:
            shutil.rmtree("there", ignore_errors=True)
        yield from made(self, piece, report)

    monkeypatch.setattr(FilmRun, "piece", removing)
    code, err = genve("long.mkv", *SEGMENTS, out="there/out.mkv")
    assert code == 1 and "there" in err[-1] and "was removed" in err[-1], err
    assert "Traceback" not in "".join(err) and long.exists()


def test_a_full_disk_late_in_the_run_keeps_the_pieces_and_goes_on(genve, long, tmp_path, monkeypatch):
    assert genve("long.mkv", *SEGMENTS, out="whole.mkv")[0] == 0
    resource = pytest.importorskip("resource")
    kept = Job.keep

    def filling(self, piece, frames):
        if piece == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
        kept(self, piece, frames)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        patch.setattr(Job, "keep", filling)
        try:
            code, err = genve("long.mkv", *SEGMENTS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "no space left for 00002.mkv" in err[-1] and "the same command goes on" in err[-1], err
    assert find_jobs(tmp_path)[0].finished == 2
    assert genve("long.mkv", *SEGMENTS)[0] == 0
    assert Path("out.mkv").read_bytes() == Path("whole.mkv").read_bytes()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": "0.0", "made_with": 3, "pieces": "many"}', "\x00\xff"])
def test_a_job_file_by_hand_or_of_another_version_is_begun_anew(genve, long, tmp_path, text):
    folder = job_folder(tmp_path / "out.mkv")
    folder.mkdir()
    (folder / "job.json").write_text(text)
    (folder / "00000.mkv").write_bytes(b"nothing")
    assert main(["jobs", str(tmp_path)]) == 0
    code, err = genve("long.mkv", *SEGMENTS)
    assert code == 0 and [line for line in err if line.endswith("begun anew")], err
    assert len(frames_of("out.mkv")) == 40


@settings(max_examples=int(os.environ.get("GENVE_FUZZ", "12")), deadline=None, derandomize="GENVE_FUZZ" not in os.environ,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(kind=st.sampled_from(sorted(CODECS)), keep=st.floats(0.02, 1), data=st.data())
def test_no_broken_video_ends_in_a_traceback_or_a_lost_output(genve, clips, kind, keep, data):
    whole = clips[kind].read_bytes()
    broken = bytearray(whole[: max(1, round(len(whole) * keep))])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255)), max_size=8)):
        broken[at] = value
    options = data.draw(st.sampled_from([(), ("--frames", "3"), ("--one-shot",), ("--segment", "4"), ("--key-frame", "2")]))
    source, old = Path(f"in.{kind}"), b"yesterday's"
    source.write_bytes(broken)
    Path("out.mkv").write_bytes(old)
    code, err = genve(source.name, "--overwrite", "--lossless", *options)
    ours = [line for line in err if line.startswith("genve enhance: ")]
    assert "Traceback" not in "\n".join(err)
    if code == 0:
        frames = frames_of("out.mkv")
        assert not ours and frames and all(torch.isfinite(frame).all() for frame in frames)
    else:
        assert code == 2 and len(ours) == 1 and ours[0].startswith("genve enhance: error: "), err
        assert Path("out.mkv").read_bytes() == old
    assert source.read_bytes() == broken
    left = {name for name in os.listdir() if name.startswith(".")} - {f".out.mkv{'.genve-job'}"}
    assert not left
