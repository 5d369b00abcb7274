"""Steadier frames: each is fused with its neighbours, brought onto its grid, where they agree. Ours, not the paper's.

Small errors of the flow to the key frame differ from frame to frame and show as flicker of the carried detail. The
flow between neighbours is far shorter and better, so a short average along it removes part of the flicker.
It also makes one picture of the decoder's views (`views`). It looks a frame or two ahead and back and keeps no other state:
the result does not depend on chunks or windows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.flow import FlowConfig, consistent
from ..conditioning.warp import compose, resize_flow, warp

AGREEMENT = 0.15  # in [-1, 1] units: frames next to each other that differ by more than about this are not fused
FURTHER_AGREEMENT = 0.08  # the same of those further apart: flow there adds up from steps and is less exact


def fuse_neighbour(frame: Tensor, other: Tensor, flow: Tensor, valid: Tensor, agreement: float) -> tuple[Tensor, Tensor]:
    """A neighbour on the frame's grid and its weight.

    frame, other: (1, 3, h, w).   flow: (1, 2, hf, wf), frame -> other.   valid: (1, 1, hf, wf).
    agreement: where they differ by so much, in [-1, 1] units, the weight is down to a third.
    Returns the warped neighbour (1, 3, h, w) and a weight (1, 1, h, w) in [0, 1].
    """
    size = (frame.shape[-2], frame.shape[-1])
    moved = warp(other, resize_flow(flow, size), "bicubic")
    apart = (moved - frame).abs().mean(1, keepdim=True) / agreement
    return moved, F.interpolate(valid, size=size, mode="bilinear") * torch.exp(-apart.square())


def steadied(frames: Iterator[Tensor], forward: Tensor, backward: Tensor, strength: float, config: FlowConfig,
             reach: int = 1) -> Iterator[Tensor]:
    """Fuse every frame (3, h, w) of a shot with its neighbours.

    frames: one per row of `forward`, in order.   forward, backward: (f, 2, hf, wf), flow to the next and the previous
    frame on any grid.   strength: weight of each neighbour beside the frame's own 1; 0 changes nothing.
    reach: how many neighbours on either side.
    """
    count = len(forward)
    held: dict[int, Tensor] = {}
    for i in range(count):
        held = {j: frame for j, frame in held.items() if j >= i - reach}
        for j in range(max([i, *(k + 1 for k in held)]), min(count, i + reach + 1)):
            held[j] = next(frames).unsqueeze(0)
        frame = held[i]
        total, weights = frame.clone(), torch.ones_like(frame[:, :1])
        if strength > 0:
            for other, path, valid in _paths(i, reach, forward, backward, config):
                agreement = AGREEMENT if abs(other - i) == 1 else FURTHER_AGREEMENT
                moved, weight = fuse_neighbour(frame, held[other], path, valid, agreement)
                total, weights = total + strength * weight * moved, weights + strength * weight
        yield (total / weights)[0]


def _paths(i: int, reach: int, forward: Tensor, backward: Tensor,
           config: FlowConfig) -> Iterator[tuple[int, Tensor, Tensor]]:
    """From frame i to its neighbours, step by step: their number, the flow there (1, 2, hf, wf) and its validity."""
    for direction, there, back in ((1, forward, backward), (-1, backward, forward)):
        path, valid = there[i : i + 1], None
        for other in range(i + direction, i + direction * (reach + 1), direction):
            if not 0 <= other < len(forward):
                break
            step = there[other - direction].unsqueeze(0)
            known = consistent(step, back[other].unsqueeze(0), config)
            if valid is None:
                valid = known
            else:
                path, valid = compose(path, step), valid * warp(known, path)
            yield other, path, valid
