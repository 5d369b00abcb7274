"""At which size the networks work, and how the wanted size comes of it.

Ours, not the paper's. The networks learnt to enlarge by `LEARNT`. What they make at one of these and is resized afterwards is
more faithful and crisper than what they make at another scale (`docs/model-design/dial.md`, *More than 4x* and *Between the
scales*). A picture that was given has detail that another size would blur: with one they work at the wanted size itself, and
where that is more than 4x at 4x as well. These are two levels of a pyramid (Burt and Adelson, *The Laplacian Pyramid*, 1983).
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

LEARNT = (1.0, 2.0, 4.0)  # times the width and the height
ROUNDED = 1.02  # sizes that are asked for need not be whole multiples; to resample by so little costs more than it brings
DEAR = 1.6  # times each side of the wanted size: no work is done at larger ones, unless that is asked for
FINER = 1.3  # times the wanted scale at the least where it is
APART = 0.03  # of [-1, 1]: how far both levels lie apart where the lower one is believed alone
AROUND = 9  # px of the lower level, a side of the square over which that is looked at


def worked_size(source: tuple[int, int], size: tuple[int, int], given: bool, supersample: bool = False) -> tuple[int, int]:
    """(h, w) at which frames of `source` that are wanted at `size` are worked on; often `size` itself.

    given: a picture is; then only 4x of what is wanted larger counts.   supersample: see `EnhanceConfig`.
    """
    wanted = (math.prod(size) / math.prod(source)) ** 0.5
    scale = min(wanted, LEARNT[-1]) if given else _scale(wanted, supersample)
    if 1 / ROUNDED < scale / wanted < ROUNDED:
        return size
    h, w = (max(8, round(side * scale / wanted)) for side in size)
    return h, w


def _scale(wanted: float, supersample: bool) -> float:
    """Of `LEARNT` the next that is no less, as long as it is not dear, or the one below; `wanted` where that is best."""
    least = wanted * FINER if supersample else wanted / ROUNDED
    above = next((scale for scale in LEARNT if scale >= least), LEARNT[-1])
    if supersample or (wanted > 1 and above <= DEAR * wanted):
        return above
    return 2.0 if wanted > 2 else wanted


def worked(clip: Clip, given: bool, supersample: bool = False) -> Clip:
    """The clip at the size at which it is worked on; the clip itself where that is its own."""
    size = worked_size((clip.frames.shape[-2], clip.frames.shape[-1]), clip.size, given, supersample)
    return clip if size == clip.size else replace(clip, size=size)


def as_picture(reference: Reference, size: tuple[int, int]) -> Tensor:
    """A reference as a picture (4, h, w) in [-1, 1], its validity as alpha: as it was fitted, coloured and moved."""
    return crop(torch.cat([reference.image, 2 * reference.valid - 1]), size).float().cpu()


def joined(below: Iterator[Tensor], above: Iterator[Tensor] | None, size: tuple[int, int]) -> Iterator[Tensor]:
    """Finished frames (1, 3, *size) of both levels' frames, (1, 3, h, w) in [-1, 1].   above: None = the other ones, resized.

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
