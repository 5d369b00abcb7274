"""Views: a clip's frames are decoded as they lie, mirrored or turned, each frame another way than those next to it.

Ours, not the paper's. A decoder errs a little differently on a picture that is turned, and the mean of its answers is better in
all figures (`docs/model-design/views.md`). To ask it several times for each frame would cost as many times the work. But
finished frames are fused with their neighbours anyway (`steady`), so each frame is decoded once, the views following each
other, and the mean over as many frames as there are views is one over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

KERNEL = 3


@dataclass(frozen=True)
class View:
    """One of the eight ways in which a picture can lie: turned about these axes, then transposed or not."""

    axes: tuple[int, ...] = ()  # -1 = mirrored, -2 = upside down
    transposed: bool = False

    def of(self, x: Tensor) -> Tensor:
        """x (..., h, w) so seen: (..., h, w), or (..., w, h) if transposed."""
        x = x.flip(self.axes) if self.axes else x
        return x.transpose(-1, -2) if self.transposed else x

    def undone(self, x: Tensor) -> Tensor:
        """Takes `of` back."""
        x = x.transpose(-1, -2) if self.transposed else x
        return x.flip(self.axes) if self.axes else x


# In this order: a decoder with k views uses the first k. Those next to each other differ much.
VIEWS = (View(), View((-1,), True), View((-2,), True), View((-2, -1)), View((-1,)), View((-2,)), View((-2, -1), True),
         View((), True))  # fmt: skip


class TurnedLatents(nn.Module):
    """Latents of a turned frame, from those of the frame: turned, then one convolution, as they know left from right.

    The VAE is so nearly linear that this leaves 1.5 % of the variance (`docs/model-design/views.md`). Fitted by
    `training.views`, never by gradient: buffers, so that training the decoder further leaves them as they are.
    """

    weight: Tensor  # ((views - 1) c, c, KERNEL, KERNEL), view after view
    bias: Tensor  # ((views - 1) c,)

    def __init__(self, channels: int, views: int):
        super().__init__()
        weight = torch.zeros(views - 1, channels, channels, KERNEL, KERNEL)
        weight[:, range(channels), range(channels), KERNEL // 2, KERNEL // 2] = 1.0
        self.register_buffer("weight", weight.flatten(0, 1))
        self.register_buffer("bias", torch.zeros((views - 1) * channels))

    def forward(self, latents: Tensor, view: int) -> Tensor:
        """latents (n, c, h, w) of frames -> of the same frames seen as VIEWS[view]."""
        if view == 0:
            return latents
        rows = self.rows(view)
        padded = F.pad(VIEWS[view].of(latents), (KERNEL // 2,) * 4, mode="replicate")
        return F.conv2d(padded, self.weight[rows].to(latents), self.bias[rows].to(latents))

    def rows(self, view: int) -> slice:
        """Where the weights of a view lie."""
        c = self.weight.shape[1]
        return slice((view - 1) * c, view * c)


class Batch:
    """A few frames and the view of each: split into batches that the decoder can take, and joined again."""

    def __init__(self, views: Sequence[int], size: tuple[int, int]):
        """views: of each frame, counted in VIEWS.   size: (h, w) of the frames, in any unit."""
        self.views = tuple(views)
        across = [VIEWS[view].transposed and size[0] != size[1] for view in views]
        lying = [[i for i, one in enumerate(across) if one is wanted] for wanted in (False, True)]
        self._parts = [rows for rows in lying if rows]

    def split(self, x: Tensor) -> list[Tensor]:
        """x (n, c, h, w), seen as wanted, those of one shape together."""
        return [torch.cat([VIEWS[self.views[i]].of(x[i : i + 1]) for i in rows]) for rows in self._parts]

    def split_latents(self, latents: Tensor, turn: TurnedLatents | None) -> list[Tensor]:
        """The same of latents."""
        if turn is None:
            return self.split(latents)
        return [torch.cat([turn(latents[i : i + 1], self.views[i]) for i in rows]) for rows in self._parts]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """What was made of what `split` gave, in order and as the frames lie: (n, c, h, w)."""
        rows = [i for part in self._parts for i in part]
        frames = [one for part in parts for one in part.split(1)]
        return torch.cat([VIEWS[self.views[i]].undone(frame) for i, frame in sorted(zip(rows, frames), key=lambda row: row[0])])
