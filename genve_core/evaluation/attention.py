"""Where the local-aware cross-attention looks: for one patch of one frame, a map over the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipFlow, Reference
from ..conditioning.temporal import shares
from ..conditioning.warp import resize_flow, warp
from ..controller import VideoController
from ..errors import InputError
from ..models import Models

LATENT = 8  # px of a frame for one latent position


@dataclass(frozen=True)
class Look:
    """One patch of a frame, and what it attends to."""

    attention: Tensor  # (h', w') on the grid of patches, mean over heads, sums to 1
    query: tuple[int, int]  # (x, y) of the patch on that grid
    token: int  # px a side of a patch


def look(models: Models, Z_n: Tensor, Y_n: Tensor, frame: int, at: tuple[float, float], size: tuple[int, int]) -> Look:
    """Where the patch at `at` of a frame looks.

    Z_n, Y_n: (1, f, c, H/8, W/8).   at: (x, y) as shares of the frame's width and height, in [0, 1].
    size: (h, w) of the frames in pixels, without padding. Raises InputError for a frame or place that is not there, and
    for a bundle whose controller does not look at a reference.
    """
    if not 0 <= frame < Z_n.shape[1]:
        raise InputError(f"frame {frame} is not in the clip of {Z_n.shape[1]} frames; choose from 0 to {Z_n.shape[1] - 1}")
    if not (0 <= at[0] <= 1 and 0 <= at[1] <= 1):
        raise InputError(f"x and y must be in [0, 1], shares of the frame, got {at[0]:g} and {at[1]:g}")
    if Y_n.shape != Z_n.shape:
        raise InputError(f"Y_n is {tuple(Y_n.shape[1:])} and Z_n {tuple(Z_n.shape[1:])} (frames, channels, height, width): "
                         f"they are of different clips; wire both from one graph")
    with models.computing():
        (controller,) = models.ready("controller")
        lca = cast(VideoController, controller).lca
        if lca.config.variant == "none":
            raise InputError("this bundle's controller looks at no reference (LCA variant none); choose another bundle")
        token = LATENT * lca.config.stride
        x, y = (min(int(share * side), side - 1) // token for share, side in zip(at, (size[1], size[0])))
        rows = slice(frame, frame + 1)
        maps = lca.attention_map(Z_n[:, rows].to(models.device), Y_n[:, rows].to(models.device), (x, y))
        return Look(maps[0, 0].float().cpu(), (x, y), token)


def carried_picture(references: Sequence[Reference], flow: ClipFlow, frame: int) -> tuple[Tensor, Tensor]:
    """The references as one frame sees them: carried along the motion, (3, H, W) in [-1, 1], and where they reach, (1, H, W).

    Each counts with its share; raises InputError if the flow does not lead to their key frames.
    """
    rows = slice(frame, frame + 1)
    size = (references[0].image.shape[-2], references[0].image.shape[-1])
    picture, reach = torch.zeros(1, 3, *size), torch.zeros(1, 1, *size)
    for reference, share in zip(references, shares(references, flow, rows), strict=True):
        weight = F.interpolate(share.float().cpu(), size=size, mode="bilinear")
        moved = warp(reference.image.float().cpu().unsqueeze(0), resize_flow(flow.to_key[reference.key][rows].cpu(), size))
        picture, reach = picture + weight * moved, reach + weight
    return (picture / reach.clamp(min=1e-6))[0], reach[0]
