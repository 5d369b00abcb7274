"""Convolution blocks shared by the VAE and the detail decoder. Nothing is normalised over space: every output depends
on a bounded neighbourhood only, so tiles can be made exactly seam-free."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class ResBlock(nn.Module):
    """x + conv(act(conv(norm(x)))); starts near the identity.

    norm: divide each pixel by the root mean square of its channels (RMSNorm); it eases training and stays local.
    """

    def __init__(self, channels: int, norm: bool = False, residual_init: float = 0.1):
        super().__init__()
        self.norm = norm
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, a=0.1)
        nn.init.kaiming_normal_(self.second.weight, a=0.1)
        self.second.weight.data.mul_(residual_init)
        for layer in (self.first, self.second):
            layer.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (n, c, h, w) -> same
        y = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-4) if self.norm else x
        return x + self.second(F.leaky_relu(self.first(y), 0.1))


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with all parameters at zero: what it ends starts by changing nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def stack(channels: int, count: int, norm: bool = False) -> nn.Sequential:
    """`count` residual blocks in a row."""
    return nn.Sequential(*[ResBlock(channels, norm) for _ in range(count)])


def down(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Halve height and width."""
    return nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1)


def up(channels_in: int, channels_out: int) -> nn.Sequential:
    """Double height and width by rearranging channels."""
    return nn.Sequential(nn.Conv2d(channels_in, 4 * channels_out, 1), nn.PixelShuffle(2))
