"""Whether latents show a clip: those of another VAE or another clip can have the same shape."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from .clip import Clip
from .models import Models
from .vae import MiniVAE

SIDE = 128  # px of the middle of the frame that is looked at
# Measured on two validation clips: the frame itself 1, one half a second away 0.48, another clip 0.1, noise 0.0;
# the frame's latents with as much noise again 0.4 to 0.7.
ENOUGH = 0.25


def likeness(models: Models, clip: Clip, Z: Tensor, i: int) -> float:
    """How much Z (1, f, c, H/8, W/8) is like the latents of frame `i` of the clip: 1 = equal, about 0 = unrelated."""
    with models.computing():
        up = clip.up_at(i, models.device)
        (top, high), (left, wide) = (_middle(side) for side in up.shape[-2:])
        part = up[..., top : top + high, left : left + wide]
        (vae,) = models.ready("vae")
        own = cast(MiniVAE, vae).encode(part)[0].float()
        given = Z[0, i, :, top // 8 : (top + high) // 8, left // 8 : (left + wide) // 8].to(own)
        apart = (own - given).square().sum()
        return float(1 - apart / (own.square().sum() + given.square().sum()).clamp(min=1e-6))


def _middle(side: int) -> tuple[int, int]:
    """Begin and length in px, multiples of 8, of the middle of a side that is a multiple of 8."""
    length = min(side, SIDE)
    return (side - length) // 16 * 8, length
