"""Blur kernels of the random degradation (Real-ESRGAN / RealBasicVSR family), one per frame."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("gaussian", "generalised", "plateau", "sinc")


def anisotropic(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, kind: str, beta: float, size: int) -> Tensor:
    """Kernels (f, size, size) that sum to one.

    sigma_x, sigma_y: (f,) pixels.   angle: (f,) radians.   beta: shape of 'generalised' and 'plateau'.
    Raises ValueError for an unknown kind.
    """
    axis = torch.arange(size, device=sigma_x.device, dtype=torch.float32) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    c, s = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    u, v = c * x + s * y, -s * x + c * y
    q = (u / sigma_x.view(-1, 1, 1)).square() + (v / sigma_y.view(-1, 1, 1)).square()
    if kind == "gaussian":
        kernel = torch.exp(-0.5 * q)
    elif kind == "generalised":
        kernel = torch.exp(-0.5 * q.pow(beta))
    elif kind == "plateau":
        kernel = 1 / (q.pow(beta) + 1)
    else:
        raise ValueError(f"kind must be one of gaussian, generalised, plateau, got {kind!r}")
    return kernel / kernel.sum((1, 2), keepdim=True)


def sinc(cutoff: float, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Circular low-pass (1, size, size) with `cutoff` in (0, pi] radians per pixel: it rings as scalers do."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    r = (x.square() + y.square()).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r.clamp(min=1e-9))
    kernel[r == 0] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).float().to(device).unsqueeze(0)


def blur(video: Tensor, kernels: Tensor) -> Tensor:
    """Filter each frame of (f, c, h, w) with its own kernel (f, k, k) or one kernel (1, k, k); reflected borders."""
    f, c, h, w = video.shape
    k = kernels.shape[-1]
    weight = kernels.expand(f, k, k).repeat_interleave(c, 0).unsqueeze(1)
    mode = "reflect" if min(h, w) > k // 2 else "replicate"
    padded = F.pad(video, (k // 2,) * 4, mode=mode).reshape(1, f * c, h + k - 1, w + k - 1)
    return F.conv2d(padded, weight.to(video.dtype), groups=f * c).view(f, c, h, w)


def gaussian_size(sigma: float, limit: int = 21) -> int:
    """An odd kernel size that holds a Gaussian of `sigma` pixels, at most `limit`."""
    return min(limit, 2 * math.ceil(3 * sigma) + 1)


def gaussian_blur(video: Tensor, sigma: float) -> Tensor:
    """Filter frames (f, c, h, w) with one round Gaussian of `sigma` pixels."""
    width, angle = torch.full((1,), sigma, device=video.device), torch.zeros(1, device=video.device)
    return blur(video, anisotropic(width, width, angle, "gaussian", 1, gaussian_size(sigma)))


def sharpen(video: Tensor, amount: float, sigma: float) -> Tensor:
    """Frames in [-1, 1] with `amount` times what a Gaussian of `sigma` pixels takes away added once more, as cameras do."""
    return (video + amount * (video - gaussian_blur(video, sigma))).clamp(-1, 1)
