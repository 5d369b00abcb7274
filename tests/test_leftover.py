"""What a run leaves that is killed between naming its output and removing the pieces it was made of."""

import re
from pathlib import Path

import pytest
from media_clips import smooth_video, to_bytes, write_clip

from genve_core.cli import main
from genve_core.job import Job, find_jobs, job_folder

PIECES = 3  # of 14 frames


@pytest.fixture
def genve(tiny_bundle, tmp_path, monkeypatch, capsys):
    """`genve enhance in.mkv -o ...` in `tmp_path`: (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "in.mkv", list(to_bytes(smooth_video(14, 16, 24))), pixel_format="bgr0")

    def run(*extra, out="out.mkv"):
        code = main(["enhance", "in.mkv", "-o", out, "--scale", "1", "--window", "4", "--segment", "4", "--one-shot",
                     "--device", "cpu", "--bundle", str(tiny_bundle), *extra])
        return code, capsys.readouterr().err

    return run


def killed_before_it_tidied_up(genve, *extra, out="out.mkv"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "remove", lambda self: None)
        assert genve(*extra, out=out)[0] == 0


def listed(folder, capsys):
    assert main(["jobs", str(folder)]) == 0
    return capsys.readouterr().out


def test_jobs_says_that_the_output_is_finished(genve, tmp_path, capsys):
    killed_before_it_tidied_up(genve)
    said = rf"out\.mkv: finished, {PIECES} pieces left over of in\.mkv, \d+\.\d MB\n"
    assert re.fullmatch(said, listed(tmp_path, capsys))


def test_the_next_run_removes_it_whether_it_is_refused_or_skips_the_output(genve, tmp_path):
    killed_before_it_tidied_up(genve)
    code, err = genve()
    assert code == 2 and "output out.mkv exists already" in err
    assert not find_jobs(tmp_path)
    for form, output in (("mkv", "in.mkv"), ("png", "in")):
        killed_before_it_tidied_up(genve, "--format", form, out="many")
        assert [job.path for job in find_jobs(tmp_path / "many")] == [tmp_path / "many" / output]
        code, err = genve("--format", form, out="many")
        assert code == 0 and "1 finished before and left as they are" in err
        assert not find_jobs(tmp_path / "many")


def test_pieces_that_are_to_replace_an_older_output_are_kept(genve, tmp_path, monkeypatch, capsys):
    assert genve()[0] == 0
    kept = Job.keep

    def stopped_in_the_third(self, piece, frames):
        if piece == 2:
            raise KeyboardInterrupt
        kept(self, piece, frames)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "keep", stopped_in_the_third)
        assert genve("--overwrite", "--seed", "5")[0] == 130
    assert genve()[0] == 2
    assert listed(tmp_path, capsys).startswith(f"out.mkv: 2 of {PIECES} pieces of in.mkv, ")
    assert f"going on: 2 of {PIECES} pieces are finished" in genve("--overwrite", "--seed", "5")[1]


def test_an_empty_folder_is_no_finished_output(tmp_path):
    job_folder(tmp_path / "frames").mkdir()
    (job_folder(tmp_path / "frames") / "job.json").write_text("{}")
    (tmp_path / "frames").mkdir()
    (job,) = find_jobs(tmp_path)
    assert not job.over
    Path(tmp_path, "frames", "frame_000000.png").touch()
    assert job.over
