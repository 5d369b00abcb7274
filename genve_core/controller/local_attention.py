"""Local-aware cross-attention (section 3.4, Fig. 3): detail flows from the reference to a frame.

For every frame i, with z_n the augmented video latent and y_n the augmented, warped reference latent:

    q = Conv_z(z_n)    k = v = Shuffle_d(Conv_y(y_n))
    A = softmax(Norm(q) Norm(k)^T + B)    e = Conv_o(A v) + q

Our choices where the paper is silent: Norm divides each head's vector by its L2 length and the logits are
then multiplied by a learned temperature per head; Conv_z and Conv_y start with equal weights, since both see
latents of one space and equal content should match from the first step; Conv_o is 1 x 1; every frame and
every call draws its own shuffle. What `B` is, is the `variant`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .attention import band_bias, chunked_attention, dense_attention, window_attention, window_bias
from .shuffle import shuffle_tokens

__all__ = ["LCAConfig", "LocalAwareCrossAttention"]

Variant = Literal["window", "band", "plain", "none"]
ShuffleMode = Literal["off", "training", "always"]
ShuffleGroups = Literal["blocks", "raster"]
MAX_SCALE = 100.0  # the temperature may not grow beyond this, or one token takes all and gradients vanish


@dataclass(frozen=True)
class LCAConfig:
    """How the reference is matched. Distances are in tokens (latent pixels / stride)."""

    variant: Variant = "window"
    """`window`: |dx|, |dy| < d, a learned bias per head and offset inside, -inf outside (our default).
    `band`: the figure literally, B = 1 where |i - j| < d in raster order and 0 elsewhere.
    `plain`: B = 0, cross-attention (Table 2, row B).   `none`: no reference, e = q (Table 2, row A)."""
    dim: int = 64
    heads: int = 4
    d: int = 5
    shuffle: ShuffleMode = "training"
    shuffle_groups: ShuffleGroups = "blocks"
    stride: int = 2  # of Conv_z and Conv_y: 2 where the UNet's first block ends in a down-sampler
    kernel: int = 3  # of Conv_z and Conv_y
    scale_init: float = 10.0  # the temperature at the start

    def __post_init__(self) -> None:
        choices = {"variant": Variant, "shuffle": ShuffleMode, "shuffle_groups": ShuffleGroups}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                known = ", ".join(get_args(allowed))
                raise InputError(f"LCA {name} is {getattr(self, name)!r}, but must be one of: {known}")
        for name in ("dim", "heads", "d", "stride"):
            if getattr(self, name) < 1:
                raise InputError(f"LCA {name} must be at least 1, got {getattr(self, name)}")
        if self.dim % self.heads:
            raise InputError(f"LCA dim must be a multiple of heads, got {self.dim} and {self.heads}")
        if self.kernel % 2 == 0:
            raise InputError(f"LCA kernel must be odd, got {self.kernel}")
        if not 0 < self.scale_init <= MAX_SCALE:
            raise InputError(f"LCA scale_init must be in (0, {MAX_SCALE:g}], got {self.scale_init}")


class LocalAwareCrossAttention(nn.Module):
    """LCA on latents of `latent_channels` channels; see the module's docstring for the formula."""

    def __init__(self, latent_channels: int, config: LCAConfig = LCAConfig()):
        super().__init__()
        self.config = config
        self.conv_z = self._patches(latent_channels)
        if config.variant == "none":
            return
        self.conv_y = self._patches(latent_channels)
        self.conv_y.load_state_dict(self.conv_z.state_dict())
        self.conv_o = nn.Conv2d(config.dim, config.dim, 1)
        self.log_scale = nn.Parameter(torch.full((config.heads,), math.log(config.scale_init)))
        if config.variant == "window":
            self.bias_table = nn.Parameter(torch.zeros(config.heads, 2 * config.d - 1, 2 * config.d - 1))

    def forward(
        self, z_n: Tensor, y_n: Tensor, *, generator: torch.Generator | None = None, dense: bool = False
    ) -> Tensor:
        """z_n, y_n: (b, f, c, h, w) latents; masked or invalid positions of y_n are zeros and stay tokens.

        generator: for the shuffle.   dense: hold the whole attention matrix (a reference for tests).
        Returns e: (b, f, dim, ceil(h / stride), ceil(w / stride)). Raises ValueError for unequal shapes.
        """
        b = z_n.shape[0]
        q_map = self.conv_z(self._frames(z_n, "z_n"))
        if self.config.variant == "none":
            return rearrange(q_map, "(b f) c h w -> b f c h w", b=b)
        if y_n.shape != z_n.shape:
            raise ValueError(f"y_n must be {tuple(z_n.shape)} like z_n, got {tuple(y_n.shape)}")
        v_map = self.conv_y(self._frames(y_n, "y_n"))
        if self.config.shuffle == "always" or (self.config.shuffle == "training" and self.training):
            v_map = shuffle_tokens(v_map, self.config.d, self.config.shuffle_groups, generator)
        attended = self._attend(q_map, v_map, dense)
        e = self.conv_o(rearrange(attended, "n m h w c -> n (m c) h w")) + q_map
        return rearrange(e, "(b f) c h w -> b f c h w", b=b)

    @torch.no_grad()
    def attention_map(self, z_n: Tensor, y_n: Tensor, query_xy: tuple[int, int]) -> Tensor:
        """Where one token of the video frames looks in the reference, without shuffle; for previews.

        query_xy: (x, y) of the token, in [0, w') x [0, h') of the token grid.
        Returns (b, f, h', w'), the mean over heads; every map sums to 1. Raises ValueError outside the grid.
        """
        if self.config.variant == "none":
            raise ValueError("variant 'none' has no attention to show")
        q = self._heads(self.conv_z(self._frames(z_n, "z_n")))
        k = self._heads(self.conv_y(self._frames(y_n, "y_n")))
        (h, w), (x, y) = q.shape[2:4], query_xy
        if not (0 <= x < w and 0 <= y < h):
            raise ValueError(f"query_xy must lie in the {w}x{h} token grid, got {query_xy}")
        query = _unit(q[:, :, y, x]) * self._scale()[:, None]
        logits = (_unit(k).flatten(2, 3) @ query[..., None]).squeeze(-1)
        bias = self._bias(range(y, y + 1), range(x, x + 1), h, w, q.device)
        weights = (logits if bias is None else logits + bias[:, 0]).softmax(-1).mean(1)
        return rearrange(weights, "(b f) (h w) -> b f h w", b=z_n.shape[0], h=h)

    def _attend(self, q_map: Tensor, v_map: Tensor, dense: bool) -> Tensor:
        v = self._heads(v_map)
        q = _unit(self._heads(q_map)) * self._scale()[:, None, None, None]
        k = _unit(v)
        h, w = q.shape[2:4]
        if dense:
            return dense_attention(q, k, v, self._bias(range(h), range(w), h, w, q.device))
        if self.config.variant == "window":
            return window_attention(q, k, v, self.bias_table)
        if self.config.variant == "band":
            return chunked_attention(q, k, v, lambda rows: band_bias(rows, h * w, self.config.d, q.device))
        return chunked_attention(q, k, v)

    def _bias(self, rows: range, cols: range, h: int, w: int, device: torch.device) -> Tensor | None:
        """Rows of B for the queries of rows x cols against the whole grid: (heads or 1, queries, h w)."""
        if self.config.variant == "window":
            return window_bias(self.bias_table, rows, cols, range(h), range(w))
        if self.config.variant == "band":
            whole = band_bias(range(rows.start * w, rows.stop * w), h * w, self.config.d, device)
            return whole.unflatten(1, (len(rows), w))[:, :, cols.start : cols.stop].flatten(1, 2)
        return None

    def _scale(self) -> Tensor:
        return self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()

    def _heads(self, tokens: Tensor) -> Tensor:
        # a strided view would send scaled_dot_product_attention to its slow kernel, which holds N x N
        return rearrange(tokens, "n (m c) h w -> n m h w c", m=self.config.heads).contiguous()

    def _patches(self, latent_channels: int) -> nn.Conv2d:
        c = self.config
        return nn.Conv2d(latent_channels, c.dim, c.kernel, stride=c.stride, padding=c.kernel // 2)

    def _frames(self, latent: Tensor, name: str) -> Tensor:
        channels = self.conv_z.in_channels
        if latent.ndim != 5 or latent.shape[2] != channels:
            raise ValueError(f"{name} must be (b, f, {channels}, h, w), got {tuple(latent.shape)}")
        return rearrange(latent, "b f c h w -> (b f) c h w")


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1, eps=1e-4)  # the usual 1e-12 is 0 in float16: zero tokens would be NaN
