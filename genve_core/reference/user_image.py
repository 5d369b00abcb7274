"""A user's image as the reference: any size, aspect, mode and rotation, fitted to the key frame's grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from .colour_match import match_colour
from .picture_file import read_picture

Fit = Literal["cover", "contain", "stretch"]
SMALLEST = 8  # px, one latent position
ASPECT_TOLERANCE = 3  # %, of another aspect that is not worth a word


@dataclass(frozen=True)
class FittedReference:
    """A reference on the grid of the up-sampled video."""

    image: Tensor
    """(3, h, w) float32 in [-1, 1]. Around the picture its nearest colour, where transparent its mean."""

    valid: Tensor
    """(1, h, w) float32: 1 where the user's image reaches and is opaque, else 0."""

    notes: tuple[str, ...] = ()
    """What the user should know, one line each: animation, transparency, another aspect."""


def fit_reference(
    source: str | Path | Tensor, size: tuple[int, int], *, fit: Fit = "cover", match_to: Tensor | None = None
) -> FittedReference:
    """Read a picture and bring it to `size` = (h, w) in pixels.

    source: a picture file, or a tensor (3, h, w), or (4, h, w) with alpha last, in [-1, 1].
    fit: "cover" fills the frame and cuts off what sticks out, evenly on both sides; "contain" shows the whole
        picture, the rest of the frame is not valid; "stretch" gives up the aspect.
    match_to: the key frame (3, h, w) in [-1, 1] at that size, to take colours from; None keeps the picture's.
    Resampling is Lanczos, anti-aliased. Transparent pixels (alpha below one half) are not valid.
    Raises InputError for an unreadable picture, one with a side below 8 px, NaN, values out of range, or all
    transparent.
    """
    if fit not in get_args(Fit):
        raise InputError(f"fit must be one of {get_args(Fit)}, got {fit!r}")
    if min(size) < 1:
        raise InputError(f"the reference's target size must be at least 1x1 px, got {size[1]}x{size[0]}")
    picture, notes = (_checked(source), ()) if isinstance(source, Tensor) else read_picture(source)
    h, w = picture.shape[-2:]
    if min(h, w) < SMALLEST:
        raise InputError(f"the reference is {w}x{h} px, but each side must be at least {SMALLEST} px")
    opaque = 1.0 if len(picture) == 3 else float(((picture[3:] + 1) / 2 >= 0.5).float().mean())
    if opaque == 0:
        raise InputError("the reference is transparent everywhere; give a picture with opaque parts")
    if opaque < 1:
        notes += (f"{max(1, round(100 * (1 - opaque)))} % of the reference is transparent and not used",)
    notes += _aspect_notes((h, w), size, fit)
    image, valid = _place(picture, size, fit)
    if match_to is not None:
        if match_to.shape != image.shape:
            raise ValueError(f"match_to must be {tuple(image.shape)}, got {tuple(match_to.shape)}")
        image = match_colour(image, match_to.float().cpu(), valid)
    return FittedReference(image, valid, notes)


def _aspect_notes(picture: tuple[int, int], frame: tuple[int, int], fit: Fit) -> tuple[str, ...]:
    """What became of a picture of another aspect; both sizes are (h, w)."""
    share = picture[1] * frame[0] / (picture[0] * frame[1])
    lost = round(100 * (1 - min(share, 1 / share)))
    if lost <= ASPECT_TOLERANCE:
        return ()
    happened = {"cover": f"{lost} % of it is cut off", "contain": f"{lost} % of the frame is without reference",
                "stretch": "it is stretched"}[fit]
    return (f"the reference is {picture[1]}x{picture[0]} px, of another aspect than the frame's {frame[1]}x{frame[0]}: "
            f"{happened} (fit {fit})",)


def _checked(picture: Tensor) -> Tensor:
    if picture.ndim != 3 or picture.shape[0] not in (3, 4):
        raise InputError(f"a reference must be (3, h, w) or (4, h, w), got {tuple(picture.shape)}")
    picture = picture.detach().float().cpu()
    if not bool(picture.isfinite().all()):
        raise InputError("the reference holds NaN or infinite values; give a picture without")
    low, high = float(picture.min()), float(picture.max())
    if low < -1.01 or high > 1.01:
        raise InputError(f"a reference tensor must be in [-1, 1], got values in [{low:g}, {high:g}]")
    return picture.clamp(-1, 1)


def _place(picture: Tensor, size: tuple[int, int], fit: Fit) -> tuple[Tensor, Tensor]:
    """Picture (3 or 4, h, w) -> image (3, *size) and valid (1, *size)."""
    h, w = picture.shape[-2:]
    scale = (max if fit == "cover" else min)(size[0] / h, size[1] / w)
    if fit == "contain":
        inner = min(size[0], max(1, round(h * scale))), min(size[1], max(1, round(w * scale)))
    else:
        inner = size
    # the part of the picture that is shown, in its own pixels; fractions allowed
    part_h, part_w = (min(h, size[0] / scale), min(w, size[1] / scale)) if fit == "cover" else (h, w)
    box = ((w - part_w) / 2, (h - part_h) / 2, (w + part_w) / 2, (h + part_h) / 2)
    image, valid = _resample(picture, inner, box)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    rows = (torch.arange(size[0]) - top).clamp(0, inner[0] - 1)
    columns = (torch.arange(size[1]) - left).clamp(0, inner[1] - 1)
    reach = torch.zeros(1, *size)
    reach[:, top : top + inner[0], left : left + inner[1]] = valid
    return image[:, rows][:, :, columns], reach


def _resample(
    picture: Tensor, size: tuple[int, int], box: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor]:
    """Lanczos, with colours weighted by alpha, so that what hides under transparent pixels does not bleed."""
    if len(picture) == 3:
        return _lanczos(picture, size, box).clamp(-1, 1), torch.ones(1, *size)
    alpha = (picture[3:] + 1) / 2
    weight = _lanczos(alpha, size, box)
    valid = (weight >= 0.5).float()
    colour = _lanczos(picture[:3] * alpha, size, box) / weight.clamp_min(0.5)
    mean = (picture[:3] * alpha).sum((1, 2), keepdim=True) / alpha.sum()
    return torch.where(valid > 0, colour, mean).clamp(-1, 1), valid


def _lanczos(planes: Tensor, size: tuple[int, int], box: tuple[float, float, float, float]) -> Tensor:
    """(c, h, w) -> (c, *size) in float32: Pillow widens the kernel when it shrinks; torch has no Lanczos."""
    resized = [
        Image.fromarray(plane.numpy()).resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box)
        for plane in planes.contiguous()
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in resized]))
