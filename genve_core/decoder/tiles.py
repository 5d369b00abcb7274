"""Frames that are too large to be decoded whole: in parts, each with what it can see around it.

The decoder normalises nothing over space, so a part with a wide enough surround comes out as in the whole frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .detail_decoder import DecoderInputs, DetailDecoder

# px that a part sees around itself. What lies further away can reach it in principle (up to 312 px in genve-mini), but with
# genve-mini in float32 no value in [-1, 1] changed by more than 1.2e-4 (0.02 of a grey level), by 9e-4 with 96 px and by 3.5e-3
# with 64 px.
SURROUND = 128
STEP = 8  # px: tiles begin and end with a latent position


@dataclass(frozen=True)
class Tile:
    """A part of a frame, in pixels: what it yields, and what it sees for it."""

    own_rows: slice
    own_columns: slice
    rows: slice
    columns: slice

    def seen(self, x: Tensor, reduced: int = 1) -> Tensor:
        """What it sees of x (..., h / reduced, w / reduced)."""
        return x[..., _reduced(self.rows, reduced), _reduced(self.columns, reduced)]

    def kept(self, x: Tensor) -> Tensor:
        """The part of its result (..., h, w) that is kept."""
        return x[..., _inside(self.own_rows, self.rows), _inside(self.own_columns, self.columns)]


@lru_cache
def tiles(size: tuple[int, int], most: int) -> tuple[Tile, ...]:
    """Cut a frame of `size` = (h, w), multiples of 8, into as few pixels of work as tiles of at most `most` px allow.

    most: of what a tile sees. A frame that is no larger is one tile; a tile is never smaller than its surround and 64 px.
    """
    h, w = size
    if h * w <= most:
        return (Tile(*[slice(0, h), slice(0, w)] * 2),)
    grids = [(_cut(h, rows), _cut(w, columns)) for rows in range(1, max(2, h // 64 + 1))
             for columns in range(1, max(2, w // 64 + 1))]
    fitting = [grid for grid in grids if _longest(grid[0]) * _longest(grid[1]) <= most]
    if not fitting:
        fitting = [min(grids, key=lambda grid: _longest(grid[0]) * _longest(grid[1]))]
    rows, columns = min(fitting, key=lambda grid: _sum(grid[0]) * _sum(grid[1]))
    return tuple(Tile(own_y, own_x, y, x) for own_y, y in rows for own_x, x in columns)


def decode_in_tiles(decoder: DetailDecoder, latents: Tensor, inputs: DecoderInputs, n: float, most: int,
                    plain: float | None = None) -> Tensor:
    """`decoder(latents, inputs, n, plain)` in float32, frame by frame and tile by tile: (b, 3, h, w).

    most: pixels that the decoder sees at once; see `tiles`.
    """
    grid = tiles((inputs.up.shape[-2], inputs.up.shape[-1]), most)
    out = torch.empty(inputs.up.shape, dtype=torch.float32, device=inputs.up.device)
    for i in range(len(out)):
        one = inputs[i : i + 1]
        for tile in grid:
            part = DecoderInputs(*(tile.seen(x, one.up.shape[-1] // x.shape[-1])
                                   for x in (one.up, one.detail, one.valid, one.key, one.near)))
            decoded = decoder(tile.seen(latents[i : i + 1], STEP), part, n, plain)
            out[i, :, tile.own_rows, tile.own_columns] = tile.kept(decoded)[0]
    return out


Cut = list[tuple[slice, slice]]  # what is kept, and what is seen


def _cut(side: int, parts: int) -> Cut:
    """`side` px in `parts` about equal parts."""
    edges = [round(i * side / parts / STEP) * STEP for i in range(parts)] + [side]
    return [(slice(a, b), slice(max(0, a - SURROUND), min(side, b + SURROUND))) for a, b in zip(edges, edges[1:])]


def _longest(cut: Cut) -> int:
    return max(seen.stop - seen.start for _, seen in cut)


def _sum(cut: Cut) -> int:
    return sum(seen.stop - seen.start for _, seen in cut)


def _reduced(span: slice, factor: int) -> slice:
    return slice(span.start // factor, span.stop // factor)


def _inside(span: slice, seen: slice) -> slice:
    return slice(span.start - seen.start, span.stop - seen.start)
