"""A clip on its way through the pipeline, and its reference."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .video_codec import pad_to_multiple, upsample

MULTIPLE = 32  # px: three halvings by the VAE, two by the UNet


@dataclass
class Clip:
    """A clip under way: frames at their own size, and what is known of each."""

    frames: Tensor  # (f, 3, h, w) poor frames in [-1, 1]
    size: tuple[int, int]  # (h, w) wanted
    key: int  # index of the key frame
    Z: Tensor | None = None  # (1, f, c, h/8, w/8)
    flow: dict[str, Tensor] = field(default_factory=dict)  # forward, backward, to_key, valid: (f, ., h/2, w/2)

    def up(self, part: slice, device: torch.device) -> Tensor:
        """Up-sampled frames (k, 3, H, W), padded to whole latent blocks; made when needed, never kept."""
        video = upsample(self.frames[part].to(device).float().unsqueeze(0), self.size)
        return pad_to_multiple(video, MULTIPLE)[0]


@dataclass(frozen=True)
class Reference:
    """The image reference of a clip, on the padded grid."""

    image: Tensor  # (3, H, W) in [-1, 1]
    y: Tensor  # (c, H/8, W/8)
    valid: Tensor  # (1, H, W), 0 where a user's image does not reach
