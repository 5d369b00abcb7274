"""The command line: what it makes, and that every mistake is one line, the right exit code and no output."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from media_clips import LOSSLESS, combing, moving_bars, packets, smooth_video, to_bytes, write_clip
from PIL import Image

from genve_core import cli_enhance
from genve_core.bundle import save_dial
from genve_core.cli import main
from genve_core.cli_progress import Progress
from genve_core.media import VideoReader

FRAMES, H, W = 5, 16, 26
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path):
    """A folder with clip.mkv: 5 uneven frames of 26x16 px, lossless, with sound."""
    times = [0, 40, 80, 160, 200]
    write_clip(tmp_path / "clip.mkv", list(to_bytes(smooth_video(FRAMES, H, W))), pixel_format="bgr0", times=times,
               time_base=Fraction(1, 1000), sound="flac")  # fmt: skip
    return tmp_path


@pytest.fixture
def genve(capsys, monkeypatch, folder, tiny_bundle):
    """Run the command line in `folder`: (exit code, lines of stdout, lines of stderr)."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        if arguments[0] == "enhance" and "--bundle" not in arguments:
            arguments = (*arguments, "--bundle", str(tiny_bundle))
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse's own
            code = end.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None for f in folder.rglob("*")}


def frames_of(path: Path) -> torch.Tensor:
    with VideoReader(path) as video:
        return torch.stack([frame.rgb for frame in video])


def test_enhance_keeps_frame_count_times_and_sound_and_gives_the_exact_size(genve, folder):
    code, out, err = genve("enhance", "clip.mkv", "-o", "out.mkv", "--size", "61x43", "--key-frame", "1")
    assert code == 0
    with VideoReader(folder / "clip.mkv") as before, VideoReader(folder / "out.mkv") as after:
        assert [f.time for f in after] == [f.time for f in before]
        assert (after.info.width, after.info.height) == (61, 43)
    assert packets(folder / "out.mkv", "audio") == packets(folder / "clip.mkv", "audio")
    assert len(out) == 1
    closing = r"out\.mkv: 5 frames, 61x43 px, key frame 1, \d+\.\d\d s per frame, peak memory .+"
    assert re.fullmatch(closing, out[0])
    stages = [line.split(":")[0] for line in err if " frames in " in line]
    assert stages == ["look", "encode", "flow", "diffuse", "decode"]
    assert [line for line in err if "odd" in line] == ["note: " + line[6:] for line in err if "odd" in line] != []


def test_same_seed_same_bytes_and_another_seed_or_reference_other_frames(genve, folder):
    Image.fromarray(to_bytes(smooth_video(1, 50, 40, seed=7))[0]).save(folder / "good.png")
    common = ("enhance", "clip.mkv", "--scale", "2", "--frames", "2", "--lossless", "-o")
    for name, extra in {"a": (), "b": (), "c": ("--seed", "1"), "d": ("--reference", "good.png")}.items():
        assert genve(*common, f"{name}.mkv", *extra)[0] == 0
    a, b, c, d = (frames_of(folder / f"{name}.mkv") for name in "abcd")
    assert a.shape == (2, 3, 2 * H, 2 * W)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a, d)


