import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from media_clips import smooth_video, to_bytes, write_clip

from genve_core.cli import main
from genve_core.errors import InputError
from genve_core.job import find_jobs, job_folder
from genve_core.lock import only_run_on

ROOT = Path(__file__).resolve().parent.parent
HOLD = """import sys, time
from genve_core.lock import only_run_on
with only_run_on(sys.argv[1]):
    print('held', flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock of out.mkv."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out.mkv")], cwd=ROOT, stdout=subprocess.PIPE,
                               text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_dead(other, tmp_path):
    with pytest.raises(InputError, match=r"another run is making .*out\.mkv at this moment; let it end"), \
            only_run_on(tmp_path / "out.mkv"):
        pass
    with only_run_on(tmp_path / "other.mkv"):
        pass
    other.kill()
    other.wait()
    with only_run_on(tmp_path / "out.mkv"):
        assert (tmp_path / ".out.mkv.genve-lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_not_locked(tmp_path):
    with only_run_on(tmp_path / "no" / "out.mkv"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot halt a process for a while")
def test_while_a_run_is_under_way_a_second_one_and_jobs_clean_are_refused(tiny_bundle, tmp_path, capsys):
    write_clip(tmp_path / "in.mkv", list(to_bytes(smooth_video(60, 32, 48))), pixel_format="bgr0")
    command = ["enhance", str(tmp_path / "in.mkv"), "-o", str(tmp_path / "out.mkv"), "--scale", "1", "--segment", "6",
               "--one-shot", "--device", "cpu", "--bundle", str(tiny_bundle)]
    first = subprocess.Popen([sys.executable, "-m", "genve_core", *command], cwd=ROOT, stderr=subprocess.DEVNULL,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 120
    while not list(job_folder(tmp_path / "out.mkv").glob("0*-*.mkv")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    try:
        assert main(command) == 2
        assert re.search(r"^genve enhance: error: another run is making .*out\.mkv at this moment; let it end, or give another "
                         r"output", capsys.readouterr().err.splitlines()[-1])
        assert main(["jobs", str(tmp_path), "--clean"]) == 0
        assert "a run is at work on it (not removed)" in capsys.readouterr().out
        assert len(find_jobs(tmp_path)) == 1
    finally:
        first.send_signal(signal.SIGCONT)
        assert first.wait() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mkv"}
