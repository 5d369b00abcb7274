"""Whether windows and tiles show: the same clip in one and in several, held against the clip itself.

    python benchmarks/seams.py [--clips FILE ...] [--size 96x64] [--scale 2] [--bundle genve-mini] [--tiles WxH]

Windows: 32 frames (as many as genve-mini's motion modules know) as 1, 2, 4 and 8 windows. The score is the change from frame
to frame where windows meet, over that of the frames around, divided by the same of the input and of the truth; 1 = as smooth
as elsewhere. A score of one window, which has no borders, is taken at the borders of the others: what it differs from 1 by is
the clip's own, and what the windows add is the quotient of the two scores.

Tiles (`--tiles`, size of the output): one frame-wise run with the VAE, the decoder or the diffuser in tiles, and one without.
The score is the step across the borders of the tiles over that of the pixels around, divided by the same of the run without.

`clips` are good videos: reduced to the output's size they are the truth, and reduced to `size` the input. Without clips: our
own pan, still scene and fast pan, which have no truth of their own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.enhance import moving_pattern  # noqa: E402
from benchmarks.long_video import scenes  # noqa: E402
from benchmarks.timing import chip_name  # noqa: E402
from genve_core.bundle import DEFAULT_BUNDLE, Bundle, load_bundle  # noqa: E402
from genve_core.decoder.tiles import tiles  # noqa: E402
from genve_core.diffuser.tiles import latent_tiles  # noqa: E402
from genve_core.diffuser.windows import WindowConfig, windows  # noqa: E402
from genve_core.pipeline import EnhanceConfig, Enhancer  # noqa: E402
from genve_core.video_codec import TilingConfig, upsample  # noqa: E402

FRAMES = 32
WINDOWS = {1: WindowConfig(32, 0), 2: WindowConfig(18, 4), 4: WindowConfig(11, 4), 8: WindowConfig(6, 2)}
NEAR = 4  # frames on either side with which the change at a border is compared
LEAST = 0.05 / 127.5  # a twentieth of an 8-bit step: below it, a still scene's change is rounding
AROUND = 8  # px on either side with which the step at a border is compared
SMALLEST = TilingConfig(tile=256, overlap=64, decode=512, diffuse=512)


def main() -> None:
    args = parse()
    bundle = load_bundle(args.bundle)
    w, h = (int(side) for side in args.size.split("x"))
    size = round(h * args.scale), round(w * args.scale)
    print(f"{args.bundle}, {FRAMES} frames of {args.size}, scale {args.scale:g}, {chip_name('cpu')}")
    names = [clip.stem[:24] for clip in args.clips] or ["pan", "still", "fast pan"]
    made = scenes(args.clips, *(size if args.clips else (h, w)))
    for name, frames in zip(names, made, strict=True):
        good = frames[:FRAMES]
        report_windows(bundle, name, F.interpolate(good, size=(h, w), mode="area"), good if args.clips else None, size)
    if args.tiles:
        width, height = (int(side) for side in args.tiles.split("x"))
        report_tiles(bundle, (height, width))


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=Path, nargs="*", default=[])
    p.add_argument("--size", default="96x64", help="of the input, WxH")
    p.add_argument("--scale", type=float, default=2.0)
    p.add_argument("--bundle", default=DEFAULT_BUNDLE)
    p.add_argument("--tiles", help="score tiles at this size of the output, WxH, above 512 px")
    return p.parse_args()


def changes(frames: Tensor) -> list[float]:
    """Mean absolute change of each frame (f, 3, h, w) against the one before; the first's is 0."""
    return [0.0, *(frames[1:] - frames[:-1]).abs().mean((1, 2, 3)).tolist()]


