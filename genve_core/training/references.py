"""References that are not perfect, so that the network learns to trust one only as far as it deserves."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import anisotropic, blur


def soften(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (3, h, w) by `sigma` pixels."""
    s = torch.full((1,), sigma, device=image.device)
    return blur(image.unsqueeze(0), anisotropic(s, s, torch.zeros_like(s), "gaussian", 1, 2 * round(3 * sigma) + 3))[0]


def relight(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Other brightness, contrast and colour balance."""
    gain = torch.from_numpy(1 + rng.normal(0, 0.06, (3, 1, 1))).float().to(image.device) * rng.uniform(0.85, 1.15)
    return (image * gain + rng.normal(0, 0.06)).clamp(-1, 1)


def misalign(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift by up to 4 pixels and scale by up to 2 %: another crop, another lens."""
    scale = 1 + rng.uniform(-0.02, 0.02)
    shift = rng.uniform(-4, 4, 2) / np.array(image.shape[-1:-3:-1]) * 2
    theta = torch.tensor([[scale, 0, shift[0]], [0, scale, shift[1]]], device=image.device).float().unsqueeze(0)
    grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
    return F.grid_sample(image.unsqueeze(0), grid, mode="bicubic", padding_mode="border", align_corners=False)[0]


def imperfect(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change a true key frame (3, h, w) as other image tools, crops and lights would; one to three changes."""
    changes = rng.permutation(5)[: rng.integers(1, 4)]
    for change in changes:
        if change == 0:
            image = relight(image, rng)
        elif change == 1:
            image = misalign(image, rng)
        elif change == 2:
            image = soften(image, rng.uniform(0.4, 1.5))
        elif change == 3:
            image = image + rng.uniform(0.2, 0.8) * (image - soften(image, 1.0))  # over-sharpened
        else:
            grain = rng.standard_normal(tuple(image.shape), dtype=np.float32)
            image = image + torch.from_numpy(grain).to(image.device) * (rng.uniform(1, 8) / 127.5)
    return image.clamp(-1, 1)
