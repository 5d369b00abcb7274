"""Kill `genve enhance` at random moments, start it again each time, and compare the result with an uninterrupted run's.

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", default=["--scale", "2", "--segment", "24", "--frames", "120"])
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = (Path(folder) / name for name in ("whole.mkv", "parts.mkv"))

        def start(output: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "genve_core", "enhance", str(args.file), "-o", str(output), "--lossless",
                       *args.options]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        begin = time.perf_counter()
        if start(whole).wait():
            sys.exit("the uninterrupted run failed; try its options with genve enhance")
        lasts = time.perf_counter() - begin
        kills = 0
        for _ in range(args.kills):
            process = start(parts)
            try:
                # a run is killed anywhere from its first moment to a third of the whole: it would soon be done otherwise
                process.wait(rng.uniform(0.1, max(1.0, lasts / 3)))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        if not parts.exists() and start(parts).wait():
            sys.exit("the last run failed")
        same = hashlib.sha256(whole.read_bytes()).digest() == hashlib.sha256(parts.read_bytes()).digest()
        left = [path.name for path in Path(folder).iterdir() if path not in (whole, parts)]
    print(f"killed {kills} times, an uninterrupted run takes {lasts:.0f} s: "
          f"{'identical bytes' if same else 'DIFFERENT BYTES'}, left behind: {', '.join(left) or 'nothing'}")
    return 0 if same and not left else 1


if __name__ == "__main__":
    sys.exit(main())
