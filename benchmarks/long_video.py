"""Memory of `genve enhance` along a long video, and how its segments and windows join.

    python benchmarks/long_video.py [--clips FILE ...] [--frames 1000] [--size 96x64] [--scale 2] [--segment 96] [--shot 150]

The video is made of the clips, reduced to `size`; each runs forwards and backwards for `shot` frames, then the next is cut
to. Without clips: a pan, a still scene and a fast pan of our own. The command runs as a process of its own; after each of its
pieces the most memory that it held during the piece is taken. The seam score is the change from frame to frame where
segments (or windows) meet, over the mean change of the frames around, divided by the same of the input: motion that happens
to be fast there counts in both (1 = as smooth as elsewhere). Needs Linux.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import chip_name  # noqa: E402
from genve_core.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from genve_core.diffuser.windows import windows  # noqa: E402
from genve_core.film import Film, scan  # noqa: E402
from genve_core.media import VideoReader, VideoWriter, probe  # noqa: E402
from genve_core.pipeline import EnhanceConfig, Enhancer  # noqa: E402

AROUND = 4  # frames on either side with which the change at a border is compared
LEAST = 0.05 / 127.5  # a twentieth of an 8-bit step: below it, a still scene's change is rounding


def main() -> None:
    args = parse()
    w, h = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "long.mkv", Path(folder) / "out.mkv"
        write_source(source, scenes(args.clips, h, w), args.frames, args.shot)
        begin = time.perf_counter()
        peaks = run([str(source), "-o", str(result), "--lossless", "--scale", str(args.scale), "--bundle", args.bundle,
                     "--segment", str(args.segment)])
        seconds = time.perf_counter() - begin
        with VideoReader(source) as video:
            film = scan(video)
        print(f"{args.frames} frames of {args.size}, scale {args.scale:g}, segments of about {args.segment}, "
              f"{len(film.shots)} shots, {len(peaks)} pieces, {seconds / args.frames:.3f} s per frame, {chip_name('cpu')}")
        report_memory(peaks)
        report_seams(film, source, result, Enhancer(load_bundle(args.bundle), EnhanceConfig(segment=args.segment), "cpu"))


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=Path, nargs="*", default=[])
    p.add_argument("--frames", type=int, default=1000)
    p.add_argument("--size", default="96x64", help="of the input, WxH")
    p.add_argument("--scale", type=float, default=2.0)
    p.add_argument("--segment", type=int, default=96)
    p.add_argument("--shot", type=int, default=150, help="frames until the next clip is cut to")
    p.add_argument("--bundle", default=DEFAULT_BUNDLE)
    return p.parse_args()


def scenes(clips: list[Path], h: int, w: int) -> list[Tensor]:
    """Each (f, 3, h, w) in [-1, 1], of at most 48 frames."""
    if clips:
        found = []
        for clip in clips:
            with VideoReader(clip) as video:
                frames = torch.stack([frame.rgb for frame in video.frames(stop=48)])
            found.append(F.interpolate(frames, size=(h, w), mode="area"))
        return found
    made = []
    for seed, speed in enumerate((1, 0, 5)):
        coarse = torch.rand(1, 3, h // 6, (w + 48 * speed) // 6, generator=torch.Generator().manual_seed(seed))
        texture = F.interpolate(coarse * 2 - 1, size=(h, w + 48 * speed), mode="bicubic")[0].clamp(-1, 1)
        made.append(torch.stack([texture[..., speed * i : speed * i + w] for i in range(48)]))
    return made


def write_source(path: Path, parts: list[Tensor], frames: int, shot: int) -> None:
    h, w = parts[0].shape[-2:]
    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image

        Image.new("RGB", (w, h)).save(Path(folder) / "0.png")
        like = probe(folder)
    with VideoWriter(path, like, width=w, height=h, lossless=True) as out:
        for i in range(frames):
            part, at = parts[i // shot % len(parts)], i % shot
            there, back = divmod(at, len(part) - 1)
            out.write(part[len(part) - 1 - back if there % 2 else back], Fraction(i, 25))


def run(arguments: list[str]) -> list[float]:
    """`genve enhance`; the peak of its memory in MiB during each piece."""
    command = [sys.executable, "-m", "genve_core", "enhance", *arguments]
    peaks: list[float] = []
    now = 0.0
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        def watch() -> None:
            nonlocal now
            while process.poll() is None:
                now = max(now, resident_mb(process.pid))
                time.sleep(0.02)

        threading.Thread(target=watch, daemon=True).start()
        assert process.stderr is not None
        for line in process.stderr:
            if re.match(r"(\d+/\d+ )?decode: ", line):
                peaks.append(now)
                now = 0.0
    if process.returncode:
        raise SystemExit(f"genve enhance ended with {process.returncode}")
    return peaks


def resident_mb(pid: int) -> float:
    """What a process holds in memory now, in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmRSS")), 0.0)


def report_memory(peaks: list[float]) -> None:
    tenth = max(1, len(peaks) // 10)
    early, late = peaks[tenth : max(tenth + 1, len(peaks) // 2)], peaks[-tenth:]
    print(f"peak memory of the second to fifth tenth {max(early):.0f} MiB, of the last tenth {max(late):.0f} "
          f"MiB ({max(late) / max(early) - 1:+.1%})")
    print("by piece: " + " ".join(f"{peak:.0f}" for peak in peaks))


def changes(path: Path) -> Iterator[float]:
    """Mean absolute change of each frame against the one before; the first's is 0."""
    with VideoReader(path) as video:
        before = None
        for frame in video:
            yield 0.0 if before is None else float((frame.rgb - before).abs().mean())
            before = frame.rgb


def report_seams(film: Film, source: Path, result: Path, enhancer: Enhancer) -> None:
    before, after = list(changes(source)), list(changes(result))
    assert len(after) == len(film), f"{len(film)} frames went in, {len(after)} came out"
    for name in ("segments", "windows"):
        scores = []
        for shot in film.shots:
            spans = ([s.own for s in enhancer.segments(len(shot))] if name == "segments"
                     else windows(len(shot), enhancer.config.window))
            borders = [span.start for span in spans[1:]]
            if borders:
                rows = slice(shot.start, shot.stop)
                scores.append(seam_score(after[rows], borders) / seam_score(before[rows], borders))
        if scores:
            print(f"seam score of {name}: mean {statistics.mean(scores):.3f}, by shot "
                  + " ".join(f"{score:.3f}" for score in scores))


def seam_score(change: list[float], borders: list[int]) -> float:
    """Mean over a shot's borders of the change there over the mean change of the frames around that are no border."""
    ratios = []
    for b in borders:
        others = [change[i] for i in range(max(1, b - AROUND), min(len(change), b + AROUND + 1)) if i not in borders]
        ratios.append((change[b] + LEAST) / (statistics.mean(others) + LEAST))
    return statistics.mean(ratios)


if __name__ == "__main__":
    main()
