"""Temporal augmentation (paper, section 3.3): carry the reference along the motion of the input.

Everything here is a backward warp: the value at pixel (x, y) of the result is read at (x, y) + flow(x, y).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic", "nearest"]


def sample_positions(flow: Tensor) -> Tensor:
    """The absolute positions (x, y) in pixels that a flow (n, 2, h, w) points to, same shape."""
    h, w = flow.shape[-2:]
    ys = torch.arange(h, device=flow.device, dtype=flow.dtype).view(1, h, 1).expand(1, h, w)
    xs = torch.arange(w, device=flow.device, dtype=flow.dtype).view(1, 1, w).expand(1, h, w)
    return flow + torch.cat([xs, ys])


def warp(image: Tensor, flow: Tensor, interpolation: Interpolation = "bilinear") -> Tensor:
    """Bring `image` onto the grid of `flow`.

    image: (n, c, h, w), any range.   flow: (n, 2, h, w), pixels, from the result's grid into `image`.
    Positions outside the image read its nearest border pixel; `inside` tells them apart.
    Returns (n, c, h, w) in the dtype of `image`. Raises ValueError on sizes that differ.
    """
    if flow.shape[-2:] != image.shape[-2:] or flow.shape[0] != image.shape[0] or flow.shape[1] != 2:
        n, _, h, w = image.shape
        raise ValueError(f"flow must be {(n, 2, h, w)} to warp an image {tuple(image.shape)}, "
                         f"got {tuple(flow.shape)}; call resize_flow() first")
    h, w = image.shape[-2:]
    x, y = sample_positions(flow.float()).unbind(1)
    # grid_sample wants positions as shares of the side. Shares of a power of two are exact in floating point,
    # so the image is padded to one: a shift by whole pixels then copies them to the bit.
    wide, high = (1 << (side - 1).bit_length() for side in (w, h))
    padded = F.pad(image.float(), (0, wide - w, 0, high - h), mode="replicate")
    grid = torch.stack([(2 * x.clamp(0, w - 1) + 1) / wide - 1, (2 * y.clamp(0, h - 1) + 1) / high - 1], dim=-1)
    warped = F.grid_sample(padded, grid, mode=interpolation, padding_mode="border", align_corners=False)
    return warped.to(image.dtype)


def inside(flow: Tensor, margin: float = 0.5) -> Tensor:
    """1 where a flow (n, 2, h, w) points into the frame (up to `margin` pixels beyond its edge), else 0: (n, 1, h, w)."""
    h, w = flow.shape[-2:]
    x, y = sample_positions(flow.float()).unbind(1)
    ok = (x >= -margin) & (x <= w - 1 + margin) & (y >= -margin) & (y <= h - 1 + margin)
    return ok.unsqueeze(1).to(flow.dtype)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample a flow (n, 2, h, w) to `size` = (h, w) and scale its vectors by the ratio of the sizes."""
    h, w = flow.shape[-2:]
    if (h, w) == tuple(size):
        return flow
    ratio = torch.tensor([size[1] / w, size[0] / h], device=flow.device, dtype=flow.dtype).view(1, 2, 1, 1)
    mode = "area" if size[0] < h and size[1] < w else "bilinear"
    kwargs = {} if mode == "area" else {"align_corners": False}
    return F.interpolate(flow, size=tuple(size), mode=mode, **kwargs) * ratio


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Flow a -> c from `first` a -> b and `second` b -> c, all (n, 2, h, w)."""
    return first + warp(second, first)


def warp_latent(y: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """Warp one reference latent to every frame: y (c, h, w) -> Y (f, c, h, w), zero where there is no source.

    flow: (f, 2, hf, wf), frame -> key frame, on any grid.   valid: (f, 1, hf, wf) in [0, 1].
    A latent position counts as valid where at least half of its pixels are: a zero is a masked token,
    which the controller has learnt to fill (paper, masking condition).
    """
    size = (y.shape[-2], y.shape[-1])
    warped = warp(y.expand(flow.shape[0], -1, -1, -1), resize_flow(flow, size).to(y.dtype))
    share = F.interpolate(valid.float(), size=size, mode="area" if size[0] < valid.shape[-2] else "bilinear")
    return warped * (share >= 0.5).to(y.dtype)
