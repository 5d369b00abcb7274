"""Memory that each stage of `enhance` takes at its peak, above the process with the weights loaded.

    python benchmarks/memory.py [--size 1408x896] [--scale 2] [--frames 16] [--chunk 4] [--precision auto]

One clip in one segment, in this process; the peak is set back before each stage, so every figure is that stage's own, with
all that the run holds by then. Needs Linux (/proc/self/clear_refs).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.enhance import moving_pattern  # noqa: E402
from benchmarks.timing import chip_name  # noqa: E402
from genve_core.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from genve_core.pipeline import EnhanceConfig, Enhancer  # noqa: E402
from genve_core.segments import InMemory  # noqa: E402
from genve_core.video_codec import TilingConfig  # noqa: E402

SELF = Path("/proc/self")


def main() -> None:
    args = parse()
    w, h = (int(side) for side in args.size.split("x"))
    config = EnhanceConfig(size=(h, w), chunk=args.chunk, tiling=TilingConfig(args.chunk), precision=args.precision)
    enhancer = Enhancer(load_bundle(args.bundle), config, "cpu")
    for _ in enhancer.run(moving_pattern(2, 32, 32)):  # what is made once is made now
        pass
    stages, last, before = StagePeaks(), "", resident("VmRSS")
    shot = InMemory(moving_pattern(args.frames, round(h / args.scale), round(w / args.scale)))
    stages.begin("reference")
    references = enhancer.references(shot, {args.frames // 2: None})

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if done == total and stage != last:
            following = {"encode": "flow", "flow": "diffuse", "diffuse": "decode", "decode": "finish"}[stage]
            stages.begin(following)
            last = stage

    stages.begin("encode")
    for segment in enhancer.segments(len(shot)):
        for _ in enhancer.run_segment(shot, segment, references, report):
            pass
    stages.begin("end")
    print(f"{args.frames} frames of {args.size}, chunk {args.chunk}, {'bf16' if enhancer.models.bf16 else 'float32'}, "
          f"{chip_name('cpu')}; {before / 2**20:.0f} MiB before")
    for stage, peak, held, seconds in stages.found:
        pixels = h * w
        print(f"{stage:>10} peak {(peak - before) / 2**20:7.0f} MiB ({(peak - before) / pixels:7.1f} B/px), at its start "
              f"{(held - before) / 2**20:7.0f} ({(held - before) / pixels:7.1f}), {seconds:.1f} s")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", default=DEFAULT_BUNDLE)
    p.add_argument("--size", default="1408x896", help="of the output, WxH")
    p.add_argument("--scale", type=float, default=2.0)
    p.add_argument("--frames", type=int, default=16)
    p.add_argument("--chunk", type=int, default=4)
    p.add_argument("--precision", default="auto")
    return p.parse_args()


class StagePeaks:
    """The most memory held in each stage."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int, int, float]] = []  # stage, peak, held at its start (bytes), seconds
        self._stage = ""

    def begin(self, stage: str) -> None:
        """End the stage before, and begin one."""
        if self._stage:
            self.found.append((self._stage, resident("VmHWM"), self._held, time.perf_counter() - self._at))
        (SELF / "clear_refs").write_text("5")  # sets the peak back to what is held now
        self._stage, self._held, self._at = stage, resident("VmRSS"), time.perf_counter()


def resident(field: str, process: Path = SELF) -> int:
    """A field of a process's /proc/PID/status in bytes; 0 for one that has ended."""
    line = next((line for line in (process / "status").read_text().splitlines() if line.startswith(field)), f"{field} 0")
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
