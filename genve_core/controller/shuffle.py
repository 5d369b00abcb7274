"""Shuffle_d of Fig. 3: tokens change places with their neighbours only."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["shuffle_groups", "shuffle_tokens"]


def shuffle_tokens(
    tokens: Tensor, d: int, groups: Literal["blocks", "raster"], generator: torch.Generator | None = None
) -> Tensor:
    """Permute tokens inside their group; every image and every call gets its own permutation.

    tokens: (n, c, h, w).   groups, d: see `shuffle_groups`.   generator: where the permutation is drawn from.
    The figure shuffles keys and values with one permutation: shuffle what both are made from.
    """
    n, _, h, w = tokens.shape
    group = shuffle_groups(h, w, d, groups).to(tokens.device)
    device = tokens.device if generator is None else generator.device
    drawn = torch.rand(n, h * w, generator=generator, device=device).to(tokens.device).argsort(dim=1)
    taken = drawn.gather(1, group[drawn].argsort(dim=1, stable=True))  # by group, in random order inside it
    placed = group.argsort(stable=True)  # by group, in raster order inside it
    source = torch.empty_like(taken)
    source[:, placed] = taken
    source = source[:, None].expand(-1, tokens.shape[1], -1)
    return tokens.flatten(2).gather(2, source).view_as(tokens)


def shuffle_groups(h: int, w: int, d: int, groups: Literal["blocks", "raster"]) -> Tensor:
    """The group of every token, (h w,) int64 in raster order.

    `blocks`: non-overlapping d x d squares, smaller at the right and lower edge.
    `raster`: d consecutive tokens, as the figure draws it; such a group may wrap round the end of a row.
    """
    if groups == "raster":
        return torch.arange(h * w) // d
    rows, cols = torch.arange(h) // d, torch.arange(w) // d
    return (rows[:, None] * (cols[-1] + 1) + cols).flatten()
