"""Damage that comes before any digital step: what dust and wear leave on film, and what interlacing leaves between frames."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def damage(video: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """Film damage or combing, whichever `rng` says. video: (f, 3, h, w) in [-1, 1], the good clip; returns a new one.

    scale: by how much the clip will be made smaller; lines of the later, poor clip are `scale` lines high.
    """
    if rng.random() < 0.3:
        return comb(video, scale)
    video = dust(video, rng)
    return scratches(video, rng) if rng.random() < 0.5 else video


def comb(video: Tensor, scale: int) -> Tensor:
    """Every other line of the later clip is taken from the next frame: two fields woven, never deinterlaced."""
    lines = torch.arange(video.shape[-2], device=video.device) // scale
    later = torch.cat([video[1:], video[-1:]])
    return torch.where((lines % 2 == 1).view(1, 1, -1, 1), later, video)


def dust(video: Tensor, rng: np.random.Generator, most: int = 12) -> Tensor:
    """Specks and hairs, bright or dark, up to `most` in a frame and none of them in two frames."""
    f, _, h, w = video.shape
    per_frame = rng.integers(1, most + 1)
    masks = np.zeros((f, h, w), np.float32)
    signs = np.where(rng.random(f) < 0.6, 1.0, -1.0).astype(np.float32)  # of the print or of its negative
    for mask in masks:
        for _ in range(rng.integers(0, per_frame + 1)):
            _speck(mask, rng)
    strength = torch.from_numpy(masks).to(video.device).unsqueeze(1)
    target = torch.from_numpy(signs).to(video.device).view(f, 1, 1, 1) * rng.uniform(0.7, 1.0)
    return video + strength * (target - video)


def _speck(mask: np.ndarray, rng: np.random.Generator) -> None:
    """Draw one speck or hair into a mask (h, w) in [0, 1]."""
    import cv2

    h, w = mask.shape
    x, y = int(rng.integers(w)), int(rng.integers(h))
    opacity = float(rng.uniform(0.4, 1.0))
    if rng.random() < 0.25:  # a hair: a short bent line
        steps = rng.normal(0, 1, (6, 2)).cumsum(0) + np.linspace(0, 1, 6)[:, None] * rng.normal(0, 14, 2)
        line = np.rint(np.array([x, y]) + 2 * steps).astype(np.int32)
        cv2.polylines(mask, [line.reshape(-1, 1, 2)], False, opacity, int(rng.integers(1, 4)), cv2.LINE_8)
        return
    axes = (int(rng.integers(1, 7)), int(rng.integers(1, 7)))
    cv2.ellipse(mask, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, opacity, -1, cv2.LINE_8)


def scratches(video: Tensor, rng: np.random.Generator, most: int = 3) -> Tensor:
    """Upright lines that stay for the whole clip and sway by a few pixels."""
    f, _, h, w = video.shape
    for _ in range(rng.integers(1, most + 1)):
        sway = rng.uniform(0, w) + np.cumsum(rng.normal(0, 1.0, f))
        width, opacity = rng.uniform(0.6, 2.5), rng.uniform(0.2, 0.8)
        target = rng.choice([-0.9, 0.9])
        columns = np.arange(w)[None] - sway[:, None]
        profile = torch.from_numpy(np.exp(-0.5 * (columns / width) ** 2) * opacity).float().to(video.device)
        # worn film: the line fades in and out on its way down
        fade = F.interpolate(torch.from_numpy(rng.uniform(0.2, 1.0, (f, 1, 6))).float(), size=h, mode="linear")
        strength = fade.to(video.device).view(f, 1, h, 1) * profile.view(f, 1, 1, w)
        video = video + strength * (target - video)
    return video
