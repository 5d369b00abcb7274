"""`genve enhance --ray` with one worker and with two, against none, on this machine; each computes with one thread.

    python benchmarks/cluster.py FILE [--workers 1 2] [--runs 3] [-- OPTIONS OF genve enhance]

Every count gets a Ray of its own, with that many machines of one core (processes here), and one command that enhances copies of
FILE: the first bears the workers' start, the others are timed, reading and writing included. All outputs must be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0",
               "RAY_worker_niceness": "0"}  # of 15 as it comes: on a busy machine that would be measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    own, options = sys.argv[1:], ["--scale", "2", "--segment", "24"]
    if "--" in own:  # argparse gives a * behind an option nothing
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    args = parser.parse_args(own)
    os.environ.update(ENVIRONMENT)
    hashes = set()
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / f"{i}{args.file.suffix}" for i in range(1 + args.runs)]
        for copy in copies:
            shutil.copyfile(args.file, copy)
        for count in (0, *args.workers):
            out = Path(folder) / f"workers_{count}"
            first, seconds = measure(copies, out, count, options)
            hashes |= {hashlib.sha256(file.read_bytes()).hexdigest() for file in out.iterdir()}
            name = f"{count} worker(s)" if count else "no Ray"
            print(f"{name}: first {first:.0f} s, then {statistics.median(seconds):.3f} s per frame ({min(seconds):.3f}.."
                  f"{max(seconds):.3f}); load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    print("identical bytes" if len(hashes) == 1 else "DIFFERENT BYTES")
    return 0 if len(hashes) == 1 else 1


def measure(copies: list[Path], out: Path, workers: int, options: list[str]) -> tuple[float, list[float]]:
    """Seconds until the first output is there, and seconds per frame of each other."""
    cluster, ray = None, []
    if workers:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(workers - 1):
            cluster.add_node(num_cpus=1)
        ray = ["--ray", cluster.address]
    try:
        begin, first, seconds = time.perf_counter(), 0.0, []
        command = [sys.executable, "-u", "-m", "genve_core", "enhance", *map(str, copies), "-o", str(out), "--device", "cpu",
                   "--lossless", *ray, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              env=ENVIRONMENT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                first = first or time.perf_counter() - begin
                seconds.append(float(re.findall(r"([\d.]+) s per frame", line)[0]))
        if process.returncode:
            sys.exit("the command failed; try its options with genve enhance")
        return first, seconds[1:]
    finally:
        if cluster is not None:
            cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
