"""Steadier frames: each is fused with its two neighbours, brought onto its grid, where they agree. Ours, not the paper's.

Small errors of the flow to the key frame differ from frame to frame and show as flicker of the carried detail. The
flow between neighbours is far shorter and better, so a short average along it removes part of the flicker.
It looks one frame ahead and one back and keeps no other state: the result does not depend on chunks or windows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.flow import FlowConfig, consistent
from ..conditioning.warp import resize_flow, warp

AGREEMENT = 0.15  # in [-1, 1] units: neighbours that differ by more than about this are left out


def fuse_neighbour(frame: Tensor, other: Tensor, flow: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A neighbour on the frame's grid and its weight.

    frame, other: (1, 3, h, w).   flow: (1, 2, hf, wf), frame -> other.   valid: (1, 1, hf, wf).
    Returns the warped neighbour (1, 3, h, w) and a weight (1, 1, h, w) in [0, 1].
    """
    size = (frame.shape[-2], frame.shape[-1])
    moved = warp(other, resize_flow(flow, size), "bicubic")
    apart = (moved - frame).abs().mean(1, keepdim=True) / AGREEMENT
    return moved, F.interpolate(valid, size=size, mode="bilinear") * torch.exp(-apart.square())


def steadied(
    frames: Iterator[Tensor], forward: Tensor, backward: Tensor, strength: float, config: FlowConfig
) -> Iterator[Tensor]:
    """Fuse every frame (3, h, w) of a shot with its neighbours.

    frames: one per row of `forward`, in order.   forward, backward: (f, 2, hf, wf), flow to the next and the previous
    frame on any grid.   strength: weight of each neighbour beside the frame's own 1; 0 changes nothing.
    """
    count = len(forward)
    previous: Tensor | None = None
    current = next(frames)
    for i in range(count):
        following = next(frames) if i + 1 < count else None
        frame = current.unsqueeze(0)
        total, weights = frame.clone(), torch.ones_like(frame[:, :1])
        for other, there, back in ((following, forward[i], backward[min(i + 1, count - 1)]),
                                   (previous, backward[i], forward[max(i - 1, 0)])):
            if other is None or strength == 0:
                continue
            valid = consistent(there.unsqueeze(0), back.unsqueeze(0), config)
            moved, weight = fuse_neighbour(frame, other.unsqueeze(0), there.unsqueeze(0), valid)
            total, weights = total + strength * weight * moved, weights + strength * weight
        yield (total / weights)[0]
        previous = current
        if following is not None:
            current = following
