import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from media_clips import smooth_video, to_bytes, write_clip
from PIL import Image

from genve_core.bundle import load_bundle
from genve_core.cli import main
from genve_core.errors import InputError
from genve_core.film import FilmRun, assign, glance, pieces, scan
from genve_core.footage import Footage, ShotFrames
from genve_core.job import Job, as_stored, find_jobs, job_folder, store_piece
from genve_core.media import VideoReader
from genve_core.media.shots import Shot
from genve_core.pipeline import EnhanceConfig, Enhancer, enhance
from genve_core.segments import InMemory

ROOT = Path(__file__).resolve().parent.parent
CUT, END = 14, 66


def scenes(h=32, w=48):
    """14 frames of a pattern that moves right, then 52 of quite another one: (66, 3, h, w) in [-1, 1]."""
    ys, xs = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    one = [torch.stack([torch.sin((xs - i) / 4), torch.cos(ys / 5), torch.sin((xs + ys - i) / 6)]) for i in range(CUT)]
    two = [torch.stack([torch.cos((ys + i) / 3), torch.sin((xs + 2 * i) / 9), -torch.ones_like(xs)]) for i in range(END - CUT)]
    return torch.stack(one + two) * 0.8


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    frames = ((scenes() + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return write_clip(folder / "two.mkv", list(frames), pixel_format="bgr0")


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def enhancer_of(bundle, **config):
    return Enhancer(bundle, EnhanceConfig(scale=1.0, precision="float32", segment=6, **config), "cpu")


def whole(bundle, frames, pictures, **config):
    """A shot in memory, in one piece."""
    enhancer = Enhancer(bundle, EnhanceConfig(scale=1.0, precision="float32", **config), "cpu")
    shot = InMemory(frames)
    (piece,) = enhancer.segments(len(shot))
    return torch.cat(list(enhancer.run_segment(shot, piece, enhancer.references(shot, pictures))))


def test_frames_on_both_sides_of_a_cut_equal_those_of_the_shots_alone(video, bundle):
    enhancer = enhancer_of(bundle)
    with VideoReader(video) as reader:
        film, pictures, _ = assign(scan(reader), (), (32, 48))
        assert [(s.start, s.stop) for s in film.shots] == [(0, CUT), (CUT, END)]
        work = pieces(enhancer, film)
        run = FilmRun(enhancer, reader, film, pictures)
        frames = torch.stack([rgb for piece in work for rgb, _ in run.piece(piece)])
        poor = torch.stack([frame.rgb for frame in reader])
    alone = torch.cat([whole(bundle, poor[shot.start : shot.stop], own) for shot, own in zip(film.shots, pictures)])
    assert frames.shape == (END, 3, 32, 48) and len(work) == 5
    assert (frames - alone).abs().max() < 1e-4


def test_with_a_first_pass_too_and_transparency_is_kept(tmp_path, bundle):
    frames = ((scenes() + 1) * 127.5).round().byte()
    alpha = torch.arange(END, dtype=torch.uint8)[:, None, None, None].expand(END, 1, 32, 48)  # each frame's own
    (tmp_path / "in").mkdir()
    for i, frame in enumerate(torch.cat([frames, alpha], 1).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(frame).save(tmp_path / "in" / f"{i:03}.png")
    enhancer = enhancer_of(bundle, preclean=1.0)
    with VideoReader(tmp_path / "in") as reader:
        film, pictures, _ = assign(scan(reader), (), (32, 48))
        run = FilmRun(enhancer, reader, film, pictures)
        made = [item for piece in pieces(enhancer, film) for item in run.piece(piece)]
        poor = torch.stack([frame.rgb for frame in reader])
    alone = [enhance(poor[s.start : s.stop], bundle=bundle, device="cpu", scale=1.0, precision="float32", preclean=1.0,
                     key_frame=s.key - s.start) for s in film.shots]
    assert (torch.stack([rgb for rgb, _ in made]) - torch.cat(alone)).abs().max() < 1e-4
    assert [round(float(alpha.mean() * 255)) for _, alpha in made] == list(range(END))


def test_shot_frames_give_any_rising_spans_and_any_single_frame(video):
    with VideoReader(video) as reader:
        film = scan(reader)
        every = torch.stack([frame.rgb for frame in reader])[CUT:]
        shot = ShotFrames(Footage(reader, [CUT + 1, CUT + 2, CUT + 3]), film.shots[1])
        for span in (range(0, 6), range(3, 9), range(3, 12), range(14, 16)):
            assert torch.equal(shot.read(span), every[span.start : span.stop])
        assert torch.equal(shot.read(range(1, 3)), every[1:3])  # back again
        assert torch.equal(shot.read_near(2, 1), every[1:4])
        assert torch.equal(shot.read_one(2), every[2])
        assert torch.equal(shot.read_near(0, 2), every[:3])
        assert torch.equal(shot.read_one(1), every[1])  # behind the pass over the key frames
        assert len(shot) == END - CUT


def test_a_film_of_many_shots_is_decoded_three_times(video, bundle, monkeypatch):
    """Once to look, once for the frames, once for the key frames; not anew for every shot."""
    decoded = VideoReader._file_pictures
    count = 0

    def counting(self):
        nonlocal count
        for picture in decoded(self):
            count += 1
            yield picture

    monkeypatch.setattr(VideoReader, "_file_pictures", counting)
    enhancer = enhancer_of(bundle)
    with VideoReader(video) as reader:
        film = scan(reader)
        shots = [Shot(a, a + 11, a + 5) for a in range(0, END, 11)]
        film, pictures, _ = assign(replace(film, shots=shots), (), (32, 48))
        run = FilmRun(enhancer, reader, film, pictures)
        assert sum(1 for piece in pieces(enhancer, film) for _ in run.piece(piece)) == END
    assert 2 * END < count <= 3 * END


def picture_of(frames, number, folder, name="good.png"):
    image = Image.fromarray(((frames[number] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    image.resize((96, 64)).save(folder / name)
    return folder / name


def test_a_picture_goes_to_the_frame_it_resembles_or_to_the_one_it_is_said_to_show(video, tmp_path):
    good = picture_of(scenes(), 20, tmp_path)
    with VideoReader(video) as reader:
        film = scan(reader)
    _, pictures, notes = assign(film, [(None, good)], (32, 48))
    (number,) = pictures[1]
    assert abs(CUT + number - 20) <= 1 and pictures[1][number] == good
    assert list(pictures[0].values()) == [None]  # the other shot makes its own
    assert notes == [f"{good} is taken for frame {CUT + number}"]
    _, pictures, _ = assign(film, [(3, good)], (32, 48))
    assert pictures[0] == {3: good}
    film, pictures, _ = assign(film, [(None, good)], (32, 48), key_frame=29)
    assert pictures[1] == {29 - CUT: good} and film.shots[1].key == 29


def test_a_picture_like_no_frame_is_used_but_doubted(video, tmp_path):
    noise = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.nn.functional.interpolate(noise[..., :6, :8], size=(32, 48), mode="nearest")
    with VideoReader(video) as reader:
        film = scan(reader)
    _, _, notes = assign(film, [(None, picture_of(noise, 0, tmp_path))], (32, 48))
    assert "is like no frame of this video; is it of another?" in notes[0]


def test_impossible_frames_and_two_pictures_of_one_are_refused(video, tmp_path):
    good = picture_of(scenes(), 20, tmp_path)
    with VideoReader(video) as reader:
        film = scan(reader)
    with pytest.raises(InputError, match=r"good.png, is of frame 66, but the video has frames 0 to 65"):
        assign(film, [(66, good)], (32, 48))
    with pytest.raises(InputError, match=r"both show frame 4; give one a frame"):
        assign(film, [(4, good), (4, good)], (32, 48))


def test_a_glance_sees_content_not_brightness():
    frame = scenes()[0]
    assert torch.allclose(glance(0.5 * frame + 0.2), glance(frame), atol=1e-5)
    assert glance(frame) @ glance(scenes()[20]) < 0.9


COMMON = ("--scale", "1", "--segment", "6", "--device", "cpu", "--lossless")


@pytest.fixture
def genve(video, tiny_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(video, "two.mkv")

    def run(*extra, out="out.mkv"):
        code = main(["enhance", "two.mkv", "-o", out, *COMMON, "--bundle", str(tiny_bundle), *extra])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("options", [(), ("--preclean", "1")])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(genve, tmp_path, monkeypatch, options):
    assert genve(*options, out="whole.mkv")[0] == 0
    kept = Job.keep

    def stopped_in_the_third(self, piece, frames):
        if piece == 2:
            signal.raise_signal(signal.SIGINT)
        kept(self, piece, frames)

    monkeypatch.setattr(Job, "keep", stopped_in_the_third)
    code, err = genve(*options)
    assert code == 130 and err.splitlines()[-1].endswith("the same command goes on") and not Path("out.mkv").exists()
    (job,) = find_jobs(tmp_path)
    assert (job.output, job.finished) == ("out.mkv", 2) and job.bytes > 0
    monkeypatch.setattr(Job, "keep", kept)
    code, err = genve(*options)
    assert code == 0 and f"going on: 2 of {job.pieces} pieces are finished" in err
    assert Path("out.mkv").read_bytes() == Path("whole.mkv").read_bytes()
    assert not find_jobs(tmp_path) and not list(tmp_path.glob(".*"))


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(genve, tiny_bundle, tmp_path):
    assert genve(out="whole.mkv")[0] == 0
    command = [sys.executable, "-m", "genve_core", "enhance", str(tmp_path / "two.mkv"), "-o", str(tmp_path / "out.mkv"),
               *COMMON, "--bundle", str(tiny_bundle)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(job_folder(tmp_path / "out.mkv").glob("0*-*.mkv")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list(tmp_path.glob(".out.mkv.*.part.mkv"))
    code, err = genve()
    assert code == 0 and re.search(r"going on: \d of 5 pieces are finished", err)
    assert Path("out.mkv").read_bytes() == Path("whole.mkv").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_other_settings_begin_anew_and_say_so(genve, monkeypatch, tmp_path):
    kept = Job.keep

    def stopped(self, piece, frames):
        kept(self, piece, frames)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Job, "keep", stopped)
    code, err = genve()
    assert code == 1 and "No space left on device; finished pieces are kept in" in err.splitlines()[-1]
    monkeypatch.setattr(Job, "keep", kept)
    code, err = genve("--seed", "5")
    assert code == 0 and "an earlier run had another input, other settings or another version: begun anew" in err
    (job_folder(tmp_path / "new.mkv")).mkdir()
    (job_folder(tmp_path / "new.mkv") / "job.json").write_text("{")
    code, err = genve(out="new.mkv")
    assert code == 0 and "an earlier run's job file cannot be read: begun anew" in err


def flipped(b):
    """One bit in the middle."""
    return b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :]


@pytest.mark.parametrize("harm", [lambda b: b"", lambda b: b[: len(b) // 2], flipped], ids=["emptied", "cut", "flipped"])
def test_a_piece_that_was_damaged_is_told_and_made_anew_in_the_same_run(genve, monkeypatch, tmp_path, harm):
    assert genve(out="whole.mkv")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(Job, "remove", lambda self: None)
        assert genve()[0] == 0
    (piece,) = job_folder(tmp_path / "out.mkv").glob("00001-*.mkv")
    piece.write_bytes(harm(piece.read_bytes()))
    Path("out.mkv").unlink()
    code, err = genve()
    assert code == 0 and "going on: 4 of 5 pieces are finished" in err
    assert "note: piece 2 of 5 was damaged since it was finished; it is made anew" in err.splitlines()
    assert Path("out.mkv").read_bytes() == Path("whole.mkv").read_bytes()


def test_one_shot_looks_for_no_cuts(genve):
    assert "1/" not in genve("--one-shot", "--segment", "90")[1]  # one shot in one piece


def test_jobs_are_listed_and_cleaned(genve, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(Job, "remove", lambda self: None)
    assert genve()[0] == 0
    Path("out.mkv").unlink()
    assert main(["jobs", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"out\.mkv: 5 of 5 pieces of two\.mkv, \d+\.\d MB", listed), listed
    assert main(["jobs", str(tmp_path), "--clean"]) == 0
    assert not find_jobs(tmp_path)
    assert main(["jobs", str(tmp_path)]) == 0
    assert "no interrupted jobs" in capsys.readouterr().out


def test_shots_are_listed_with_thumbnails(genve, tmp_path, capsys):
    assert main(["shots", "two.mkv", "--out", "strip"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("shot 0: frames 0 to 13, 0.00 to 0.")
    assert lines[1].startswith("shot 1: frames 14 to 65")
    assert len(list((tmp_path / "strip").glob("shot_*_frame_*.png"))) == 2
    assert main(["shots", "two.mkv", "--sensitivity", "2"]) == 2
    assert "sensitivity must be in [0, 1], got 2.0" in capsys.readouterr().err


def test_a_frame_as_stored_is_what_a_piece_gives_back(tmp_path):
    write_clip(tmp_path / "clip.mkv", list(to_bytes(smooth_video(2, 16, 24))), pixel_format="bgr0")
    with VideoReader(tmp_path / "clip.mkv") as video:
        info = video.info
    frames = list(smooth_video(3, 16, 24, seed=5))
    border = ((torch.arange(255) + 0.5) / 127.5 - 1).repeat(5)[: 3 * 16 * 24].view(3, 16, -1)[..., :24]  # of two values
    frames += [border, torch.nextafter(border, torch.tensor(2.0)), torch.nextafter(border, torch.tensor(-2.0))]
    file = store_piece(tmp_path, 0, ((frame, None) for frame in frames), info, (16, 24))
    with VideoReader(file) as stored:
        assert all(torch.equal(back.rgb, as_stored(frame, info)) for back, frame in zip(stored, frames, strict=True))
    assert not torch.equal(as_stored(frames[0], info), frames[0])
