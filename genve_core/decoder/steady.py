"""Steadier frames: each is fused with its neighbours, brought onto its grid, where they agree. Ours, not the paper's.

Small errors of the flow to the key frame differ from frame to frame and show as flicker of the carried detail. The
flow between neighbours is far shorter and better, so a short average along it removes part of the flicker.
It also makes one picture of the decoder's views (`views`). It looks a frame or two ahead and back and keeps no other state:
the result does not depend on chunks or windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.flow import FlowConfig, consistent
from ..conditioning.warp import compose, resize_flow, warp

AGREEMENT = 0.15  # in [-1, 1] units: frames next to each other that differ by more than about this are not fused
FURTHER_AGREEMENT = 0.08  # the same of those further apart: flow there adds up from steps and is less exact


def steadied(frames: Iterator[Tensor], forward: Tensor, backward: Tensor, strength: float, config: FlowConfig,
             reach: int = 1, chunk: int = 1) -> Iterator[Tensor]:
    """Fuse every frame (3, h, w) of a shot with its neighbours.

    frames: one per row of `forward`, in order.   forward, backward: (f, 2, hf, wf), flow to the next and the previous
    frame on any grid.   strength: weight of each neighbour beside the frame's own 1; 0 changes nothing.
    reach: how many neighbours on either side.   chunk: of how many frames the ways are found at once.
    """
    count = len(forward)
    if strength == 0:
        yield from islice(frames, count)
        return
    offsets = [*range(1, reach + 1), *range(-1, -reach - 1, -1)]  # in the order of `ways`
    agreement = forward.new_tensor([AGREEMENT if abs(offset) == 1 else FURTHER_AGREEMENT for offset in offsets])
    held: dict[int, Tensor] = {}
    for i in range(count):
        if i % chunk == 0:
            rows = range(i, min(i + chunk, count))
            ways = [way for direction in (1, -1) for way in _ways(rows, direction, reach, forward, backward, config)]
        held = {j: frame for j, frame in held.items() if j >= i - reach}
        for j in range(max([i, *(k + 1 for k in held)]), min(count, i + reach + 1)):
            held[j] = next(frames)
        others = torch.stack([held[min(max(0, i + offset), count - 1)] for offset in offsets])
        path, valid = (torch.stack([way[part][i % chunk] for way in ways]) for part in (0, 1))
        moved, weight = fuse_neighbours(held[i], others, path, valid, agreement)
        yield (held[i] + (strength * weight * moved).sum(0)) / (1 + (strength * weight).sum(0))


def fuse_neighbours(frame: Tensor, others: Tensor, path: Tensor, valid: Tensor, agreement: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours on the frame's grid and their weights.

    frame: (3, h, w).   others: (k, 3, h, w).   path: (k, 2, hf, wf), frame -> other.   valid: (k, 1, hf, wf).
    agreement: (k,), where they differ by so much, in [-1, 1] units, the weight is down to a third.
    Returns the warped neighbours (k, 3, h, w) and weights (k, 1, h, w) in [0, 1].
    """
    size = (frame.shape[-2], frame.shape[-1])
    moved = warp(others, resize_flow(path, size), "bicubic")
    apart = (moved - frame).abs().mean(1, keepdim=True) / agreement.view(-1, 1, 1, 1)
    return moved, F.interpolate(valid, size=size, mode="bilinear") * torch.exp(-apart.square())


def _ways(rows: range, direction: int, reach: int, forward: Tensor, backward: Tensor,
          config: FlowConfig) -> list[tuple[Tensor, Tensor]]:
    """From each of frames `rows` to its neighbours, step by step: for the first, the second and so on, the flow there
    (k, 2, hf, wf) and its validity (k, 1, hf, wf), 0 where the shot has no such frame.   direction: 1 or -1.
    """
    there, back = (forward, backward) if direction > 0 else (backward, forward)
    at = torch.arange(rows.start, rows.stop, device=forward.device)
    ways: list[tuple[Tensor, Tensor]] = []
    for _ in range(reach):
        ahead = (at + direction).clamp(0, len(forward) - 1)
        step = there[at]
        known = consistent(step, back[ahead], config) * (ahead != at).view(-1, 1, 1, 1)
        if ways:
            path, valid = ways[-1]
            step, known = compose(path, step), valid * warp(known, path)
        ways.append((step, known))
        at = ahead
    return ways
