"""Calls into torch's kernels per frame of `enhance`, by stage: what a GPU waits for, counted on any machine.

    python benchmarks/calls.py [--bundle genve-mini] [--size 1280x720] [--frames 32] [--chunk 8] [--precision bf16]

The clip is that of `enhance.py`; the reference is made from it. `--chunk 8` is what a GPU is given of 1280x720
(`settings.at_once`). Calls that look at a tensor otherwise, and conversions that change nothing, are left out. It says
nothing of time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.enhance import moving_pattern  # noqa: E402
from genve_core.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from genve_core.pipeline import EnhanceConfig, Enhancer  # noqa: E402

# they make no tensor, or one of the same memory, or memory without contents
IDLE = {
    "view", "slice", "select", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "split", "split_with_sizes",
    "as_strided", "detach", "alias", "chunk", "unbind", "narrow", "movedim", "diagonal", "unfold", "unflatten", "meshgrid",
    "size", "is_floating_point", "is_same_size", "item", "_local_scalar_dense", "lift_fresh", "_reshape_alias",
    "_unsafe_view", "unsafe_split", "_has_compatible_shallow_copy_type", "empty", "empty_like", "empty_strided",
    "new_empty",
}
PERHAPS = {"to", "flatten", "reshape", "contiguous", "float", "type_as", "dropout"}  # idle where the result is the input


class Calls(TorchDispatchMode):
    """Counts calls while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        same = name in PERHAPS and isinstance(result, torch.Tensor) and result.data_ptr() == args[0].data_ptr()
        self.made += name not in IDLE and not same
        return result


class Counted(Enhancer):
    """Whose `seconds` are calls."""

    calls: Calls

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        before = self.calls.made
        yield
        self.seconds[stage] = self.seconds.get(stage, 0) + self.calls.made - before


def main() -> None:
    args = parse()
    w, h = (int(side) for side in args.size.split("x"))
    enhancer = Counted(load_bundle(args.bundle), EnhanceConfig(size=(h, w), chunk=args.chunk, precision=args.precision), "cpu")
    clip = moving_pattern(args.frames, h // 4, w // 4)
    enhancer.calls = Calls()
    for _ in enhancer.run(clip[:2]):  # what is made once is made now
        pass
    with enhancer.calls:
        for _ in enhancer.run(clip):
            pass
    print(f"calls per frame, {args.frames} frames of {args.size}, {args.chunk} at once, {args.precision}, "
          f"torch {torch.__version__}")
    for stage, calls in {**enhancer.seconds, "all": sum(enhancer.seconds.values())}.items():
        print(f"{stage:>10} {calls / args.frames:.0f}")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", default=DEFAULT_BUNDLE)
    p.add_argument("--size", default="1280x720", help="of the output, WxH")
    p.add_argument("--frames", type=int, default=32)
    p.add_argument("--chunk", type=int, default=8, help="frames worked on at once")
    p.add_argument("--precision", default="bf16")
    return p.parse_args()


if __name__ == "__main__":
    main()
