"""Several inputs of `genve enhance`."""

import contextlib
import shutil
import signal
from pathlib import Path

import pytest
from media_clips import smooth_video, to_bytes, write_clip
from PIL import Image

from genve_core import cli_enhance
from genve_core.cli import main
from genve_core.cli_files import plan
from genve_core.errors import InputError
from genve_core.media import VideoReader


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """old/: three videos and a text; pictures/: three images; both/: two images and a video."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "pictures", "both", "empty"):
        (tmp_path / name).mkdir()
    first = write_clip(tmp_path / "old" / "a.mkv", list(to_bytes(smooth_video(3, 16, 24))), pixel_format="bgr0")
    for name in ("b.MP4", "c.avi", ".d.mkv", "notes.txt"):
        shutil.copyfile(first, tmp_path / "old" / name)
    shutil.copyfile(first, tmp_path / "both" / "film.mkv")
    for i in range(3):
        Image.fromarray(to_bytes(smooth_video(1, 16, 24, seed=i))[0]).save(tmp_path / "pictures" / f"{i}.png")
        shutil.copyfile(tmp_path / "pictures" / f"{i}.png", tmp_path / "both" / f"{i}.png")
    return tmp_path


def pairs(*arguments, **options):
    made = plan(*arguments, **options)
    return [(str(path), output) for path, output in made.pairs], made.several


def joined(*parts):
    return str(Path(*parts))


def test_one_file_or_folder_of_images_is_as_ever(folder):
    assert pairs(["old/a.mkv"], "x.mp4") == ([(joined("old/a.mkv"), "x.mp4")], False)
    assert pairs(["old/a.mkv"], "x/") == ([(joined("old/a.mkv"), "x/")], False)
    assert pairs(["pictures"], "x") == ([("pictures", "x")], False)
    assert pairs(["missing.mp4"], "x.mp4") == ([("missing.mp4", "x.mp4")], False)
    assert pairs(["empty"], "x") == ([("empty", "x")], False)


def test_a_folder_of_videos_a_pattern_and_several_inputs_go_into_a_folder(folder):
    videos = [(joined("old", a), joined("new", b)) for a, b in (("a.mkv", "a.mkv"), ("b.MP4", "b.mp4"), ("c.avi", "c.mp4"))]
    assert pairs(["old"], "new") == (videos, True)
    assert pairs(["old/*.mkv"], "new") == (videos[:1], True)
    assert pairs(["o*/[bc].*"], "new") == (videos[1:], True)
    assert pairs(["**/c.avi", "old/c.avi", "pictures"], "new") == ([videos[2], ("pictures", joined("new", "pictures"))], True)
    assert pairs(["old/a.mkv"], "new", "webm") == ([(joined("old/a.mkv"), joined("new/a.webm"))], True)
    assert pairs(["old/a.mkv"], "new", "png") == ([(joined("old/a.mkv"), joined("new/a"))], True)
    assert {output for _, output in pairs(["old", "pictures"], "new", lossless=True)[0]} == {
        joined("new", name) for name in ("a.mkv", "b.mkv", "c.mkv", "pictures.mkv")}


def test_a_file_named_like_a_pattern_is_that_file(folder):
    shutil.copyfile("old/a.mkv", "film [1].mkv")
    assert pairs(["film [1].mkv"], "x.mp4") == ([("film [1].mkv", "x.mp4")], False)


def test_a_folder_of_both_is_its_images_as_ever_and_a_note_says_so(folder):
    made = plan(["both"], "x")
    assert made.pairs == [(Path("both"), "x")] and not made.several
    assert made.notes == [f"both holds images and is taken for their sequence; its 1 videos are left out "
                          f"(give {joined('both', '*')}.mkv for them)"]


@pytest.mark.parametrize(
    "inputs, output, options, said",
    [
        (["old/*.webm"], "new", {}, r"no file matches old/\*\.webm; give videos, folders of videos, or patterns"),
        (["old"], "new.mp4", {}, r"-o must be a folder for 3 inputs, got new\.mp4"),
        (["old"], "old/notes.txt", {}, r"-o must be a folder for 3 inputs, got old/notes\.txt"),
        (["old"], "new", {"form": "mp4", "lossless": True}, r"--lossless is written as mkv, got --format mp4; leave one"),
        (["old"], "old", {}, r"the output of .*a\.mkv would be the input .*a\.mkv; give another folder with -o"),
        (["old/a.mkv", "both/*.mkv", "other/A.mkv"], "new", {}, r"a\.mkv and .*A\.mkv would both be written to .*A\.mkv"),
    ],
)
def test_impossible_plans_are_refused(folder, inputs, output, options, said):
    with pytest.raises(InputError, match=said):
        plan(inputs, output, **options)


@pytest.fixture
def genve(folder, tiny_bundle, capsys):
    def run(*arguments):
        code = main(["enhance", *arguments, "--scale", "2", "--bundle", str(tiny_bundle), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def test_one_that_fails_is_told_and_the_rest_go_on_and_a_second_run_makes_only_what_is_missing(genve, monkeypatch):
    loaded = []
    load = cli_enhance.load_bundle
    monkeypatch.setattr(cli_enhance, "load_bundle", lambda name: loaded.append(name) or load(name))
    Path("old/b.MP4").write_bytes(b"no video")
    code, out, err = genve("old", "pictures", "-o", "far/new")
    assert code == 1 and len(loaded) == 1
    assert [line.split(": ")[0] for line in out] == [joined("far/new", name) for name in ("a.mkv", "c.mp4", "pictures")]
    (failed,) = [line for line in err if "error" in line]
    assert failed.startswith(f"2/4 b.MP4: error: {joined('old', 'b.MP4')} is not a video that can be read")
    assert err[-1] == "genve enhance: 3 of 4 files enhanced, 1 failed, the same command tries them again"
    assert "3/4 c.avi: decode: 3 frames in " in "\n".join(err)
    assert sorted(path.name for path in Path("far/new").iterdir()) == ["a.mkv", "c.mp4", "pictures"]
    with VideoReader("far/new/pictures") as video:
        assert sum(1 for _ in video) == 3
    before = Path("far/new/a.mkv").stat().st_mtime_ns
    shutil.copyfile("old/a.mkv", "old/b.MP4")
    code, out, err = genve("old", "pictures", "-o", "far/new")
    assert code == 0 and len(out) == 1 and out[0].startswith(joined("far/new", "b.mp4"))
    assert err[-1] == ("genve enhance: 1 of 4 files enhanced, 3 finished before and left as they are "
                       "(--overwrite makes them anew)")
    assert Path("far/new/a.mkv").stat().st_mtime_ns == before


@pytest.mark.parametrize("comes_out_as", [KeyboardInterrupt, ValueError])
def test_ctrl_c_ends_all_files(genve, monkeypatch, comes_out_as):
    def stop(*_):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise comes_out_as

    monkeypatch.setattr(cli_enhance, "scan", stop)
    code, out, err = genve("old", "-o", "new")
    assert (code, out) == (130, [])
    assert err[-1] == "genve enhance: stopped by Ctrl-C; finished outputs are kept, the same command goes on"
    assert not list(Path("new").iterdir())


@pytest.mark.parametrize(
    "options, said",
    [
        (("--noise-level", "1000"), "noise level must be in [0, 999], got 1000"),
        (("--creativity", "2"), "creativity must be in [0, 1], got 2.0"),
        (("--creativity", "0.5"), "this bundle has no measured curve of its noise level that rises; give the noise level "
                                  "itself, or measure it with `genve study noise --write-dial`"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_options_is_told_once(genve, options, said):
    code, _, err = genve("old", "-o", "new", *options)
    assert code == 2 and err == [f"genve enhance: error: {said}"]
    assert not Path("new").exists()
