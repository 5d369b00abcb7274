"""What the detail decoder sees besides the latents: aligned neighbours, the warped reference and its validity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.warp import compose, resize_flow, warp
from .detail_decoder import DecoderInputs, neighbours


def halve(frames: Tensor) -> Tensor:
    """Area-reduce (n, c, h, w) to half its height and width."""
    return F.avg_pool2d(frames, 2)


def aligned_neighbours(half: Tensor, forward: Tensor, backward: Tensor, reach: int) -> Tensor:
    """Bring the frames around each frame onto its grid.

    half: (b, f, 3, h, w), poor frames in a row.   forward, backward: (b, f, 2, h, w), flow to the next and to the
    previous frame in pixels of that grid, zero at the ends of the row.
    Returns (b, f, 3 * 2 * reach, h, w): neighbour minus frame. Beyond the ends the last frame repeats.
    """
    f = half.shape[1]
    here = torch.arange(f, device=half.device)
    parts = []
    for offset in neighbours(reach):
        flow = forward if offset > 0 else backward
        step = 1 if offset > 0 else -1
        path = flow
        for reached in range(1, abs(offset)):
            then = flow[:, (here + step * reached).clamp(0, f - 1)]
            path = compose(path.flatten(0, 1), then.flatten(0, 1)).view_as(path)
        frames = half[:, (here + offset).clamp(0, f - 1)]
        parts.append(warp(frames.flatten(0, 1), path.flatten(0, 1)).view_as(half) - half)
    return torch.cat(parts, dim=2)


def decoder_inputs(
    up: Tensor,
    forward: Tensor,
    backward: Tensor,
    *,
    reference: Tensor | None = None,
    key: Tensor | None = None,
    to_key: Tensor | None = None,
    valid: Tensor | None = None,
    strength: float = 1.0,
    reach: int = 2,
    frames: slice = slice(None),
) -> DecoderInputs:
    """Gather the decoder's inputs for `frames` of each row; frames and batch are folded together.

    up: (b, f, 3, h, w) up-sampled poor frames, sides multiples of 8.   forward, backward: (b, f, 2, hf, wf), any grid.
    reference, key: (b, 3, h, w), the reference and the poor key frame; None = no reference.
    to_key: (b, f, 2, hf, wf), frame -> key frame.   valid: (b, f, 1, hf, wf) in [0, 1].
    strength: how much of the reference's detail is let in; 0 gives exactly what no reference gives.
    reach: of the decoder (`DetailDecoder.reach`).
    """
    b, f, _, h, w = up.shape
    half_size = (h // 2, w // 2)

    def on_half(flow: Tensor) -> Tensor:
        return resize_flow(flow.flatten(0, 1), half_size).unflatten(0, (b, f))

    half = halve(up.flatten(0, 1)).unflatten(0, (b, f))
    near = aligned_neighbours(half, on_half(forward), on_half(backward), reach)[:, frames].flatten(0, 1)
    chosen, chosen_half = up[:, frames].flatten(0, 1), half[:, frames].flatten(0, 1)
    if reference is None or strength == 0:
        empty = torch.zeros_like(chosen_half[:, :1])
        return DecoderInputs(chosen, torch.zeros_like(chosen), empty, torch.zeros_like(chosen_half), near)
    assert key is not None and to_key is not None and valid is not None
    count = len(chosen) // b
    flow = to_key[:, frames].flatten(0, 1)
    share = F.interpolate(valid[:, frames].flatten(0, 1), size=half_size, mode="bilinear") * strength

    def carried(image: Tensor, grid_flow: Tensor, how: str) -> Tensor:
        return warp(image.repeat_interleave(count, 0), grid_flow, how)  # type: ignore[arg-type]

    detail = carried(reference, resize_flow(flow, (h, w)), "bicubic") - chosen
    poor_key = carried(halve(key), resize_flow(flow, half_size), "bilinear") - chosen_half
    full_share = share.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return DecoderInputs(chosen, detail * full_share, share, poor_key * share, near)