def test_creativity_is_the_noise_level_by_the_bundles_curve(genve, folder, tiny_bundle):
    shutil.copytree(tiny_bundle, folder / "measured")
    save_dial(folder / "measured", [{"n": 0, "creativity": 0.0}, {"n": 400, "creativity": 1.0}])
    common = ("enhance", "clip.mkv", "--frames", "2", "--lossless", "--bundle", "measured", "-o")
    for name, dial in {"a": ("--creativity", "0.25"), "b": ("--noise-level", "100"), "c": ("--noise-level", "300")}.items():
        assert genve(*common, f"{name}.mkv", *dial)[0] == 0
    a, b, c = (frames_of(folder / f"{name}.mkv") for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_several_references_each_with_its_frame(genve, folder):
    for name, seed in (("a.png", 7), ("b@2.png", 8)):
        Image.fromarray(to_bytes(smooth_video(1, 50, 40, seed=seed))[0]).save(folder / name)
    common = ("enhance", "clip.mkv", "--scale", "2", "--lossless", "-o")
    code, out, _ = genve(*common, "both.mkv", "--reference", "b@2.png@4", "--reference", "a.png@0")
    assert code == 0
    assert out[0].startswith("both.mkv: 5 frames, 52x32 px, key frames 0, 4, ")
    code, out, _ = genve(*common, "a.mkv", "--reference", "a.png@0")
    assert code == 0
    assert out[0].startswith("a.mkv: 5 frames, 52x32 px, key frame 0, ")
    assert genve(*common, "same.mkv", "--reference", "a.png", "--key-frame", "0")[0] == 0
    assert genve(*common, "b.mkv", "--reference", "b@2.png", "--key-frame", "4")[0] == 0
    both, a, same, b = (frames_of(folder / f"{name}.mkv") for name in ("both", "a", "same", "b"))
    assert torch.equal(a, same)
    assert (both[0] - a[0]).abs().mean() < (both[0] - b[0]).abs().mean()
    assert (both[4] - b[4]).abs().mean() < (both[4] - a[4]).abs().mean()


def test_a_wrong_reference_is_refused_before_the_weights_are_read(genve, folder, tiny_bundle):
    shutil.copytree(tiny_bundle, folder / "damaged")
    (folder / "damaged" / "vae.safetensors").write_bytes(b"")
    common = ("enhance", "clip.mkv", "-o", "o.mp4", "--bundle", "damaged")
    assert "vae.safetensors" in genve(*common)[2][0]
    for wrong, said in (("no.png@1", "no.png is not a file"), ("no.png@9", "key frame must be in [0, 4]")):
        assert said in genve(*common, "--reference", wrong)[2][0]


@pytest.mark.parametrize(
    "text, path, frame",
    [("a.png", "a.png", None), ("a.png@12", "a.png", 12), ("me@home/a@2x.png", "me@home/a@2x.png", None),
     ("me@home/a.png@007", "me@home/a.png", 7), ("a@3@4", "a@3", 4), ("@5", "@5", None), ("a.png@-1", "a.png@-1", None)],
)  # fmt: skip
def test_a_reference_is_split_at_the_last_at_before_a_number(text, path, frame):
    assert cli_enhance.parse_references([text], None) == [(frame, Path(path))]


def test_one_frame_of_8x8_pixels_is_enhanced(genve, folder):
    write_clip(folder / "small.mkv", list(to_bytes(smooth_video(1, 8, 8))), pixel_format="bgr0")
    assert genve("enhance", "small.mkv", "-o", "out.mkv", "--lossless")[0] == 0
    assert frames_of(folder / "out.mkv").shape == (1, 3, 32, 32)


def test_alpha_is_enlarged_where_the_output_can_hold_it_and_a_note_says_where_not(genve, folder):
    (folder / "in").mkdir()
    rgba = np.zeros((8, 12, 4), np.uint8)
    rgba[:, 6:, 3] = 255
    Image.fromarray(rgba).save(folder / "in" / "0.png")
    assert genve("enhance", "in", "-o", "out", "--scale", "2")[0] == 0
    alpha = np.asarray(Image.open(folder / "out" / "frame_000000.png"))[..., 3]
    assert alpha.shape == (16, 24)
    assert (alpha[:, :10] < 16).all()
    assert (alpha[:, 14:] > 239).all()
    code, _, err = genve("enhance", "in", "-o", "out.mp4", "--scale", "2")
    assert code == 0
    assert [line for line in err if line.startswith("note: ") and "transparency" in line]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("missing.mp4 -o o.mp4", ["missing.mp4 does not exist", "give a video file"]),
        ("text.mp4 -o o.mp4", ["text.mp4 is not a video"]),
        ("empty.mp4 -o o.mp4", ["empty.mp4 is empty (0 bytes)"]),
        ("cut.mp4 -o o.mp4", ["cut.mp4 is not a video that can be read, or its end is missing"]),
        ("nothing -o o.mp4", ["nothing holds no images"]),
        ("tiny.mkv -o o.mp4", ["tiny.mkv is 7x6 px, but needs 8 px a side or more"]),
        ("clip.mkv -o o.mp4 --frames 10000", ["--frames 10000 is more than clip.mkv has (5)", "ask for 5 or fewer"]),
        ("clip.mkv -o o.mp4 --frames 0", ["--frames must be 1 or more, got 0"]),
        ("clip.mkv -o o.mp4 --key-frame 5", ["key frame must be in [0, 4] for a clip of 5 frames, got 5"]),
        ("clip.mkv -o o.mp4 --key-frame 3 --frames 3", ["key frame must be in [0, 2]", "got 3"]),
        ("clip.mkv -o o.mp4 --key-frame -1", ["key frame must be auto or a frame number from 0, got '-1'"]),
        ("clip.mkv -o o.mp4 --noise-level 1000", ["noise level must be in [0, 999], got 1000"]),
        ("clip.mkv -o o.mp4 --noise-level -1", ["noise level must be in [0, 999], got -1"]),
        ("clip.mkv -o o.mp4 --noise-level much", ["--noise-level", "'much'", "see genve enhance --help"]),
        ("clip.mkv -o o.mp4 --creativity 2", ["creativity must be in [0, 1], got 2.0"]),
        ("clip.mkv -o o.mp4 --creativity 0.5", ["this bundle has no measured curve of its noise level", "--write-dial"]),
        ("clip.mkv -o o.mp4 --creativity 0.5 --noise-level 9", ["--noise-level", "not allowed with", "--creativity"]),
        ("clip.mkv -o o.mp4 --scale 0", ["scale must be above 0 and at most 8, got 0.0"]),
        ("clip.mkv -o o.mp4 --scale 9", ["scale must be above 0 and at most 8, got 9.0"]),
        ("clip.mkv -o o.mp4 --scale nan", ["scale must be above 0 and at most 8, got nan"]),
        ("clip.mkv -o o.mp4 --scale 0.1", ["size must be 8 to 16384 px a side, got 3x2"]),
        ("clip.mkv -o o.mp4 --size 64", ["--size must be WIDTHxHEIGHT in pixels, like 1280x720, got '64'"]),
        ("clip.mkv -o o.mp4 --size 64x0", ["size must be 8 to 16384 px a side, got 64x0"]),
        ("clip.mkv -o o.mp4 --size 99999x64", ["size must be 8 to 16384 px a side, got 99999x64"]),
        ("clip.mkv -o o.mp4 --size 64x48 --scale 2", ["--scale", "not allowed with", "--size"]),
        ("clip.mkv -o o.mp4 --reference-strength 1.5", ["reference strength must be in [0, 1], got 1.5"]),
        ("clip.mkv -o o.mp4 --steps 0", ["steps must be 1 or more, got 0"]),
        ("clip.mkv -o o.mp4 --steps 1200", ["steps must be in [1, 1000]", "got 1200"]),
        ("clip.mkv -o o.mp4 --device abacus", ["device 'abacus' cannot be used here", "use auto or cpu"]),
        ("clip.mkv -o o.mp4 --bundle nowhere", ["bundle 'nowhere' was not found", "bundle.json"]),
        ("clip.mkv -o o.mp4 --bundle pickled", ["vae.pt is not a .safetensors file", "other formats are not read"]),
        ("clip.mkv -o o.mp4 --reference no.png", ["reference no.png is not a file"]),
        ("clip.mkv -o o.mp4 --reference text.mp4", ["reference text.mp4 is not a picture"]),
        ("clip.mkv -o o.mp4 --reference clip.mkv", ["reference clip.mkv is a video"]),
        ("clip.mkv -o o.mp4 --reference a.png@1 --reference b.png@1", ["names frame 1 twice, a.png and b.png"]),
        ("clip.mkv -o o.mp4 --segment 0", ["--segment must be 1 or more, got 0"]),
        ("clip.mkv -o o.mp4 --reference a.png@1 --key-frame 2", ["a.png@1 and --key-frame 2 both name a frame"]),
        ("clip.mkv -o o.mp4 --reference a.png@1 --reference b.png@5", ["key frame must be in [0, 4]", "got 5"]),
        ("clip.mkv -o o.mp4 --reference a.png@2 --frames 2", ["key frame must be in [0, 1]", "got 2"]),
        ("clip.mkv -o o.mp4 --reference good.png@1 --reference no.png@2", ["reference no.png is not a file"]),
        ("clip.mkv -o o.mp4 --reference good.png@1 --reference text.mp4@2", ["reference text.mp4 is not a picture"]),
        ("clip.mkv -o o.mp4 --reference good.png@last", ["good.png@last: wanted a frame number from 0 after the @", "'last'"]),
        ("clip.mkv -o o.avi", ["output o.avi ends in '.avi'", "wanted .mp4"]),
        ("clip.mkv -o text.mp4", ["output text.mp4 exists already", "--overwrite"]),
        ("clip.mkv -o clip.mkv --overwrite", ["output clip.mkv is the input itself"]),
        ("clip.mkv -o no/where/o.mp4", ["does not exist; make it or give another path"]),
        ("clip.mkv -o o.mp4 --lossless", ["lossless video is written as .mkv, got o.mp4"]),
        ("clip.mkv", ["required: -o/--output"]),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing(genve, folder, tiny_bundle, arguments, said):
    (folder / "text.mp4").write_text("no video, " * 300)
    (folder / "empty.mp4").touch()
    write_clip(folder / "cut.mp4", list(to_bytes(smooth_video(FRAMES, 16, 32))), codec="libx264", pixel_format="yuv420p")
    (folder / "cut.mp4").write_bytes((folder / "cut.mp4").read_bytes()[:900])
    write_clip(folder / "tiny.mkv", list(to_bytes(smooth_video(1, 6, 7))), pixel_format="bgr0")
    (folder / "nothing").mkdir()
    Image.fromarray(to_bytes(smooth_video(1, 32, 52))[0]).save(folder / "good.png")
    if "pickled" in arguments:
        shutil.copytree(tiny_bundle, folder / "pickled")
        about = json.loads((folder / "pickled" / "bundle.json").read_text())
        about["components"]["vae"]["file"] = "vae.pt"
        (folder / "pickled" / "bundle.json").write_text(json.dumps(about))
    before = contents(folder)
    code, out, err = genve("enhance", *arguments.split())
    assert code == 2
    assert out == []
    assert len(err) == 1, err
    assert err[0].startswith("genve enhance: error: ")
    for part in said:
        assert part in err[0]
    assert contents(folder) == before


@pytest.mark.parametrize("stage", ["look", "encode", "flow", "diffuse", "decode"])
def test_ctrl_c_in_any_stage_keeps_the_old_output_and_leaves_nothing_else(genve, folder, monkeypatch, stage):
    class Interrupted(Progress):
        def __call__(self, now: str, done: int, total: int) -> None:
            super().__call__(now, done, total)
            if now == stage:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli_enhance, "Progress", Interrupted)
    (folder / "out.mkv").write_bytes(b"yesterday's")
    before = contents(folder)
    code, out, err = genve("enhance", "clip.mkv", "-o", "out.mkv", "--scale", "2", "--overwrite")
    assert code == 130
    assert out == []
    assert err[-1] == "genve enhance: stopped by Ctrl-C; no output was written"
    assert contents(folder) == before


