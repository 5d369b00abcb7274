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
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = (Path(folder) / name for name in ("whole.mkv", "parts.mkv"))

        def start(output: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "genve_core", "enhance", str(args.file), "-o", str(output), "--lossless",
                       *options]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def same() -> bool:
            return hashlib.sha256(whole.read_bytes()).digest() == hashlib.sha256(parts.read_bytes()).digest()

        begin = time.perf_counter()
        if start(whole).wait():
            sys.exit("the uninterrupted run failed; try its options with genve enhance")
        lasts = time.perf_counter() - begin
        kills, results, pieces = 0, [], []
        while kills < args.kills or not parts.exists():
            process = start(parts)
            try:
                failed = process.wait(rng.uniform(0.1, lasts) if kills < args.kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                pieces.append(sum(job.finished for job in find_jobs(Path(folder))))
                continue
            if failed:
                sys.exit(f"a run failed after {kills} kills")
            results.append(same())
            if kills < args.kills:
                parts.unlink()
        left = [path.name for path in Path(folder).iterdir() if path not in (whole, parts)]
    print(f"pieces that each kill left: {', '.join(map(str, pieces))}")
    print(f"killed {kills} times, an uninterrupted run takes {lasts:.0f} s; {len(results)} outputs were finished, "
          f"{sum(results)} with identical bytes; left behind: {', '.join(left) or 'nothing'}")
    return 0 if all(results) and not left else 1


if __name__ == "__main__":
    sys.exit(main())
