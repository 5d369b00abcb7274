"""More than four times the size: two levels of a pyramid (Burt and Adelson, *The Laplacian Pyramid*, 1983).

Ours, not the paper's. The networks learnt to enlarge by up to `MOST`. Asked for more at once they leave frames softer than
what they make at 4x is after it was enlarged (`docs/model-design/dial.md`, *More than 4x*). So they work at 4x, the lower
level. Only a picture that was given holds finer detail: with one, frames are made at their full size as well, the upper level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import Clip, Reference
from .steps import OnProgress
from .video_codec import crop, upsample

MOST = 4.0  # times the width and the height that the networks enlarge by
ROUNDED = 1.02  # times that: sizes that are asked for need not be whole multiples, and to resample costs more than it brings
APART = 0.03  # of [-1, 1]: how far both levels lie apart where the lower one is believed alone
AROUND = 9  # px of the lower level, a side of the square over which that is looked at


def lower_size(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) at which frames of `source` that are wanted at `size` are worked on: up to `MOST` times, about, `size` itself."""
    enlargement = (math.prod(size) / math.prod(source)) ** 0.5
    if enlargement <= MOST * ROUNDED:
        return size
    h, w = (round(side * MOST / enlargement) for side in size)
    return h, w


def lower(clip: Clip) -> Clip:
    """The clip at its lower level; where there is none, the clip itself."""
    size = lower_size((clip.frames.shape[-2], clip.frames.shape[-1]), clip.size)
    return clip if size == clip.size else replace(clip, size=size)


def as_picture(reference: Reference, size: tuple[int, int]) -> Tensor:
    """A reference as a picture (4, h, w) in [-1, 1], its validity as alpha: as it was fitted, coloured and moved."""
    return crop(torch.cat([reference.image, 2 * reference.valid - 1]), size).float().cpu()


def joined(below: Iterator[Tensor], above: Iterator[Tensor] | None, size: tuple[int, int]) -> Iterator[Tensor]:
    """Finished frames (1, 3, *size) of both levels' frames, (1, 3, h, w) in [-1, 1].   above: None = the lower level, enlarged.

    The upper level's frames are taken as far as they agree with the lower one's. Where they do not no reference reaches, and
    what is coarse is the lower level's.
    """
    for fine, coarse in zip(above or repeat(None), below):
        if fine is None:
            yield _resized(coarse, size).clamp(-1, 1)
            continue
        apart = coarse - _resized(fine, (coarse.shape[-2], coarse.shape[-1]))
        distance = F.avg_pool2d(apart.abs().mean(1, keepdim=True), AROUND, 1, AROUND // 2)
        yield (fine + _resized(apart * (distance / APART).clamp(max=1), size)).clamp(-1, 1)


def _resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, 3, h, w), frames or differences of such."""
    return upsample(frames.unsqueeze(0), size, clamp=False)[0]


class Shown:
    """An `OnProgress` for the upper level, with `again` for the lower one, which goes on beside it: that repeats what was said
    last, so that a bar stands still and a run can be stopped."""

    def __init__(self, report: OnProgress):
        self._report, self._last = report, ("encode", 0, 1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._last = (stage, done, total)
        self._report(stage, done, total)

    def again(self, stage: str, done: int, total: int) -> None:
        self._report(*self._last)
