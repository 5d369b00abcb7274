"""What the graph costs more than `genve_core` called directly, and what a turn of the noise dial costs.

    python benchmarks/node_overhead.py [--size 704x448] [--frames 16] [--runs 5] [--comfyui PATH]

Needs ComfyUI (--comfyui, else COMFYUI_PATH, else ~/comfy/ComfyUI). It is started with the pack in it, and does in turn,
from a video file to finished frames and with loaded weights:

    graph    every stage as a node, queued over HTTP: from the request to the message that it is done
    direct   a node that calls `Enhancer`, in the same process: the seconds inside of that call
    dial     the graph once more with another n

On the CPU. Seconds by the clock, and the CPU's own, which are steadier where others use the machine as well.
Before timing, graph and direct are checked to give the same frames to the bit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from host.graph import (  # noqa: E402
    BUNDLE,
    ENCODE,
    FLOW,
    LCA,
    NOISE,
    REFERENCE,
    SAMPLER,
    SAVE,
    TEMPORAL,
    Prompt,
    graph,
    node,
    source,
)
from host.server import COMFYUI, Host, Result  # noqa: E402
from media_clips import to_bytes, write_clip  # noqa: E402

from benchmarks.enhance import moving_pattern  # noqa: E402
from benchmarks.timing import chip_name  # noqa: E402

CLIP, SCALE = "clip.mkv", 4.0
FROM_NOISE = {NOISE, TEMPORAL, LCA, SAMPLER, "end"}
Seconds = tuple[float, float]  # of the clock, of the CPU


def main() -> None:
    args = parse()
    w, h = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        (where / "custom_nodes").mkdir()
        shutil.copy(ROOT / "benchmarks" / "direct_node.py", where / "custom_nodes" / "genve_direct.py")
        os.environ["GENVE_ROOT"] = str(ROOT)
        with Host(args.comfyui, where) as host:
            write_clip(host.input / CLIP, list(to_bytes(moving_pattern(args.frames, h // 4, w // 4))), pixel_format="bgr0")
            check_equal(host)
            timed = measure(host, args.warmup, args.runs)
    print(f"{args.frames} frames of {w}x{h}, ComfyUI on {chip_name('cpu')}, n={args.runs}")
    for name, seconds in timed.items():
        print(f"{name:>7} {describe([one[0] for one in seconds])} s, CPU {describe([one[1] for one in seconds])} s")
    for name, base in (("graph", "direct"), ("dial", "graph")):
        ratios = [[a[i] / b[i] for a, b in zip(timed[name], timed[base], strict=True)] for i in (0, 1)]
        print(f"{name} / {base}: {describe(ratios[0], 3)}, CPU {describe(ratios[1], 3)}")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", default="704x448", help="of the output, WxH, multiples of 4")
    p.add_argument("--frames", type=int, default=16)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--comfyui", type=Path, default=COMFYUI)
    return p.parse_args()


def stages(n: int = 250) -> Prompt:
    """The graph up to the finished frames; nothing is written."""
    prompt = {**graph(source(CLIP), scale=SCALE, n=n), **kept(), "end": node("GenVEBenchmarkEnd", images=[SAMPLER, 1])}
    del prompt[SAVE]
    return prompt


def direct(run: int) -> Prompt:
    return {**kept(), "direct": node("GenVEBenchmarkDirect", file=CLIP, scale=SCALE, run=run)}


def kept() -> Prompt:
    """Part of every prompt: the host remembers the last prompt only, and would load the bundle anew."""
    return {BUNDLE: node("GenVELoadBundle", bundle="genve-mini"), "kept": node("ProbeSave", value=[BUNDLE, 0], file="kept.pt")}


def check_equal(host: Host) -> None:
    run(host, {**stages(), "save": node("ProbeSave", value=[SAMPLER, 1], file="graph.pt")})
    run(host, {**direct(0), "save": node("ProbeSave", value=["direct", 0], file="direct.pt")})
    if not torch.equal(host.saved("graph.pt"), host.saved("direct.pt")):
        raise SystemExit("the graph's frames are not those of genve_core: nothing to compare")


def measure(host: Host, warmup: int, runs: int) -> dict[str, list[Seconds]]:
    """Seconds of each way, in turn, so that a busy machine slows all alike."""
    timed: dict[str, list[Seconds]] = {"graph": [], "direct": [], "dial": []}
    for i in range(1, warmup + runs + 1):
        os.utime(host.input / CLIP, (i, i))  # a new file for the host: all but the bundle runs anew
        graph_seconds = by_http(host, stages(), {"source", ENCODE, REFERENCE, FLOW, *FROM_NOISE})
        dial_seconds = by_http(host, stages(n=100), FROM_NOISE)
        clock, cpu = run(host, direct(i)).outputs["direct"]["seconds"]
        found = {"graph": graph_seconds, "direct": (clock, cpu), "dial": dial_seconds}
        said = ", ".join(f"{name} {a:.2f} (CPU {b:.2f}) s" for name, (a, b) in found.items())
        print(f"{'warm-up' if i <= warmup else 'run'}: {said}", file=sys.stderr, flush=True)
        if i > warmup:
            for name, seconds in found.items():
                timed[name].append(seconds)
    return timed


def by_http(host: Host, prompt: Prompt, executed: set[str]) -> Seconds:
    """Seconds of a prompt that runs just these nodes."""
    server = psutil.Process(host.process.pid)
    before = server.cpu_times()
    result = run(host, prompt)
    after = server.cpu_times()
    if set(result.executed) != executed:
        raise SystemExit(f"{sorted(result.executed)} were run, wanted {sorted(executed)}")
    return result.seconds, after.user + after.system - before.user - before.system


def run(host: Host, prompt: Prompt) -> Result:
    result = host.run(prompt)
    if result.status != "success":
        raise SystemExit(f"{result.status}: {result.errors}")
    return result


def describe(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
