"""Losses in pixels. No pretrained network is needed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Figures = dict[str, Tensor | float]  # to be logged; tensors () stay on their device, as to read one is to wait for it


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences of (..., h, w)."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def gradient_loss(result: Tensor, truth: Tensor, scales: int = 2) -> Tensor:
    """L1 between the gradients of (n, c, h, w) at 1, 1/2, ... of the size: edges and texture, not brightness."""
    total = result.new_zeros(())
    for k in range(scales):
        a, b = (F.avg_pool2d(x, 2**k) if k else x for x in (result, truth))
        total = total + sum((p - q).abs().mean() for p, q in zip(gradients(a), gradients(b), strict=True)) / 2**k
    return total


def frame_difference_loss(result: Tensor, truth: Tensor) -> Tensor:
    """L1 between the changes from frame to frame of (b, f, c, h, w): flicker is a change the truth lacks."""
    return ((result[:, 1:] - result[:, :-1]) - (truth[:, 1:] - truth[:, :-1])).abs().mean()


def structure_loss(result: Tensor, truth: Tensor, weight: Tensor | None = None, scales: int = 2) -> Tensor:
    """1 - the contrast and structure term of SSIM, on 7 x 7 boxes of luma, at 1 and 1/2 of the size of (n, 3, h, w).

    L1 alone is satisfied with too little contrast where detail is uncertain; this term is not.
    weight: (n,), how much each picture counts; None = 1.
    """
    luma = result.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1) / 2  # [-1, 1] to a range of 1
    total = result.new_zeros(())
    for k in range(scales):
        a, b = (F.avg_pool2d((x * luma).sum(1, keepdim=True), 2**k) for x in (result, truth))
        mean_a, mean_b, aa, bb, ab = F.avg_pool2d(torch.cat([a, b, a * a, b * b, a * b], 1), 7, stride=2).split(1, 1)
        covariance, variances = ab - mean_a * mean_b, aa - mean_a**2 + bb - mean_b**2
        apart = 1 - (2 * covariance + 9e-4) / (variances.clamp(min=0) + 9e-4)
        total = total + (apart if weight is None else apart * weight.view(-1, 1, 1, 1)).mean()
    return total / scales


def input_loss(result: Tensor, up: Tensor, cell: int = 4) -> Tensor:
    """How far results (n, 3, h, w) are from the up-sampled input, in the mean of cells of `cell` pixels a side."""
    return (F.avg_pool2d(result, cell) - F.avg_pool2d(up, cell)).abs().mean()


def poorness(given: Tensor, clean: Tensor, none: float = 0.003, full: float = 0.015) -> Tensor:
    """How poor small frames (f, 3, h, w) are beyond being small: (), 0 = not at all, 1 = as noise, blur and a codec make them.

    clean: the truth, reduced and nothing else. On the up-sampled frames the two cannot be told apart: there, fine detail that
    enlargement has lost looks like damage.   none, full: L1 at which it starts, for rounding, and at which it is complete.
    """
    inside = (..., slice(2, -2), slice(2, -2))  # where frames are cut out, reduction lacks their surround
    return (((given - clean)[inside].abs().mean() - none) / (full - none)).clamp(0, 1)


def restoration_loss(result: Tensor, truth: Tensor, *, edge: float = 0.5, steady: float = 0.5,
                     squared: float = 0.0) -> Tensor:
    """L1 + squared error + edges + steadiness of videos (b, f, 3, h, w)."""
    a, b = result.float(), truth.float()
    loss = (a - b).abs().mean() + edge * gradient_loss(a.flatten(0, 1), b.flatten(0, 1))
    loss = loss + squared * (a - b).square().mean() if squared else loss
    return loss + steady * frame_difference_loss(a, b) if a.shape[1] > 1 else loss


def contrast_loss(certain: Tensor, full: Tensor, truth: Tensor, poor: Tensor) -> Tensor:
    """`structure_loss` of `full`, all (n, 3, h, w), for both ends of the noise dial.

    It trains only what `full` adds to `certain`, which stays the likeliest picture; and it counts as far as the input is
    poor, as a clean one is to be kept.   poor: (n,), `poorness` of the inputs.
    """
    return structure_loss(certain.detach() + (full - certain), truth, poor)


def restraint_loss(certain: Tensor, full: Tensor, poor: Tensor) -> Tensor:
    """L1 of what `full` adds to `certain`, (n, 3, h, w), as far as the input is clean: there is little to guess then.

    poor: (n,), `poorness` of the inputs.
    """
    return ((full - certain).abs().mean((1, 2, 3)) * (1 - poor)).mean()


def psnr(result: Tensor, truth: Tensor) -> Tensor:
    """PSNR in dB of each of n images or videos (n, ...) in [-1, 1]: (n,)."""
    error = (result.float().clamp(-1, 1) - truth.float()).square().flatten(1).mean(1) / 4
    return -10 * error.clamp(min=1e-12).log10()
