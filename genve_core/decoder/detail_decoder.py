"""The detail decoder: Z_0 -> frames, helped by the pixels that an f8 latent cannot hold (design, section 4).

It sees, besides the clean latent: the up-sampled frame, the warped reference's detail with its validity, the
warped poor key frame (to judge how well the warp fits), and the neighbouring poor frames, aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from ..blocks import down, stack, up, zeroed

DIFFERENCE_GAIN = 4.0  # differences between frames are small beside the frames; this brings them to one scale
RESIDUAL_GAIN = 0.3  # about the deviation of what is missing


def neighbours(reach: int) -> tuple[int, ...]:
    """Offsets of the frames next to the one being decoded, aligned to it: `reach` before and `reach` after."""
    return (*range(-reach, 0), *range(1, reach + 1))


@dataclass(frozen=True)
class DecoderInputs:
    """What the decoder sees of n frames besides their latents. Half = half the frame's height and width."""

    up: Tensor  # (n, 3, h, w) up-sampled poor frames in [-1, 1]
    detail: Tensor  # (n, 3, h, w) warped reference minus `up`, zero where invalid
    valid: Tensor  # (n, 1, h/2, w/2) in [0, 1], 0 where the reference has nothing to say
    key: Tensor  # (n, 3, h/2, w/2) warped poor key frame minus `up`, zero where invalid
    near: Tensor  # (n, 3 * 2 * reach, h/2, w/2) aligned neighbours minus `up`

    def __getitem__(self, index: slice) -> DecoderInputs:
        return DecoderInputs(self.up[index], self.detail[index], self.valid[index], self.key[index], self.near[index])


class DetailDecoder(ModelMixin, ConfigMixin):
    """A U-Net over pixels with the latents let in at 1/8. Works frame by frame; nothing is normalised over space.

    result = up + trust * detail + residual: how far the warped reference is believed is decided pixel by pixel.

    channels: widths at 1/2, 1/4 and 1/8 of the frame.   depth: residual blocks (encoder half, decoder half) at 1/2,
    at 1/4, and at 1/8.   latent_channels: of the VAE.   reach: how many neighbours it sees on either side.
    """

    @register_to_config
    def __init__(self, latent_channels: int = 16, channels: tuple[int, ...] = (32, 64, 128),
                 depth: tuple[int, ...] = (1, 2, 2, 4, 4), reach: int = 2):
        super().__init__()
        self.reach = reach
        a, b, c = channels
        seen = 12 + 12 + 1 + 3 + 3 * 2 * reach
        self.head = nn.Conv2d(seen, a, 3, padding=1)
        self.half_in, self.to_quarter = stack(a, depth[0], norm=True), down(a, b)
        self.quarter_in, self.to_eighth = stack(b, depth[2], norm=True), down(b, c)
        self.latent_in = nn.Conv2d(latent_channels, c, 3, padding=1)
        self.eighth = stack(c, depth[4], norm=True)
        self.from_eighth, self.quarter_out = up(c, b), stack(b, depth[3], norm=True)
        self.from_quarter, self.half_out = up(b, a), stack(a, depth[1], norm=True)
        self.tail = zeroed(nn.Conv2d(a, 16, 3, padding=1))  # RGB residual and trust, 2 x 2 pixels each

    def forward(self, latents: Tensor, inputs: DecoderInputs) -> Tensor:
        """Latents (n, c, h/8, w/8) and inputs of n frames, sides multiples of 8 -> frames (n, 3, h, w).

        Untrained and without a reference, it returns the up-sampled frames.
        """
        differences = [DIFFERENCE_GAIN * x for x in (inputs.key, inputs.near)]
        pixels = F.pixel_unshuffle(torch.cat([inputs.up, DIFFERENCE_GAIN * inputs.detail], 1), 2)
        half = self.half_in(self.head(torch.cat([pixels, inputs.valid, *differences], 1)))
        quarter = self.quarter_in(self.to_quarter(half))
        eighth = self.eighth(self.to_eighth(quarter) + self.latent_in(latents))
        quarter = self.quarter_out(quarter + self.from_eighth(eighth))
        half = self.half_out(half + self.from_quarter(quarter))
        residual, trust = F.pixel_shuffle(self.tail(half), 2).float().split([3, 1], dim=1)
        return inputs.up + torch.sigmoid(trust) * inputs.detail + RESIDUAL_GAIN * residual
