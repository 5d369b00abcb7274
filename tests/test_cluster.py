"""A real local Ray of two machines with one core each, in processes of this machine."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from media_clips import write_clip
from test_film import scenes

from genve_core.cli import main
from genve_core.cluster import Cluster, slots
from genve_core.errors import InputError
from genve_core.job import find_jobs, job_folder
from genve_core.piece_worker import PREFIX

ROOT = Path(__file__).resolve().parent.parent


def node(name, **resources):
    return {"NodeID": name, "NodeManagerHostname": name, "Resources": resources}


def test_there_is_a_worker_for_every_gpu_or_else_for_every_four_cores():
    nodes = [node("a", CPU=16.0, GPU=2.0), node("b", CPU=2.0), node("c", CPU=6.0), node("d", memory=1.0)]
    assert [(slot.host, slot.gpus) for slot in slots(nodes, "auto")] == [("a", 1), ("a", 1)] == [
        (slot.host, slot.gpus) for slot in slots(nodes, "cuda")]
    on_cores = [("a", 4.0)] * 4 + [("b", 2.0), ("c", 6.0)]
    assert [(slot.host, slot.cores) for slot in slots(nodes, "cpu")] == on_cores
    assert [(slot.host, slot.cores) for slot in slots(nodes[1:], "auto")] == on_cores[4:]
    assert slots(nodes[1:], "cuda") == []


@pytest.mark.parametrize(
    "address, device, said",
    [("film.mp4", "auto", r"--ray takes auto, local or HOST:PORT, got 'film\.mp4'; if that is an input, put it before --ray"),
     ("ray://host:1", "auto", r"--ray takes auto, local or HOST:PORT, got 'ray://host:1'"),
     ("auto", "cuda:1", r"with --ray the workers compute on --device auto, cpu or cuda, got 'cuda:1'"),
     ("auto", "mps", r"--device auto, cpu or cuda, got 'mps'")],
)  # fmt: skip
def test_a_wrong_address_or_device_is_refused(address, device, said):
    with pytest.raises(InputError, match=said):
        Cluster(address, device)


def test_without_ray_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'--ray needs ray, which is not installed; pip install "genve\[ray\]"'):
        Cluster("local")


@pytest.fixture(scope="module")
def address():
    """Of a cluster with two machines of one core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason='ray is not installed; pip install "genve[ray]"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for whatever else the machine does
        patch.setenv("PYTHONPATH", str(ROOT))
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            cluster.add_node(num_cpus=1)
            yield cluster.address
        finally:
            cluster.shutdown()


@pytest.fixture
def command(tiny_bundle, tmp_path, monkeypatch):
    """`genve enhance` of 10 pieces; of one piece with the name of another video."""
    import torch

    frames = ((scenes(48, 64) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    write_clip(tmp_path / "long.mkv", list(torch.cat([frames, frames]).numpy()), pixel_format="bgr0")
    write_clip(tmp_path / "short.mkv", list(frames[:5].numpy()), pixel_format="bgr0")
    monkeypatch.chdir(tmp_path)
    common = ["--scale", "1", "--segment", "6", "--bundle", str(tiny_bundle), "--device", "cpu"]
    return lambda *arguments: ["enhance", *arguments, *common]


def workers():
    """Process numbers of the workers that have a folder on this machine."""
    return {int(path.name[len(PREFIX) :].split("-")[0]) for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")}


def run(command, *, kill=False):
    """A real `genve` process. kill: a worker, when the first piece is there."""
    others = workers()
    with subprocess.Popen([sys.executable, "-m", "genve_core", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        deadline = time.monotonic() + 240
        while kill and process.poll() is None and time.monotonic() < deadline:
            if len(workers() - others) == 2 and list(job_folder("ray.mp4").glob("0*-*.mkv")):
                os.kill(min(workers() - others), signal.SIGKILL)
                break
            time.sleep(0.01)
        out, err = process.communicate(timeout=500)
    return process.returncode, out, err


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is for Unix; Ray on Windows is a beta")
def test_two_workers_one_killed_give_the_bytes_of_one_machine(address, command):
    assert main(command("long.mkv", "-o", "one.mp4")) == 0
    code, _, err = run(command("long.mkv", "-o", "ray.mp4", "--ray", address), kill=True)
    assert code == 0, err
    assert re.search(r"note: a worker on \S+ died in piece \d+ of \d+; another makes it", err), err
    assert Path("ray.mp4").read_bytes() == Path("one.mp4").read_bytes()
    assert not find_jobs(Path("."))


def test_several_files_share_the_workers_and_one_of_a_single_piece_has_the_same_bytes_too(address, command):
    assert main(command("short.mkv", "long.mkv", "-o", "one", "--format", "mp4")) == 0
    code, out, err = run(command("short.mkv", "long.mkv", "-o", "ray", "--format", "mp4", "--ray", address))
    assert code == 0 and len(out.splitlines()) == 2, err
    for name in ("short.mp4", "long.mp4"):
        assert Path("ray", name).read_bytes() == Path("one", name).read_bytes()


def test_what_goes_wrong_in_a_worker_is_told_in_one_line_and_leaves_no_empty_job(address, command, tiny_bundle):
    """A worker is asked for a GPU that it has not."""
    ray = pytest.importorskip("ray")
    with Cluster(address, "cpu") as cluster:
        assert len(cluster.slots) == 2
        cluster.device = "cuda"
        args = command("long.mkv", "-o", "ray.mp4")
        with pytest.raises(InputError, match=r"device 'cuda' cannot be used here"):
            enhance_with(cluster, args)
    assert not ray.is_initialized() and not find_jobs(Path("."))


def enhance_with(cluster, command):
    """`genve enhance` with a cluster that is connected already."""
    from contextlib import nullcontext

    from genve_core import cli_enhance
    from genve_core.cli import build_parser

    args = build_parser().parse_args([*command, "--ray", "local"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_enhance, "Cluster", lambda *_: nullcontext(cluster))
        cli_enhance.enhance(args)


def test_a_cluster_that_is_not_there_or_has_no_gpu_is_refused(address):
    with pytest.raises(InputError, match=r"--ray 127\.0\.0\.1:1: no cluster to be had there \(.+\); see docs/cluster\.md"):
        Cluster("127.0.0.1:1")
    with pytest.raises(InputError, match=r"no machine of the cluster has a GPU to lend; see ray status"):
        Cluster(address, "cuda")
