"""The bundled 2D VAE (Fig. 2: encoder and decoder around the latents), f8, small enough for a CPU.

Any object with `encode`, `decode`, `downscale` and `latent_channels` can take its place (video_codec.py).
"""

from __future__ import annotations

import torch
import torch.nn as nn
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from .blocks import down, stack, up


class MiniVAE(ModelMixin, ConfigMixin):
    """A convolutional VAE without norm layers: its output is the same in a tile as in the whole frame.

    channels: widths at 1/2, 1/4 and 1/8 of the frame.   depth: residual blocks at each.
    Latents on the outside have zero mean and unit variance per channel: `shift` and `spread`, measured on
    training data by `calibrate`, are part of the weights.
    """

    downscale = 8

    @register_to_config
    def __init__(self, latent_channels: int = 16, channels: tuple[int, ...] = (32, 64, 128), depth: int = 2):
        super().__init__()
        a, b, c = channels
        self.latent_channels = latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, a, 3, padding=1), stack(a, depth),
            down(a, b), stack(b, depth), down(b, c), stack(c, depth),
            nn.Conv2d(c, 2 * latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, c, 3, padding=1), stack(c, depth + 1),
            up(c, b), stack(b, depth + 1), up(b, a), stack(a, depth), nn.Conv2d(a, 12, 3, padding=1), nn.PixelShuffle(2),
        )
        self.register_buffer("shift", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("spread", torch.ones(1, latent_channels, 1, 1))

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the raw latents (n, c, h/8, w/8) of frames (n, 3, h, w) in [-1, 1]."""
        mean, log_variance = self.encoder(frames).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 5)

    def encode(self, x: Tensor) -> Tensor:
        """Frames (n, 3, h, w) in [-1, 1], sides multiples of 8 -> latents (n, c, h/8, w/8) of unit variance."""
        return (self.posterior(x)[0] - self.shift) / self.spread

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, c, h/8, w/8) -> frames (n, 3, h, w), about [-1, 1]."""
        return self.decoder(z * self.spread + self.shift)

    @torch.no_grad()
    def calibrate(self, frames: Tensor) -> None:
        """Set `shift` and `spread` so that the latents of `frames` (n, 3, h, w) are of unit variance."""
        mean, _ = self.posterior(frames)
        self.shift.copy_(mean.mean((0, 2, 3), keepdim=True))
        self.spread.copy_(mean.std((0, 2, 3), keepdim=True).clamp(min=1e-4))