def swallowed(*_, **__):
    """Ctrl-C as torch passes it on when it comes while a tensor is made of a storage."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise ValueError("could not determine the shape of object type 'torch.storage.UntypedStorage'")


def test_ctrl_c_that_came_out_as_another_error_is_still_ctrl_c(genve, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cli_enhance, "scan", swallowed)
        code, out, err = genve("enhance", "clip.mkv", "-o", "out.mkv", "--scale", "2")
    assert (code, out, err[-1]) == (130, [], "genve enhance: stopped by Ctrl-C; no output was written")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    code, _, err = genve("enhance", "missing.mkv", "-o", "out.mkv")
    assert code == 2 and "missing.mkv" in err[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_full_disk_is_a_failure_of_one_line_that_leaves_nothing(genve, folder):
    import resource

    before = contents(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        code, _, err = genve("enhance", "clip.mkv", "-o", "out", "--scale", "4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert re.fullmatch(r"genve enhance: failed: no space left for 00000.mkv in .*; free some or write elsewhere", err[-1])
    assert contents(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to the whole console")
def test_ctrl_c_from_outside_ends_the_program_with_130_and_one_line(folder, tiny_bundle):
    pictures = [to_bytes(smooth_video(1, 120, 160))[0]] * 200
    write_clip(folder / "long.mkv", pictures, pixel_format="bgr0")
    before = contents(folder)
    command = [sys.executable, "-m", "genve_core", "enhance", "long.mkv", "-o", "out.mp4", "--bundle", str(tiny_bundle)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            while process.poll() is None and not list(folder.glob(".out.mp4*")):
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "genve enhance: stopped by Ctrl-C; no output was written"
    assert "Traceback" not in err
    assert contents(folder) == before


@pytest.mark.parametrize("said, spins", [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)])
def test_waiting_threads_soon_sleep_unless_the_user_said_how_they_wait(said, spins):
    """Two commands on two cores took five times as long each as they do now (docs/model-design/speed.md)."""
    code = """
