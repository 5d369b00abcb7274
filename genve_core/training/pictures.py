"""Pictures drawn during training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def grid_picture(rows: Sequence[Tensor]) -> np.ndarray:
    """Rows of frames, each (n, 3, h, w) in [-1, 1], as one RGB uint8 image (rows h, n w, 3)."""
    lines = [torch.cat(list(row.float().cpu()), dim=-1) for row in rows]
    image = torch.cat(lines, dim=-2).permute(1, 2, 0)
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
