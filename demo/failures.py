"""Show where genve-mini fails: scenes made for it, each beside its input and its truth, as one labelled picture.

    python demo/failures.py -o bundles/genve-mini/failures.png

The photographs are scikit-image's `astronaut` (NASA, public domain) and `grass` (CC0).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from before_after import COLUMN, LABEL
from make_sample import HEIGHT, KEY_FRAME, SCALE, WIDTH, camera, compress, render, spoil
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genve_core.bundle import DEFAULT_BUNDLE
from genve_core.media import VideoReader
from genve_core.media.eight_bit import as_bytes, to_video
from genve_core.pipeline import enhance
from genve_core.video_codec import upsample

DETAIL = (128, 208)  # (h, w) in pixels of the result; shown enlarged
BIRD = 6  # px of the truth: one and a half of the poor clip


@dataclass(frozen=True)
class Failure:
    """One scene and what to look at."""

    title: str
    truth: np.ndarray  # (f, HEIGHT, WIDTH, 3) uint8
    key: int | None  # the frame whose truth is given, None = no reference
    frame: int  # the one shown
    at: tuple[int, int]  # y, x of the middle of the detail


def texture() -> Failure:
    from skimage.data import grass

    still = render(cv2.cvtColor(grass(), cv2.COLOR_GRAY2RGB), camera(8))
    return Failure("No reference: fine texture is not found again, smears take its place", still, None, 4, (160, 224))


def unseen() -> Failure:
    """The camera sinks by 120 px, so that the lower part of the last frame is not in the key frame."""
    from skimage.data import astronaut

    down = np.linspace(165, 285, 13)
    views = np.stack([np.full(13, 250.0), down, np.ones(13)], axis=1)
    return Failure("One good frame, the first: what it does not show (below) stays soft beside what it does",
                   render(astronaut(), views), 0, 12, (205, 160))


def ghost() -> Failure:
    """A bird that moves by more than its own size from frame to frame, too small and too fast for the flow."""
    from skimage.data import astronaut

    truth = render(astronaut(), camera(KEY_FRAME))
    for i, frame in enumerate(truth):
        cv2.circle(frame, (210 + 14 * i, 60), BIRD // 2, (20, 20, 30), -1, cv2.LINE_AA)
    key = 8
    return Failure("One good frame, five frames earlier: a small bird is lost, where it was then stays a ghost",
                   truth, key, key + 5, (60, 210 + 14 * (key + 2)))


SCENES: tuple[Callable[[], Failure], ...] = (texture, unseen, ghost)


def row(failure: Failure, bundle: str) -> np.ndarray:
    """Its title over three details: input, result, truth."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "poor.mp4"
        compress(spoil(failure.truth), path)
        with VideoReader(path) as video:
            poor = torch.stack([frame.rgb for frame in video])
    given = None if failure.key is None else {failure.key: to_video(failure.truth[failure.key][None])[0]}
    result = enhance(poor, reference=given, bundle=bundle, scale=SCALE)[failure.frame]
    bicubic = upsample(poor[None, failure.frame : failure.frame + 1], (HEIGHT, WIDTH))[0, 0]
    columns = {"input, bicubic": bicubic, "GenVE": result, "truth": to_video(failure.truth[failure.frame][None])[0]}
    head = Image.new("RGB", (COLUMN * len(columns), LABEL), "white")
    ImageDraw.Draw(head).text((6, 5), failure.title, "black", ImageFont.load_default(16))
    details = [_detail(name, frame, failure.at) for name, frame in columns.items()]
    return np.concatenate([np.asarray(head), np.concatenate(details, axis=1)])


def _detail(name: str, frame: Tensor, at: tuple[int, int]) -> np.ndarray:
    pixels = as_bytes(frame[None])[0]
    top, left = (min(max(0, c - d // 2), side - d) for c, d, side in zip(at, DETAIL, (HEIGHT, WIDTH), strict=True))
    part = Image.fromarray(pixels[top : top + DETAIL[0], left : left + DETAIL[1]])
    shown = part.resize((COLUMN, DETAIL[0] * COLUMN // DETAIL[1]), Image.Resampling.LANCZOS)
    ImageDraw.Draw(shown).text((6, 5), name, "white", ImageFont.load_default(16), stroke_width=1, stroke_fill="black")
    return np.asarray(shown)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Show where a bundle fails.")
    parser.add_argument("-o", "--output", type=Path, default=Path("failures.png"))
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|PATH")
    args = parser.parse_args(arguments)
    Image.fromarray(np.concatenate([row(scene(), args.bundle) for scene in SCENES])).save(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
