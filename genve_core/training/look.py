"""What a video camera makes of a scene before anything goes wrong: lights run into white, edges sharpened, a codec.

Photographs are exposed with care and reduced to where they are sharp. What users call a good video is not: a camera
exposes for the shade, filters, sharpens and encodes (`docs/model-design/self.md`, *As a video camera records*).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..media.eight_bit import as_bytes, to_video
from .degradation import codec_round_trip, drawn
from .kernels import gaussian_blur, sharpen


@dataclass(frozen=True)
class LookConfig:
    """Shares of the clips of photographs, and ranges."""

    exposed: float = 0.0  # share whose lights run into white, and shades into black
    softened: float = 0.0  # share whose lens or noise filter takes the finest detail
    sharpened: float = 0.0  # share sharpened as cameras do, after that
    encoded: float = 0.0  # share that a good codec has been through
    white: tuple[float, float] = (0.8, 1.0)  # quantile of brightness that becomes white
    black: tuple[float, float] = (0.0, 0.04)  # quantile that becomes black
    blur: tuple[float, float] = (0.3, 0.8)  # sigma in pixels
    sharpening: tuple[float, float] = (0.2, 0.8)  # times what a Gaussian takes away
    radius: tuple[float, float] = (0.8, 1.6)  # its sigma in pixels
    crf: tuple[int, int] = (15, 25)  # libx264


def recorded(frames: np.ndarray, config: LookConfig, rng: np.random.Generator) -> np.ndarray:
    """A clip as a video camera would have recorded it: uint8 (f, h, w, 3) -> the same."""
    video = to_video(frames)
    if drawn(rng, config.exposed):
        video = _expose(video, config, rng)
    if drawn(rng, config.softened):
        video = gaussian_blur(video, rng.uniform(*config.blur))
    if drawn(rng, config.sharpened):
        radius, amount = rng.uniform(*config.radius), rng.uniform(*config.sharpening)
        video = sharpen(video, amount, radius)
    if drawn(rng, config.encoded):
        video = codec_round_trip(video, int(rng.integers(config.crf[0], config.crf[1] + 1)), preset="veryfast")
    return as_bytes(video)


def _expose(video: Tensor, config: LookConfig, rng: np.random.Generator) -> Tensor:
    """Stretch brightness so that what lies between two quantiles of the middle frame fills the range."""
    grey = video[len(video) // 2].mean(0).flatten()
    low, high = torch.quantile(grey, torch.tensor([rng.uniform(*config.black), rng.uniform(*config.white)]))
    stretch = 2 / (high - low).clamp(min=0.5)  # four times at most: a flat scene stays one
    return ((video - low) * stretch - 1).clamp(-1, 1)
