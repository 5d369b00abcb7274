"""Latents that are too large to be denoised whole: in tiles, whose estimates are cross-faded.

The UNet normalises over space and attends, so a tile's estimate is not exactly the whole frame's: the tiles are part of
what the result is. Noise, flow and the matched reference are always those of the whole frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..video_codec import TilingConfig, tile_spans, tile_weights

STEP = 4  # latent positions: two halvings by the UNet
FACTOR = 8  # px of a latent position


@dataclass(frozen=True)
class LatentTile:
    """A part of every frame's latents. Over all tiles of a frame the weights sum to 1."""

    rows: slice
    columns: slice
    weight: Tensor  # (h, w) float32

    def of(self, x: Tensor, reduced: int = 1) -> Tensor:
        """The tile of x (..., h / reduced, w / reduced)."""
        y, x_ = (slice(s.start // reduced, -(-s.stop // reduced)) for s in (self.rows, self.columns))
        return x[..., y, x_]


def latent_tiles(size: tuple[int, int], tiling: TilingConfig) -> list[LatentTile]:
    """Cut latents of `size` = (h, w) into about equal tiles of at most `tiling.diffuse` px a side; one if they are smaller."""
    overlap = tiling.overlap // FACTOR // STEP * STEP
    rows, columns = (tile_spans(side, tiling.diffuse // FACTOR // STEP * STEP, overlap, STEP) for side in size)
    weights = [tile_weights(spans, overlap) for spans in (rows, columns)]
    return [LatentTile(slice(y.start, y.stop), slice(x.start, x.stop), torch.outer(a, b))
            for y, a in zip(rows, weights[0], strict=True) for x, b in zip(columns, weights[1], strict=True)]
