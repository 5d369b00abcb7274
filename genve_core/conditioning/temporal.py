"""Temporal augmentation (paper, section 3.3): the reference brought to every frame along the motion of the input.

With several references each governs the frames nearest to its key frame. Between two key frames the change-over is
gradual, and where one reference has no source the others step in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipFlow, Reference, check_keys
from .warp import warp, warp_latent

HELP = 1e-3  # weight of references that govern other frames: they only fill what the governing ones leave open


def nearness(frames: range, keys: Sequence[int]) -> Tensor:
    """How much each key frame governs each frame: (len(keys), len(frames)), each column sums to 1.

    Beyond the outermost key frames the nearest one alone; between two a smooth step over the middle half.
    """
    at = torch.tensor(list(frames), dtype=torch.float32)
    weights = torch.zeros(len(keys), len(at))
    order = sorted(range(len(keys)), key=lambda r: keys[r])
    weights[order[0], at <= keys[order[0]]] = 1
    weights[order[-1], at > keys[order[-1]]] = 1
    for a, b in zip(order, order[1:], strict=False):
        between = (at > keys[a]) & (at <= keys[b])
        s = (2 * (at[between] - keys[a]) / (keys[b] - keys[a]) - 0.5).clamp(0, 1)
        weights[b, between] = s * s * (3 - 2 * s)
        weights[a, between] = 1 - weights[b, between]
    return weights


def reach(reference: Reference, flow: ClipFlow, part: slice) -> Tensor:
    """Where the flow to the key frame is trusted and the reference reaches: (k, 1, h/2, w/2), 0 or 1."""
    to_key, valid = flow.to_key[reference.key][part], flow.valid[reference.key][part]
    if bool((reference.valid == 1).all()):
        return valid
    there = F.interpolate(reference.valid.unsqueeze(0), size=to_key.shape[-2:], mode="area").to(valid)
    return valid * (warp(there.expand(len(to_key), -1, -1, -1), to_key) > 0.99)


def shares(references: Sequence[Reference], flow: ClipFlow, part: slice) -> list[Tensor]:
    """The share of each reference in frames `part`: (k, 1, h/2, w/2) each; they sum to 1, or 0 where none reaches.

    Raises InputError if the flow was not measured to a reference's key frame.
    """
    check_keys(references, flow)
    reaches = [reach(reference, flow, part) for reference in references]
    if len(references) == 1:
        return reaches
    frames = range(len(flow.forward))[part]
    near = nearness(frames, [reference.key for reference in references]).to(reaches[0].device) + HELP
    weighted = [valid * weight.view(-1, 1, 1, 1) for valid, weight in zip(reaches, near, strict=True)]
    total = torch.stack(weighted).sum(0).clamp(min=HELP / 2)
    return [weight / total for weight in weighted]


def carry(references: Sequence[Reference], flow: ClipFlow) -> tuple[Tensor, Tensor]:
    """Y_n from references that hold y_n: (1, f, c, h/8, w/8), and where it is valid: (f, 1, h/2, w/2) in [0, 1].

    A latent position counts as valid where at least half of its pixels have a source; elsewhere Y_n is zero: a masked
    token, which the controller has learnt to fill (paper, masking condition).
    """
    parts = shares(references, flow, slice(None))
    valid = torch.stack(parts).sum(0)
    if len(references) == 1:
        return warp_latent(references[0].y, flow.to_key[references[0].key], valid).unsqueeze(0), valid
    size = (references[0].y.shape[-2], references[0].y.shape[-1])
    on_latents = torch.stack([F.interpolate(part, size=size, mode="area") for part in parts])
    weights = on_latents / on_latents.sum(0).clamp(min=1e-6)
    carried = [warp_latent(reference.y, flow.to_key[reference.key], valid) for reference in references]
    return (torch.stack(carried) * weights).sum(0).unsqueeze(0), valid
