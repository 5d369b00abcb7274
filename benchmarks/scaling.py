"""Is `enhance` linear in frames and in pixels?

    python benchmarks/scaling.py [--bundle genve-mini] [--frames 16 48 160 480] [--sizes 352x224 704x448 1408x896]

Counts of frames are compared at the first size, sizes at the first count; seconds per frame, and per frame and
megapixel, against the first of each. All cases of a round run in turn, so that a ratio compares what ran side by side.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.enhance import moving_pattern  # noqa: E402
from benchmarks.timing import chip_name  # noqa: E402
from genve_core.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from genve_core.memory import keep_freed_memory  # noqa: E402
from genve_core.models import Models  # noqa: E402
from genve_core.pipeline import EnhanceConfig, Enhancer  # noqa: E402

Case = tuple[int, int, int]  # frames, width, height


def main() -> None:
    args = parse()
    keep_freed_memory()  # as the command line does
    sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in args.sizes)]
    by_frames = [(frames, *sizes[0]) for frames in args.frames]
    by_size = [(args.frames[0], *size) for size in sizes]
    cases = list(dict.fromkeys([*by_frames, *by_size]))
    models = Models(load_bundle(args.bundle), args.device)
    for size in sizes:  # warm-up: what is made once for a size is made now
        seconds_of(models, (args.frames[0], *size))
    seconds: dict[Case, list[float]] = {case: [] for case in cases}
    for _ in range(args.runs):
        for case in cases:
            seconds[case].append(seconds_of(models, case))
    print(f"{'bf16' if models.bf16 else 'float32'}, {chip_name(models.device.type)}, median of {args.runs} (spread)")
    report("frames", by_frames, seconds)
    report("pixels", by_size, seconds)


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", default=DEFAULT_BUNDLE)
    p.add_argument("--frames", type=int, nargs="+", default=[16, 48, 160, 480])
    p.add_argument("--sizes", nargs="+", default=["352x224", "704x448", "1408x896"], help="of the output, WxH")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--device", default="auto")
    return p.parse_args()


def seconds_of(models: Models, case: Case) -> float:
    """Of one run of `enhance` from frames in memory to frames in memory, loading left out."""
    frames, w, h = case
    enhancer = Enhancer(models, EnhanceConfig(size=(h, w)))
    for _ in enhancer.run(moving_pattern(frames, h // 4, w // 4)):
        pass
    return sum(enhancer.seconds.values())


def report(what: str, cases: list[Case], seconds: dict[Case, list[float]]) -> None:
    """A line a case: seconds per frame and megapixel, and the ratio to the first case, round by round."""
    def rates(case: Case) -> list[float]:
        frames, w, h = case
        return [s / frames / (w * h / 1e6) for s in seconds[case]]

    first = rates(cases[0])
    for case in cases:
        mine = rates(case)
        ratios = [rate / base for rate, base in zip(mine, first, strict=True)]
        per_frame = statistics.median(seconds[case]) / case[0]
        print(f"{what}: {case[0]:>4} frames of {case[1]}x{case[2]}: {per_frame:.3f} s per frame, "
              f"{statistics.median(mine):.2f} per megapixel ({min(mine):.2f}..{max(mine):.2f}), "
              f"{statistics.median(ratios):.3f} of the first ({min(ratios):.3f}..{max(ratios):.3f})")


if __name__ == "__main__":
    main()