def report_windows(bundle: Bundle, name: str, poor: Tensor, truth: Tensor | None, size: tuple[int, int]) -> None:
    """One line for each number of windows."""
    results = {}
    for count, window in WINDOWS.items():
        assert len(windows(FRAMES, window)) == count
        enhancer = Enhancer(bundle, EnhanceConfig(size=size, window=window, key_frame=FRAMES // 2), "cpu")
        results[count] = torch.cat(list(enhancer.run(poor)))
    bicubic = upsample(poor.unsqueeze(0), size)[0]
    for count in [count for count in WINDOWS if count > 1]:
        borders = [span.start for span in windows(FRAMES, WINDOWS[count])[1:]]
        several, one, clip = (seam_score(changes(x), borders) for x in (results[count], results[1], bicubic))
        line = (f"{name:>24} {count} windows: {several / clip:.3f} of the input's, one window there {one / clip:.3f}, "
                f"several / one {several / one:.3f}")
        if truth is not None:
            line += f", truth there {seam_score(changes(truth), borders) / clip:.3f} of the input's"
        apart = (results[count] - results[1]).abs()
        print(f"{line}; frames differ by {apart.mean() * 127.5:.3f} grey levels, {apart.max() * 127.5:.1f} at most", flush=True)


def seam_score(change: list[float], borders: list[int]) -> float:
    """Mean over the borders of the change there over the mean change of the frames around that are no border."""
    ratios = []
    for b in borders:
        others = [change[i] for i in range(max(1, b - NEAR), min(len(change), b + NEAR + 1)) if i not in borders]
        ratios.append((change[b] + LEAST) / (statistics.mean(others) + LEAST))
    return statistics.mean(ratios)


def report_tiles(bundle: Bundle, size: tuple[int, int]) -> None:
    """One line for each kind of tiles."""
    h, w = size
    poor = moving_pattern(2, h // 4, w // 4)
    poor = F.avg_pool2d(F.pad(poor, (1, 1, 1, 1), mode="reflect"), 3, 1)  # no noise from pixel to pixel

    def run(tiling: TilingConfig, precision: str) -> Tensor:
        config = EnhanceConfig(size=size, tiling=tiling, key_frame=0, precision=precision)
        return torch.cat(list(Enhancer(bundle, config, "cpu").run(poor)))

    usual = TilingConfig(tile=2048, decode=4096, diffuse=4096)
    kinds = {"VAE": replace(usual, tile=SMALLEST.tile, overlap=SMALLEST.overlap),
             "decoder": replace(usual, decode=SMALLEST.decode), "diffuser": replace(usual, diffuse=SMALLEST.diffuse)}
    for precision in ("float32", "auto"):
        whole = run(usual, precision)
        for kind, tiling in kinds.items():
            found, columns = run(tiling, precision), border_columns(kind, size, tiling)
            apart = (found - whole).abs()
            score = step(found, columns) / step(whole, columns)
            print(f"tiles of the {kind}, {w}x{h}, {precision}: seam score {score:.4f} at columns {columns}, frames differ by "
                  f"{apart.mean() * 127.5:.4f} grey levels, {apart.max() * 127.5:.3f} at most", flush=True)


def border_columns(kind: str, size: tuple[int, int], tiling: TilingConfig) -> list[int]:
    """Where tiles begin, and for cross-faded ones where the fade is half way, in pixels from the left."""
    if kind == "decoder":
        return sorted({tile.own_columns.start for tile in tiles(size, tiling.decode**2)} - {0})
    if kind == "diffuser":
        spans = sorted({(tile.columns.start * 8, tile.columns.stop * 8)
                        for tile in latent_tiles((size[0] // 8, size[1] // 8), tiling)})
    else:
        spans = [(s.start * 8, s.stop * 8) for s in windows(size[1] // 8, WindowConfig(tiling.tile // 8, tiling.overlap // 8))]
    return [(following[0] + before[1]) // 2 for before, following in zip(spans, spans[1:])]


def step(frames: Tensor, columns: list[int]) -> float:
    """Mean over borders of the step across a column, over the mean of the steps around it."""
    steps = (frames[..., 1:] - frames[..., :-1]).abs().mean((0, 1, 2))
    ratios = [steps[c - 1] / torch.cat([steps[c - 1 - AROUND : c - 1], steps[c : c + AROUND]]).mean() for c in columns]
    return float(torch.stack(ratios).mean())


if __name__ == "__main__":
    main()
