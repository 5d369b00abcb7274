"""Up-sampling, and the way into latents and back (paper, section 3.1): frame by frame, large ones in tiles.

A vae here is any object with `encode` (n, 3, h, w) -> (n, c, h/8, w/8) latents of unit variance, `decode`
back, and the attributes `downscale` and `latent_channels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .diffuser.windows import WindowConfig, windows
from .errors import InputError

SMALLEST_TILE = 512  # px: below, the decoder would see more of a tile's surround than of the tile


class FrameVAE(Protocol):
    """A 2D VAE, as this module needs it."""

    downscale: int
    latent_channels: int

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TilingConfig:
    """How much of a video goes through the networks at once.

    The result depends on `diffuse` where a frame is larger, and on nothing else here beyond rounding.
    """

    frames: int = 4  # frames per call of the VAE
    tile: int = 768  # px, side of the VAE's tiles; smaller frames go whole
    overlap: int = 128  # px shared by neighbours: 3/8 thrown away on each side, the rest cross-faded
    decode: int = 2048  # px: the detail decoder sees no more than a square of this side; larger frames are decoded in parts
    diffuse: int = 1024  # px, side of the tiles in which the latents of larger frames are denoised, cross-faded as above

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"frames per call must be at least 1, got {self.frames}")
        if not 0 <= self.overlap < self.tile:
            raise InputError(f"need 0 <= overlap < tile, got {self.overlap} and {self.tile}")
        if min(self.decode, self.diffuse) < SMALLEST_TILE:
            raise InputError(f"tiles of the decoder and the diffuser must be {SMALLEST_TILE} px or more, got {self.decode} and "
                             f"{self.diffuse}")


def upsample(video: Tensor, size: tuple[int, int], *, clamp: bool = True) -> Tensor:
    """Bicubic resampling of (b, f, 3, h, w) to any `size` = (h, w) in pixels.

    Anti-aliased where an axis shrinks. Up-sampling uses torch's kernel (a = -0.75), a little sharper than
    Pillow's (a = -0.5).
    clamp: bicubic overshoots at edges; a video is clamped back to [-1, 1]. Turn off for data of another
    range. A video of that size already is returned unchanged.
    """
    if min(size) < 1:
        raise InputError(f"target size must be at least 1x1 px, got {size[1]}x{size[0]}")
    h, w = video.shape[-2:]
    if (h, w) == tuple(size):
        return video
    shrinks = size[0] < h or size[1] < w
    x = video.flatten(0, 1).float()
    x = F.interpolate(x, size=tuple(size), mode="bicubic", align_corners=False, antialias=shrinks)
    x = x.clamp(-1, 1) if clamp else x
    return x.unflatten(0, video.shape[:2]).to(video.dtype)


def padded_size(size: Sequence[int], multiple: int = 8) -> tuple[int, int]:
    """`size` = (h, w), each side taken up to a multiple of `multiple`."""
    h, w = (-(-side // multiple) * multiple for side in size)
    return h, w


def pad_to_multiple(video: Tensor, multiple: int = 8) -> Tensor:
    """Extend (..., h, w) at the right and the bottom to multiples of `multiple`, by reflection.

    Reflection goes back and forth as often as needed, so one pixel is enough. Undone by `crop`.
    """
    size = padded_size(video.shape[-2:], multiple)
    if size == tuple(video.shape[-2:]):
        return video
    rows, columns = (_reflected(side, wanted, video.device) for side, wanted in zip(video.shape[-2:], size, strict=True))
    return video.index_select(-2, rows).index_select(-1, columns)


def crop(video: Tensor, size: tuple[int, int]) -> Tensor:
    """The top left `size` = (h, w) of (..., h, w): takes back `pad_to_multiple`.

    Raises ValueError if there is less.
    """
    h, w = video.shape[-2:]
    if h < size[0] or w < size[1]:
        raise ValueError(f"cannot crop {w}x{h} px to the larger {size[1]}x{size[0]}")
    return video[..., : size[0], : size[1]]


def encode(vae: FrameVAE, video: Tensor, tiling: TilingConfig = TilingConfig()) -> Tensor:
    """Video (b, f, 3, h, w) in [-1, 1] -> Z (b, f, c, h/8, w/8). Z lies on the video's device, in its dtype.

    Raises ValueError if the video is not such a tensor or its sides are not multiples of the VAE's
    down-scaling.
    """
    factor = vae.downscale
    if video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(f"video must be (b, f, 3, h, w), got {tuple(video.shape)}")
    h, w = video.shape[-2:]
    if h % factor or w % factor:
        raise ValueError(
            f"video is {w}x{h} px, but width and height must be multiples of {factor}; "
            "call pad_to_multiple() first"
        )
    shape = (vae.latent_channels, h // factor, w // factor)
    return _in_slices(vae.encode, video, shape, factor, tiling)


def decode(vae: FrameVAE, Z: Tensor, tiling: TilingConfig = TilingConfig()) -> Tensor:
    """Z (b, f, c, h, w) -> video (b, f, 3, 8h, 8w), clamped to [-1, 1].

    Raises ValueError on other channels, or if the VAE returns another shape than it promises.
    """
    if Z.ndim != 5 or Z.shape[2] != vae.latent_channels:
        raise ValueError(f"Z must be (b, f, {vae.latent_channels}, h, w), got {tuple(Z.shape)}")
    shape = (3, Z.shape[-2] * vae.downscale, Z.shape[-1] * vae.downscale)
    return _in_slices(vae.decode, Z, shape, vae.downscale, tiling).clamp(-1, 1)


def tile_spans(side: int, most: int, overlap: int, step: int = 1) -> list[range]:
    """Cut 0 to `side` into as few tiles of at most `most` as share `overlap`, about equally long: the least work.

    step: their length is a multiple of it, as `side` and `most` are.
    """
    if side <= most:
        return [range(side)]
    count = math.ceil((side - overlap) / (most - overlap))
    length = math.ceil((side + (count - 1) * overlap) / count / step) * step
    return windows(side, WindowConfig(length, overlap))


def tile_weights(spans: list[range], overlap: int) -> list[Tensor]:
    """Cross-fade weights of tiles along one axis, float32, that sum to 1 at every position.

    Near a tile's inner edge the network saw padding in place of the picture. So the outer 3/8 of the overlap
    has weight 0 there, then a smooth step follows. The frame's own edges keep weight 1.
    """
    length = spans[-1].stop
    margin, ramp = overlap * 3 / 8, max(overlap / 4, 1e-6)
    raw = []
    for span in spans:
        centre = torch.arange(len(span)) + 0.5
        from_left = centre if span.start > 0 else torch.full_like(centre, float("inf"))
        from_right = len(span) - centre if span.stop < length else torch.full_like(centre, float("inf"))
        step = ((torch.minimum(from_left, from_right) - margin) / ramp).clamp(0, 1)
        raw.append(step * step * (3 - 2 * step))
    total = torch.zeros(length)
    for span, weight in zip(spans, raw, strict=True):
        total[span.start : span.stop] += weight
    return [weight / total[span.start : span.stop] for span, weight in zip(spans, raw, strict=True)]


def _in_slices(
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    shape: tuple[int, int, int],
    factor: int,
    tiling: TilingConfig,
) -> Tensor:
    """Run `call` over all frames of x (b, f, ., ., .), a few at a time; each result has `shape`."""
    out = x.new_empty((x.shape[0] * x.shape[1], *shape))
    flat = x.flatten(0, 1)
    for start in range(0, len(flat), tiling.frames):
        part = slice(start, start + tiling.frames)
        out[part] = _in_tiles(call, flat[part], shape, factor, tiling)
    return out.unflatten(0, x.shape[:2])


def _in_tiles(
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    shape: tuple[int, int, int],
    factor: int,
    tiling: TilingConfig,
) -> Tensor:
    """Run `call` on x (n, c, h, w), in tiles of whole latent positions if it is larger than one."""
    latent = [min(a, b) for a, b in zip(x.shape[-2:], shape[-2:], strict=True)]
    length = max(1, tiling.tile // factor)
    overlap = min(tiling.overlap // factor, length - 1)
    rows, columns = (tile_spans(side, length, overlap) for side in latent)
    if len(rows) == len(columns) == 1:
        return _checked(call(x), (len(x), *shape))
    into, outof = (side // latent[0] for side in (x.shape[-2], shape[-2]))  # tensor steps per latent position
    weights_y, weights_x = (
        tile_weights([_scaled(s, outof) for s in spans], overlap * outof) for spans in (rows, columns)
    )
    out = x.new_zeros((len(x), *shape), dtype=torch.float32)
    for row, weight_y in zip(rows, weights_y, strict=True):
        for column, weight_x in zip(columns, weights_x, strict=True):
            (y, x_), (v, u) = ([slice(s.start * k, s.stop * k) for s in (row, column)] for k in (into, outof))
            size = (len(x), shape[0], len(row) * outof, len(column) * outof)
            part = _checked(call(x[..., y, x_]), size).float()
            out[..., v, u] += part * torch.outer(weight_y, weight_x).to(part.device)
    return out.to(x.dtype)


def _scaled(span: range, factor: int) -> range:
    return range(span.start * factor, span.stop * factor)


def _checked(result: Tensor, shape: tuple[int, ...]) -> Tensor:
    if result.shape != shape:
        raise ValueError(f"the VAE should have returned {shape}, got {tuple(result.shape)}")
    return result


def _reflected(side: int, length: int, device: torch.device) -> Tensor:
    """Indices 0 .. side - 1, then back and forth, `length` in all."""
    period = max(2 * (side - 1), 1)
    position = torch.arange(length, device=device) % period
    return torch.minimum(position, period - position) if side > 1 else torch.zeros_like(position)
