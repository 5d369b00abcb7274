"""Give the reference the key frame's colours, without taking the reference's contrast in detail."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

COARSE = 24  # cells along the shorter side over which colours are averaged before they are compared
GAIN = (0.5, 2.0)  # limits of the contrast change, for flat pictures
# What a codec does to a key frame's colours is no reason to change those of a good picture: Oklab units (about 2 grey levels;
# a difference starts to show at 0.02), and the logarithm of a ratio of spreads (codecs cost colour, hardly lightness)
TOLERANCE = 0.006
GAIN_TOLERANCE = 0.14

# Oklab (Ottosson 2020): a space in which equal steps look equal, lightness apart from hue
LMS_OF_RGB = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
LAB_OF_LMS = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def match_colour(image: Tensor, key_frame: Tensor, valid: Tensor) -> Tensor:
    """Shift and scale `image`'s Oklab channels so that mean and spread are the key frame's, within the tolerances above.

    image, key_frame: (3, h, w) in [-1, 1].   valid: (1, h, w), 1 where the image says something; both
    pictures are compared there only. Both are averaged to a coarse grid first: a poor key frame has lost
    fine contrast, and compared pixel by pixel the match would take it from the reference as well.
    Returns (3, h, w) in [-1, 1].
    """
    weight = _coarse(valid.float())
    mean, deviation = _statistics(image.float() * valid, weight)
    mean_key, deviation_key = _statistics(key_frame.float() * valid, weight)
    gain = F.softshrink((deviation_key / deviation.clamp_min(1e-4)).clamp(*GAIN).log(), GAIN_TOLERANCE).exp()
    shift = F.softshrink(mean_key - mean, TOLERANCE)
    return _from_oklab((_to_oklab(image) - mean) * gain + mean + shift)


def _coarse(x: Tensor) -> Tensor:
    """Average over cells: (c, h, w) -> (c, about COARSE, ...)."""
    shrink = max(1.0, min(x.shape[-2:]) / COARSE)
    size = [max(1, round(side / shrink)) for side in x.shape[-2:]]
    return F.interpolate(x[None], size=size, mode="area")[0]


def _statistics(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per Oklab channel, (3, 1, 1) each, of the coarse grid.

    Averaged before the conversion: Oklab's cube root would turn noise in dark parts into brightness.
    """
    lab = _to_oklab(_coarse(image) / weight.clamp_min(1e-6))
    total = weight.sum()
    mean = (lab * weight).sum((-2, -1), keepdim=True) / total
    variance = ((lab - mean).square() * weight).sum((-2, -1), keepdim=True) / total
    return mean, variance.sqrt()


def _to_oklab(image: Tensor) -> Tensor:
    rgb = ((image.float() + 1) / 2).clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return _mix(LAB_OF_LMS, _mix(LMS_OF_RGB, linear).clamp_min(0) ** (1 / 3))


def _from_oklab(lab: Tensor) -> Tensor:
    lms = _mix(_inverse(LAB_OF_LMS), lab) ** 3
    linear = _mix(_inverse(LMS_OF_RGB), lms).clamp(0, 1)
    rgb = torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    )
    return rgb * 2 - 1


def _mix(matrix: tuple[tuple[float, ...], ...], x: Tensor) -> Tensor:
    return torch.einsum("ij,jhw->ihw", x.new_tensor(matrix), x)


def _inverse(matrix: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, torch.tensor(matrix, dtype=torch.float64).inverse().tolist()))
