"""Kill `genve enhance` at random moments, start it again each time, and compare the result with an uninterrupted run's.

A moment is anywhere in the time that an uninterrupted run takes. A run that ends before is compared too, and begun anew.

    python benchmarks/interrupt.py FILE [--kills 20] [--seed 0] [-- OPTIONS OF genve enhance]
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from genve_core.job import find_jobs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    own, options = sys.argv[1:], ["--scale", "2", "--segment", "24", "--frames", "120"]
    if "--" in own:  # argparse gives a * behind an option nothing
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    args = parser.parse_args(own)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        whole, parts = (Path(folder) / name for name in ("whole.mkv", "parts.mkv"))

        def start(output: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "genve_core", "enhance", str(args.file), "-o", str(output), "--lossless",
                       *options]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)

        def compare() -> None:
            results.append(hashlib.sha256(whole.read_bytes()).digest() == hashlib.sha256(parts.read_bytes()).digest())
            parts.unlink()

        begin = time.perf_counter()
        if start(whole).wait():
            sys.exit(f"the uninterrupted run failed: {last_line(errors)}")
        lasts = time.perf_counter() - begin
        kills, ended, pieces, results = 0, False, [], []
        while not ended or kills < args.kills:
            process = start(parts)
            try:
                failed = process.wait(rng.uniform(0.1, lasts) if kills < args.kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills, ended = kills + 1, False
                pieces.append(sum(job.finished for job in find_jobs(Path(folder))))
                if parts.exists():  # it was about to end
                    compare()
                continue
            if failed:
                sys.exit(f"a run failed after {kills} kills: {last_line(errors)}")
            ended = True
            compare()
        left = [path.name for path in Path(folder).iterdir() if path != whole]
    print(f"pieces that each kill left: {', '.join(map(str, pieces))}")
    print(f"killed {kills} times, an uninterrupted run takes {lasts:.0f} s; {len(results)} outputs were finished, "
          f"{sum(results)} with identical bytes; left behind: {', '.join(left) or 'nothing'}")
    return 0 if all(results) and not left else 1


def last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace").rstrip().rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main())
