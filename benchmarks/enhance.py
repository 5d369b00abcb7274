"""Seconds per frame and peak memory of `enhance`, by stage.

    python benchmarks/enhance.py [--bundle genve-mini] [--size 704x448] [--frames 16] [--runs 3] [--device auto] [--chunk 2]
        [--preclean 0]

The clip is a pattern that moves, a quarter of the target's size; the reference is made from the clip. Memory is
that of the process above what it held with the weights loaded (CPU), or torch's peak (GPU). Loading is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import chip_name, peak_memory_mb  # noqa: E402
from genve_core.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from genve_core.memory import keep_freed_memory  # noqa: E402
from genve_core.pipeline import EnhanceConfig, Enhancer  # noqa: E402


def main() -> None:
    args = parse()
    keep_freed_memory()  # as the command line does
    w, h = (int(side) for side in args.size.split("x"))
    config = EnhanceConfig(size=(h, w), steps=args.steps, chunk=args.chunk, preclean=args.preclean)
    enhancer = Enhancer(load_bundle(args.bundle), config, args.device)
    device = enhancer.device.type
    clip = moving_pattern(args.frames, h // 4, w // 4)
    for _ in enhancer.run(clip[:4]):  # warm-up
        pass
    held = peak_memory_mb(device) if device == "cpu" else 0.0
    runs = []
    for _ in range(args.runs):
        for _ in enhancer.run(clip):
            pass
        runs.append(dict(enhancer.seconds))
    print(f"enhance, {args.frames} frames of {w}x{h}, {args.chunk} at once, {enhancer.steps} step(s), "
          f"{'bf16' if enhancer.models.bf16 else 'float32'}, {chip_name(device)}, n={args.runs}")
    for stage in runs[0]:
        report(stage, [run[stage] / args.frames for run in runs])
    report("all", [sum(run.values()) / args.frames for run in runs])
    print(f"peak memory {peak_memory_mb(device):.0f} MiB, {peak_memory_mb(device) - held:.0f} above a run of 4 frames")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", default=DEFAULT_BUNDLE)
    p.add_argument("--size", default="704x448", help="of the output, WxH")
    p.add_argument("--frames", type=int, default=16)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--steps", type=int, default=None)
    p.add_argument("--device", default="auto")
    p.add_argument("--preclean", type=float, default=EnhanceConfig.preclean)
    p.add_argument("--chunk", type=int, default=EnhanceConfig.chunk, help="frames encoded or decoded at once")
    return p.parse_args()


def moving_pattern(frames: int, h: int, w: int) -> torch.Tensor:
    """Texture that pans by one pixel a frame: (frames, 3, h, w) in [-1, 1]."""
    texture = torch.rand(3, h, w + frames, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.stack([texture[:, :, i : i + w] for i in range(frames)])


def report(stage: str, seconds: list[float]) -> None:
    spread = f"{min(seconds):.3f}..{max(seconds):.3f}"
    print(f"{stage:>10} {statistics.median(seconds):.3f} s per frame ({spread})")


if __name__ == "__main__":
    main()