import os, sys
from genve_core.__main__ import run
class Stop(BaseException): ...
class Torch:
    def find_spec(self, name, *rest):
        if name == "torch":
            raise Stop
sys.meta_path.insert(0, Torch())
try:
    run()
except Stop:
    print(os.environ.get("GOMP_SPINCOUNT"))
"""
    unset = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    found = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env={**unset, **said}, text=True)
    assert found.strip() == str(spins), "set before torch is loaded"


def test_verbose_shows_where_an_error_comes_from(genve):
    _, _, err = genve("enhance", "missing.mp4", "-o", "o.mp4", "-v")
    assert err[0].startswith("Traceback")
    assert err[-1].startswith("genve enhance: error: missing.mp4")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("train vae --data no --out o", "--data no does not exist"),
        ("train magic --data . --out o", "invalid choice: 'magic'"),
        ("info no.mp4", "'no.mp4' is no video that exists"),
        ("enhanse a", "invalid choice: 'enhanse'"),
    ],
)
def test_other_commands_say_mistakes_in_one_line_too(genve, folder, arguments, said):
    before = contents(folder)
    code, out, err = genve(*arguments.split())
    assert (code, out, len(err)) == (2, [], 1)
    assert said in err[0]
    assert contents(folder) == before


def test_info_tells_about_a_bundle_a_video_and_the_installation(genve, tiny_bundle):
    code, out, _ = genve("info", str(tiny_bundle))
    facts = dict(line.split(maxsplit=1) for line in out)
    assert code == 0
    assert facts["bundle"] == "tiny"
    assert facts["vae"].startswith("MiniVAE, 0.0")
    code, out, _ = genve("info", "clip.mkv")
    facts = dict(line.split(maxsplit=1) for line in out)
    assert code == 0
    assert (facts["size"], facts["frames"], facts["has"]) == ("26x16 px", "5", "variable frame rate, sound")
    code, out, _ = genve("info")
    facts = dict(line.split(maxsplit=1) for line in out)
    assert code == 0
    assert facts["torch"] == torch.__version__


def test_a_woven_clip_is_told_of_and_deinterlaced_unless_that_is_turned_off(genve, folder):
    write_clip(folder / "woven.mkv", moving_bars("yuv420p", frames=12)[0], options=LOSSLESS)
    facts = dict(line.split(maxsplit=1) for line in genve("info", "woven.mkv")[1])
    assert facts["has"] == "interlaced"
    common = ("enhance", "woven.mkv", "--scale", "1", "--noise-level", "0", "--lossless", "-o")
    combs = {}
    for choice in ("auto", "off"):
        code, _, err = genve(*common, f"{choice}.mkv", "--deinterlace", choice)
        assert code == 0 and any("woven of two fields" in line for line in err) == (choice == "auto")
        with VideoReader(folder / f"{choice}.mkv", deinterlace=False) as video:
            combs[choice] = combing(list(video))
    assert combs["auto"] < combs["off"] / 2
