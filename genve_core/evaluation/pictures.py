"""Pictures for the eye: motion as colours, where the controller looks, frames in a labelled grid, curves.

Pictures are float32 RGB in [0, 1], (3, h, w) or (f, 3, h, w), on the CPU. Text is drawn in Pillow's own font.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WHEEL = (15, 6, 4, 11, 13, 6)  # hues from red over yellow, green, cyan, blue, magenta to red (Baker et al. 2007)
STRIPE = 4  # px, width of the lines that hatch what is not valid
GAP = 6  # px between the parts of a picture
TEXT = 14  # px, height of the letters
LINE = TEXT + 2 * GAP  # px, a line of text with room around it
PANEL, MARGIN = 90, 64  # px, height of a curve's panel, room to its left
SHORTEST = 1.0  # px: shorter motion is not blown up to full colour, or a still clip would show the noise of its flow


@lru_cache(maxsize=1)
def _wheel() -> Tensor:
    """The Middlebury colour wheel, (55, 3): one channel rises or falls in each of six sections."""
    corners = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]]).float()
    sections = []
    for length, here, there in zip(WHEEL, corners, corners[1:]):
        share = (torch.arange(length) / length).view(-1, 1)
        sections.append(here + share * (there - here))
    return torch.cat(sections)


def flow_picture(flow: Tensor, valid: Tensor | None = None) -> Tensor:
    """Motion as colours: the hue is the direction, the saturation the length; white stands still.

    flow: (f, 2, h, w), (dx, dy) in pixels.   valid: (f, 1, h, w) in [0, 1]; below 0.5 the picture is hatched.
    Full colour is the length that 99 % of the clip's valid vectors do not exceed, at least SHORTEST: one scale for all
    frames. Longer vectors are darker. Returns (f, 3, h, w) in [0, 1]. Raises ValueError for other shapes.
    """
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow must be (f, 2, h, w), got {tuple(flow.shape)}")
    if valid is not None and valid.shape != (flow.shape[0], 1, *flow.shape[2:]):
        raise ValueError(f"valid must be {(flow.shape[0], 1, *flow.shape[2:])} like the flow, got {tuple(valid.shape)}")
    flow = flow.float().cpu()
    trusted = torch.ones_like(flow[:, :1]) if valid is None else (valid.float().cpu() >= 0.5).float()
    length = flow.square().sum(1, keepdim=True).sqrt()
    radius = length / _full_length(length, trusted)
    hue = _hue(flow)
    # inside of the wheel colours fade to white, outside they darken: the wheel's end stays visible
    colour = torch.where(radius <= 1, 1 - radius * (1 - hue), 0.75 * hue)
    return hatched(colour, trusted)


def _full_length(length: Tensor, trusted: Tensor) -> float:
    lengths = length[trusted > 0]
    if not len(lengths):
        return SHORTEST
    # every k-th value: the 99th percentile of a million says as much as that of a billion
    lengths = lengths[:: max(1, len(lengths) // 1_000_000)]
    return max(SHORTEST, float(lengths.sort().values[math.ceil(0.99 * len(lengths)) - 1]))


def _hue(flow: Tensor) -> Tensor:
    """The wheel's colour of each vector's direction, (f, 3, h, w)."""
    wheel = _wheel()
    turn = (torch.atan2(-flow[:, 1], -flow[:, 0]) / math.pi + 1) / 2 * (len(wheel) - 1)
    below = turn.floor().long().clamp(0, len(wheel) - 1)
    share = (turn - below).unsqueeze(-1)
    colour = wheel[below] * (1 - share) + wheel[(below + 1) % len(wheel)] * share
    return colour.permute(0, 3, 1, 2)


def hatched(picture: Tensor, valid: Tensor) -> Tensor:
    """A picture (..., 3, h, w), dimmed and under diagonal lines where `valid` (..., 1, h, w) is below 0.5."""
    h, w = picture.shape[-2:]
    diagonal = torch.arange(h).view(-1, 1) + torch.arange(w).view(1, -1)
    line = (diagonal // STRIPE % 2).to(picture)
    return torch.where(valid >= 0.5, picture, 0.5 * picture * (1 - line) + 0.15 * line)


def attention_picture(frame: Tensor, reference: Tensor, attention: Tensor, query: tuple[int, int], token: int) -> Tensor:
    """Where one patch of a frame looks: the frame with the patch framed, beside the reference under a heat map.

    frame, reference: (3, h, w) in [0, 1], the reference on the frame's grid.   attention: (h', w') >= 0, on a grid of
    `token` pixels that may reach beyond the frame.   query: (x, y) of the patch on that grid.
    Returns (3, h, w + GAP + w): heat from clear (none) over red to yellow (the most attended patch).
    """
    h, w = frame.shape[-2:]
    heat = attention.float().cpu() / attention.max().clamp(min=1e-12).cpu()
    heat = heat.repeat_interleave(token, 0).repeat_interleave(token, 1)[:h, :w].unsqueeze(0)
    if heat.shape[-2:] != (h, w):
        raise ValueError(f"attention on a grid of {token} px must reach over {w}x{h} px, got {tuple(attention.shape)}")
    # half by the square root: what is little is still seen, and the peak stands out
    share = 0.85 * heat.sqrt()
    colour = torch.cat([torch.ones_like(heat), heat.square(), torch.zeros_like(heat)])
    shown = 0.8 * reference.float().cpu() * (1 - share) + colour * share
    left = _framed(frame.float().cpu(), query, token)
    return torch.cat([left, torch.ones(3, h, GAP), _framed(shown, query, token)], dim=-1).clamp(0, 1)


def _framed(picture: Tensor, query: tuple[int, int], token: int) -> Tensor:
    """A copy with a white line around one token, black around it: seen on every ground."""
    left, top = query[0] * token, query[1] * token
    right, bottom = left + token, top + token
    marked = picture.clone()
    for wider, value in ((2, 0.0), (1, 1.0)):
        marked[:, max(0, top - wider) : bottom + wider, max(0, left - wider) : right + wider] = value
    marked[:, top:bottom, left:right] = picture[:, top:bottom, left:right]
    return marked


def contact_sheet(cells: Sequence[Sequence[Tensor]], rows: Sequence[str], columns: Sequence[str], *,
                  cell_width: int = 320) -> Tensor:
    """A grid of pictures with a label on each row and column, (3, H, W).

    cells: rows of pictures (3, h, w) in [0, 1], all of one size; shown `cell_width` pixels wide, larger ones reduced by
    area, smaller ones as they are. Raises ValueError unless there is one label for each row and column.
    """
    if len(cells) != len(rows) or any(len(line) != len(columns) for line in cells) or not rows or not columns:
        raise ValueError(f"cells must be {len(rows)} rows of {len(columns)} pictures, "
                         f"got {[len(line) for line in cells]}")
    shown = [[reduced_picture(picture, cell_width) for picture in line] for line in cells]
    h, w = shown[0][0].shape[-2:]
    side = max(_text_width(text, TEXT) for text in rows) + 2 * GAP
    sheet = _Sheet(side + len(columns) * (w + GAP), LINE + len(rows) * (h + GAP))
    for i, text in enumerate(columns):
        sheet.text(side + i * (w + GAP), GAP, text, width=w)
    for j, (line, text) in enumerate(zip(shown, rows)):
        top = LINE + j * (h + GAP)
        sheet.text(GAP, top, text)
        for i, picture in enumerate(line):
            sheet.paste(picture, side + i * (w + GAP), top)
    return sheet.tensor()


def metric_plot(curves: Mapping[str, Sequence[float]], *, marked: Sequence[int] = (), width: int = 640,
                ends: tuple[str, str] | None = None) -> Tensor:
    """Curves over frames, one below the other with one frame axis: (3, H, width).

    curves: label -> values, the first of frame 0; NaN leaves a gap.   marked: frames with a grey bar, window borders say.
    ends: what the axis says at its two ends; None: the frames' numbers.
    Each curve is scaled to its own smallest and largest value, which are written beside it.
    """
    frames = max((len(values) for values in curves.values()), default=0)
    if not frames:
        raise ValueError("a plot needs at least one curve with a value")
    sheet = _Sheet(width, len(curves) * (PANEL + LINE) + LINE)
    left, right = MARGIN, width - GAP
    at = [left + (right - left) * (i + 0.5) / frames for i in range(frames)]
    half = (right - left) / frames / 2
    for row, (label, values) in enumerate(curves.items()):
        top = row * (PANEL + LINE) + LINE
        sheet.text(left, top - LINE + GAP, label, width=right - left)
        for i in marked:
            sheet.draw.rectangle((at[i] - half, top, at[i] + half, top + PANEL), fill="#dddddd")
        sheet.draw.rectangle((left, top, right, top + PANEL), outline="#888888")
        _curve(sheet, values, at, top)
    bottom = len(curves) * (PANEL + LINE)
    first, last = ends or ("frame 0", str(frames - 1))
    sheet.text(left, bottom + GAP, first)
    sheet.text(right - _text_width(last, TEXT), bottom + GAP, last)
    return sheet.tensor()


def _curve(sheet: _Sheet, values: Sequence[float], at: Sequence[float], top: int) -> None:
    """One curve in its panel, with its range written to the left."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return
    low, high = min(known), max(known)
    scale = (PANEL - 2 * GAP) / (high - low) if high > low else 0.0
    middle = top + PANEL / 2

    def y(value: float) -> float:
        return top + PANEL - GAP - (value - low) * scale if scale else middle

    for value in {low, high}:
        sheet.text(GAP, round(y(value)) - TEXT // 2, f"{value:.4g}", width=MARGIN - 2 * GAP)
    points = [(x, y(value)) if math.isfinite(value) else None for x, value in zip(at, values)]
    for here, there in zip(points, points[1:]):
        if here and there:
            sheet.draw.line((*here, *there), fill="#1f5fbf", width=2)
    for point in points:
        if point:
            sheet.draw.ellipse((point[0] - 2, point[1] - 2, point[0] + 2, point[1] + 2), fill="#1f5fbf")


class _Sheet:
    """White paper to paste pictures and write on."""

    def __init__(self, width: int, height: int):
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (width, height), "white")
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, width: float = math.inf) -> None:
        """A line of text, cut off with dots where it is wider than `width` pixels."""
        shown = text
        while _text_width(shown, TEXT) > width and len(shown) > 3:
            shown = shown.rstrip(".")[:-1] + "..."
        self.draw.text((x, y), shown, "black", _font(TEXT))

    def paste(self, picture: Tensor, x: int, y: int) -> None:
        """A picture (3, h, w) in [0, 1]."""
        from PIL import Image

        rgb = (picture.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        self.image.paste(Image.fromarray(rgb.numpy()), (x, y))

    def tensor(self) -> Tensor:
        """(3, h, w) in [0, 1]."""
        return torch.from_numpy(np.array(self.image)).permute(2, 0, 1).float() / 255


@lru_cache(maxsize=4)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _text_width(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def reduced_picture(picture: Tensor, width: int) -> Tensor:
    """A picture (3, h, w) at most `width` pixels wide, reduced by area."""
    h, w = picture.shape[-2:]
    if w <= width:
        return picture
    return F.interpolate(picture.unsqueeze(0).float(), size=(max(1, round(h * width / w)), width), mode="area")[0]
