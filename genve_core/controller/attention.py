"""Attention on a grid of tokens, with a bias: one dense reference and two exact paths that never hold N x N.

Queries are (n, heads, h, w, c), already normalised and scaled; keys and values likewise. N = h w tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["band_bias", "chunked_attention", "dense_attention", "window_attention", "window_bias"]


def dense_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k^T + bias) v with the whole matrix in memory. bias: (heads or 1, N, N). Returns like `v`."""
    return _attend(q, k, v, bias).reshape(v.shape)


def window_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor, tile: int = 8) -> Tensor:
    """Each query sees the keys with |dx|, |dy| < d only, cut off at the borders; tile by tile over a halo.

    table: (heads, 2d-1, 2d-1); the key at (dy, dx) from the query has the bias table[:, dy + d-1, dx + d-1].
    Memory and time grow with N (d + tile)^2, not with N^2. Returns like `v`.
    """
    h, w = q.shape[2:4]
    radius = table.shape[-1] // 2
    biases: dict[tuple[int, ...], Tensor] = {}  # all inner tiles share one
    strips = []
    for rows in _tiles(h, tile):
        near_rows = _grown(rows, radius, h)
        # rows first, then columns: in the backward pass a slice costs as much as what it was cut from
        q_strip = q[:, :, rows.start : rows.stop]
        k_strip, v_strip = (x[:, :, near_rows.start : near_rows.stop] for x in (k, v))
        cells = []
        for cols in _tiles(w, tile):
            near_cols = _grown(cols, radius, w)
            place = (*_place(rows, near_rows), *_place(cols, near_cols))
            if place not in biases:
                biases[place] = window_bias(table, rows, cols, near_rows, near_cols)
            q_cell = q_strip[:, :, :, cols.start : cols.stop]
            k_cell, v_cell = (x[:, :, :, near_cols.start : near_cols.stop] for x in (k_strip, v_strip))
            cells.append(_attend(q_cell, k_cell, v_cell, biases[place]).unflatten(2, (len(rows), len(cols))))
        strips.append(torch.cat(cells, dim=3))
    return torch.cat(strips, dim=2)


def chunked_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_of: Callable[[range], Tensor] | None = None, chunk: int = 512
) -> Tensor:
    """Every query sees every key, `chunk` queries at a time.

    bias_of: gives the rows (1, chunk, N) of a bias that needs no gradient. Returns like `v`.
    """
    q, k, v_tokens = (x.flatten(2, 3) for x in (q, k, v))
    parts = []
    for start in range(0, q.shape[2], chunk):
        rows = range(start, min(start + chunk, q.shape[2]))
        bias = None if bias_of is None else bias_of(rows).to(q.dtype)[None]  # the fast kernels want 4 axes
        part = q[:, :, rows.start : rows.stop]
        parts.append(F.scaled_dot_product_attention(part, k, v_tokens, attn_mask=bias, scale=1.0))
    return torch.cat(parts, dim=2).reshape(v.shape)


def window_bias(table: Tensor, rows: range, cols: range, key_rows: range, key_cols: range) -> Tensor:
    """The bias between the queries of rows x cols and the keys of key_rows x key_cols; -inf outside.

    table: (heads, 2d-1, 2d-1). Returns (heads, queries, keys), both in raster order.
    """
    radius = table.shape[-1] // 2
    dy, dx = (_offsets(*pair, device=table.device) for pair in ((rows, key_rows), (cols, key_cols)))
    dy, dx = dy[:, None, :, None], dx[None, :, None, :]  # (query row, query column, key row, key column)
    inside = (dy.abs() <= radius) & (dx.abs() <= radius)
    y, x = ((offset + radius).clamp(0, 2 * radius) for offset in (dy, dx))
    bias = table[:, y, x].masked_fill(~inside, float("-inf"))
    return bias.flatten(3, 4).flatten(1, 2)


def band_bias(rows: range, tokens: int, d: int, device: torch.device) -> Tensor:
    """Fig. 3 literally: B[i, j] = 1 if |i - j| < d else 0, in raster order: (1, len(rows), tokens)."""
    i = torch.arange(rows.start, rows.stop, device=device)
    j = torch.arange(tokens, device=device)
    return ((i[:, None] - j).abs() < d).float()[None]


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:  # -> (n, heads, queries, c)
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2)
    if bias is not None:
        logits = logits + bias.to(logits.dtype)
    return logits.softmax(-1) @ v


def _tiles(size: int, tile: int) -> list[range]:
    """Cut an axis into tiles of nearly equal length, at most `tile`."""
    count = -(-size // tile)
    edges = [size * i // count for i in range(count + 1)]
    return [range(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _grown(span: range, radius: int, size: int) -> range:
    return range(max(0, span.start - radius), min(size, span.stop + radius))


def _place(span: range, near: range) -> tuple[int, int, int]:
    return span.start - near.start, len(span), len(near)


def _offsets(queries: range, keys: range, device: torch.device) -> Tensor:
    q = torch.arange(queries.start, queries.stop, device=device)
    k = torch.arange(keys.start, keys.stop, device=device)
    return k - q[:, None]
