"""LCA's fast path against dense attention with the same bias, at 32 to 128 squared tokens.

    python benchmarks/local_attention.py [--device cpu] [--variant window] [--sides 32 64 96 128] [--backward]

Each case runs in a process of its own, so that its peak memory is its own. Both paths get one frame, one head
and the same weights; the dense one is left out where its matrices would not fit into the memory that is free.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import bench, chip_name, free_memory_mb, peak_memory_mb  # noqa: E402
from genve_core.controller import LCAConfig, LocalAwareCrossAttention  # noqa: E402

DENSE_COPIES = {"window": 4, "band": 4, "plain": 3}  # about how many N x N float32 matrices live at once
LATENT_CHANNELS = 16


def main() -> None:
    args = parse()
    if args.case:
        print(json.dumps(measure(args)))
        return
    print(f"LCA {args.variant}, d={args.d}, dim={args.dim}, {args.heads} head(s), 1 frame, float32, "
          f"{'forward and backward' if args.backward else 'forward'}, {chip_name(args.device)}")  # fmt: skip
    print(f"{'tokens':>9} {'fast ms':>22} {'fast MiB':>9} {'dense ms':>22} {'dense MiB':>9} {'faster':>7}")
    for side in args.sides:
        fast, dense = run_case(args, side, "fast"), run_case(args, side, "dense")
        ratio = f"{dense['median_ms'] / fast['median_ms']:.1f}x" if "median_ms" in dense else ""
        print(f"{side:>4}x{side:<4} {cell(fast)} {cell(dense)} {ratio:>7}", flush=True)


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--variant", default="window", choices=sorted(DENSE_COPIES))
    p.add_argument("--sides", type=int, nargs="+", default=[32, 64, 96, 128], help="tokens along each side")
    p.add_argument("--d", type=int, default=LCAConfig.d, help="reach of the window or the band, in tokens")
    p.add_argument("--dim", type=int, default=LCAConfig.dim)
    p.add_argument("--heads", type=int, default=1, help="1, because dense memory grows with it")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--backward", action="store_true", help="time the training step's half, too")
    p.add_argument("--case", choices=["fast", "dense"], help=argparse.SUPPRESS)
    return p.parse_args()


def run_case(args: argparse.Namespace, side: int, case: str) -> dict:
    """Measure one case in a fresh process; `{"why": ...}` if it has no figures."""
    needed = DENSE_COPIES[args.variant] * args.heads * side**4 * 4 / 2**20 * (2 if args.backward else 1)
    free = free_memory_mb(args.device)
    if case == "dense" and needed > 0.8 * free:
        return {"why": f"needs {needed:.0f} of {free:.0f} MiB"}
    options = ["--device", args.device, "--variant", args.variant, "--sides", side, "--d", args.d]
    options += ["--dim", args.dim, "--heads", args.heads, "--runs", args.runs, "--case", case]
    command = [sys.executable, __file__, *map(str, options), *(["--backward"] if args.backward else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"why": f"failed ({done.returncode})"}
    return json.loads(done.stdout)


def measure(args: argparse.Namespace) -> dict:
    """Time one case in this process. `extra_mb`: peak above what was held before the first call."""
    torch.manual_seed(0)
    side = args.sides[0]
    config = LCAConfig(args.variant, args.dim, args.heads, args.d, shuffle="off")
    lca = LocalAwareCrossAttention(LATENT_CHANNELS, config).to(args.device)
    z_n, y_n = torch.randn(2, 1, 1, LATENT_CHANNELS, 2 * side, 2 * side, device=args.device)

    def step() -> None:
        with torch.set_grad_enabled(args.backward):
            e = lca(z_n, y_n, dense=args.case == "dense")
        if args.backward:
            e.square().mean().backward()

    before = peak_memory_mb(args.device)
    timing = bench(step, args.device, warmup=1, runs=args.runs)
    return asdict(timing) | {"extra_mb": timing.peak_mb - before}


def cell(case: dict) -> str:
    if "why" in case:
        return f"{case['why']:>32}"
    spread = f"({case['fastest_ms']:.0f}..{case['slowest_ms']:.0f})"
    return f"{case['median_ms']:>10.1f} {spread:>11} {case['extra_mb']:>9.0f}"


if __name__ == "__main__":
    main()
