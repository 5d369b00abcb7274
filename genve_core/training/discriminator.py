"""A patch discriminator, trained beside the decoder and never shipped: it says what sharp frames look like."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.parametrizations import spectral_norm

DETAIL_GAIN = 4.0  # what a frame adds to the up-sampled one is small beside it


class PatchDiscriminator(nn.Module):
    """Frames and the up-sampled input they claim to belong to -> one logit per patch; above 0 = sharp.

    Told the input, it asks for detail that fits it, not for any detail. Its layers are spectrally normalised.
    """

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 96)):
        super().__init__()
        a, b, c = channels
        layers = [nn.Conv2d(6, a, 4, 2, 1), nn.Conv2d(a, b, 4, 2, 1), nn.Conv2d(b, c, 3, 1, 1), nn.Conv2d(c, 1, 3, 1, 1)]
        self.layers = nn.ModuleList(spectral_norm(layer) for layer in layers)

    def forward(self, frames: Tensor, up: Tensor) -> Tensor:
        """frames, up: (n, 3, h, w) in [-1, 1]. Returns (n, 1, h / 4, w / 4)."""
        x = torch.cat([DETAIL_GAIN * (frames - up), up], dim=1)
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        return self.layers[-1](x)


def adversarial_losses(discriminator: nn.Module, result: Tensor, truth: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Non-saturating logistic losses of frames (n, 3, h, w): the decoder's, (n,), and the discriminator's, a scalar.

    One backward pass serves both: the first does not reach the discriminator's weights, the second not the decoder's.
    """
    discriminator.requires_grad_(False)
    fooled = F.softplus(-discriminator(result, up)).mean((1, 2, 3))
    discriminator.requires_grad_(True)
    told_apart = F.softplus(discriminator(result.detach(), up)).mean() + F.softplus(-discriminator(truth, up)).mean()
    return fooled, told_apart
