"""Frames of 8 bit <-> what the networks take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_video(frames: np.ndarray) -> Tensor:
    """uint8 (f, h, w, 3) -> float (f, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_bytes(frames: Tensor) -> np.ndarray:
    """Frames (f, 3, h, w) in [-1, 1] as they would be saved: (f, h, w, 3) uint8."""
    scaled = ((frames.float().cpu() + 1) * 127.5).round().clamp(0, 255)
    return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy())
