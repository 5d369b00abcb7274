"""Masking condition (paper, section 3.3; drawn in Fig. 2): coarse blocks of the warped reference become 0.

Training only: at inference the whole reference is kept, less the positions without a valid source. Those look
like masked ones, so the controller has learnt to fill them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError


def block_mask(shape: Sequence[int], ratio: float | Tensor, block: int, generator: torch.Generator) -> Tensor:
    """What to keep of a reference: 1 = kept, 0 = masked, float32, shaped `shape` = (b, f, 1, h, w).

    Every frame gets a mask of its own. ratio: share of blocks to mask, in [0, 1], one number or (b,), one per
    clip; rounded to whole blocks, then exact in every frame. block: side in latent positions; blocks at the
    right and bottom edge may be cut. The mask lies on the generator's device.
    """
    b, f, one, h, w = shape
    if one != 1:
        raise ValueError(f"a mask has 1 channel, got {one} in shape {tuple(shape)}")
    if block < 1:
        raise InputError(f"mask block must be at least 1 latent position, got {block}")
    ratios = torch.as_tensor(ratio, dtype=torch.float32)
    if ratios.device.type == "cpu" and not bool(((ratios >= 0) & (ratios <= 1)).all()):
        raise InputError(f"mask ratio must be in [0, 1], got {ratio}")
    if ratios.ndim and ratios.shape != (b,):
        raise ValueError(f"mask ratio must be one number or ({b},), got {tuple(ratios.shape)}")
    rows, columns = math.ceil(h / block), math.ceil(w / block)
    order = torch.rand((b, f, rows * columns), generator=generator, device=generator.device).argsort(dim=-1)
    rank = order.argsort(dim=-1)  # a random permutation per frame: the blocks ranked first are masked
    masked = (ratios.to(rank.device) * rows * columns).round().view(-1, 1, 1)
    keep = (rank >= masked).float().view(b, f, 1, rows, columns)
    keep = keep.repeat_interleave(block, dim=-2).repeat_interleave(block, dim=-1)
    return keep[..., :h, :w].contiguous()


def apply_mask(Y: Tensor, keep: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Zero the masked positions of Y (b, f, c, h, w) and join both reasons for a zero.

    keep, valid: (b, f, 1, h, w), 1 where there is a reference.
    Returns the masked Y and the joint validity, keep * valid.
    """
    joint = keep.to(Y) if valid is None else keep.to(Y) * valid.to(Y)
    return Y * joint, joint
