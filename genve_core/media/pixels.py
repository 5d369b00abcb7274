"""One decoded or coded picture <-> float RGB, by our own matrix arithmetic.

swscale is used only to repack rare formats (packed YUV, palettes, at equal depth and subsampling), never for
colour: so the result does not depend on its version, keeps 10 to 16 bit, and can be checked by hand.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import hdr

if TYPE_CHECKING:
    import av

# Luma weights of red and blue (ITU-T H.273, table 4).
LUMA = {
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}


_PACKED_RGB = re.compile(r"([rgba0]{3,4})(?:24|48|64)?(?:le|be)?")  # rgb24, bgra, 0rgb, rgba64be ...


@dataclass(frozen=True)
class Colour:
    """How a picture's samples are coded. The names are those of `VideoInfo`."""

    matrix: str = "bt709"  # a key of LUMA, "rgb" or "ycgco"
    range: str = "limited"  # or "full"
    transfer: str = "bt709"
    primaries: str = "bt709"
    siting: str = "left"  # where chroma samples lie in 4:2:0: "left", "centre" or "topleft"


_BT709 = Colour()


def has_alpha(frame: "av.VideoFrame") -> bool:
    """True if the pixel format carries transparency. A palette counts only if a pixel of this frame uses
    it.
    """
    if frame.format.has_palette:
        return bool((_planes(frame.reformat(format="gbrap"))[3] < 255).any())
    return any(c.is_alpha for c in frame.format.components)


def to_rgb(
    frame: "av.VideoFrame", colour: Colour, alpha: bool, to_sdr: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Decode one picture's samples.

    Returns rgb (3, h, w) float32 in [-1, 1], SDR BT.709 curve and primaries (HDR and BT.2020 are converted,
    see `hdr`; without `to_sdr` they stay as coded), and, if `alpha`, its (h, w) float32 in [0, 1] (1 where
    the format has none).
    """
    frame = planar(frame)
    depth = max(c.bits for c in frame.format.components)
    planes = _planes(frame)
    h, w = planes[0].shape
    names = "rgb" if frame.format.is_rgb else "yuv"
    if len(planes) < 3:  # grey, with or without alpha
        grey = _unscale(planes[0], depth, colour.range, chroma=False)
        rgb = grey.expand(3, h, w)
    elif names == "rgb":
        rgb = torch.stack([_unscale(p, depth, colour.range, chroma=False) for p in planes[:3]])
    else:
        y = _unscale(planes[0], depth, colour.range, chroma=False)
        cb, cr = (_upsample(_unscale(p, depth, colour.range, chroma=True), h, w, colour) for p in planes[1:3])
        rgb = yuv_to_rgb(y, cb, cr, colour.matrix)
    rgb = rgb.clamp(0, 1)
    if to_sdr and hdr.needs_conversion(colour.transfer, colour.primaries):
        rgb = hdr.to_sdr(rgb, colour.transfer, colour.primaries)
    opacity = None
    if alpha:
        opacity = planes[-1] / (2**depth - 1) if len(planes) in (2, 4) else torch.ones(h, w)
    return (rgb * 2 - 1).contiguous(), opacity


def yuv_to_rgb(y: Tensor, cb: Tensor, cr: Tensor, matrix: str) -> Tensor:
    """y in [0, 1], cb and cr in [-0.5, 0.5], all (h, w), to (3, h, w); values may leave [0, 1]."""
    if matrix == "ycgco":
        green, rest = y + cb, y - cb
        return torch.stack([rest + cr, green, rest - cr])
    kr, kb = LUMA[matrix]
    red = y + 2 * (1 - kr) * cr
    blue = y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return torch.stack([red, green, blue])


def rgb_to_yuv(rgb: Tensor, matrix: str = "bt709") -> tuple[Tensor, Tensor, Tensor]:
    """(3, h, w) in [0, 1] to y in [0, 1] and cb, cr in [-0.5, 0.5]: the inverse of `yuv_to_rgb`."""
    kr, kb = LUMA[matrix]
    red, green, blue = rgb
    y = kr * red + (1 - kr - kb) * green + kb * blue
    return y, (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))


def to_yuv_frame(
    rgb: Tensor, pixel_format: str, alpha: Tensor | None = None, colour: Colour = _BT709
) -> "av.VideoFrame":
    """Code (3, h, w) in [-1, 1] as limited-range YUV with the matrix and siting of `colour`: "yuv420p", "yuv444p", the
    same with 10 bits ("yuv420p10le") or "yuva420p" (alpha in [0, 1]).
    """
    import av

    frame = av.VideoFrame(rgb.shape[2], rgb.shape[1], pixel_format)
    bits = frame.format.components[0].bits
    y, cb, cr = rgb_to_yuv((rgb.clamp(-1, 1) + 1) / 2, colour.matrix)
    if "420" in pixel_format:
        cb, cr = _downsample(cb, colour), _downsample(cr, colour)
    planes = [(16 + 219 * y) * 2 ** (bits - 8), *((128 + 224 * c) * 2 ** (bits - 8) for c in (cb, cr))]
    if pixel_format.startswith("yuva"):
        planes.append((2**bits - 1) * (torch.ones_like(y) if alpha is None else alpha.clamp(0, 1)))
    for plane, values in zip(frame.planes, planes, strict=True):
        _fill(plane, values.round().clamp(0, 2**bits - 1).numpy(), _dtype(frame.format, bits))
    return frame


def to_rgb_frame(rgb: Tensor, pixel_format: str, alpha: Tensor | None = None) -> "av.VideoFrame":
    """Code (3, h, w) in [-1, 1], rounded, as packed RGB of 8 or 16 bit, or planar "gbrp16le" /
    "gbrap16le".
    """
    import av

    bits = 16 if "16" in pixel_format or "48" in pixel_format or "64" in pixel_format else 8
    channels = [*((rgb.clamp(-1, 1) + 1) / 2)]
    if alpha is not None:
        channels.append(alpha.clamp(0, 1))
    frame = av.VideoFrame(rgb.shape[2], rgb.shape[1], pixel_format)
    whole = [(c.double() * (2**bits - 1)).round().numpy() for c in channels]
    dtype = _dtype(frame.format, bits)
    packed = _PACKED_RGB.fullmatch(pixel_format)
    if packed:
        empty = np.zeros_like(whole[0])
        order = [empty if c == "0" else whole["rgba".index(c)] for c in packed[1]]
        _fill(frame.planes[0], np.stack(order, axis=-1).reshape(rgb.shape[1], -1), dtype)
    else:
        for index, values in zip([2, 0, 1, 3], whole, strict=False):  # the planes of red, green, blue, alpha
            _fill(frame.planes[index], values, dtype)
    return frame


def _unscale(samples: Tensor, depth: int, value_range: str, chroma: bool) -> Tensor:
    """Integer samples to y in [0, 1] or chroma in [-0.5, 0.5] (H.273, equations 20 to 31)."""
    step = 2 ** (depth - 8)
    if value_range == "limited":
        return (samples - 128 * step) / (224 * step) if chroma else (samples - 16 * step) / (219 * step)
    return (samples - (2 ** (depth - 1) if chroma else 0)) / (2**depth - 1)


def _upsample(plane: Tensor, h: int, w: int, colour: Colour) -> Tensor:
    """Linear interpolation of a chroma plane to (h, w), from where its samples really lie."""
    for dim, size, cosited in ((0, h, colour.siting == "topleft"), (1, w, colour.siting != "centre")):
        if plane.shape[dim] == size:
            continue
        step = 2 if plane.shape[dim] * 2 >= size else 4
        at = (torch.arange(size) - (0 if cosited else (step - 1) / 2)) / step
        at = at.clamp(0, plane.shape[dim] - 1)
        low = at.floor().long()
        high = (low + 1).clamp(max=plane.shape[dim] - 1)
        weight = (at - low).unsqueeze(1 - dim)
        plane = plane.index_select(dim, low) * (1 - weight) + plane.index_select(dim, high) * weight
    return plane


def _downsample(chroma: Tensor, colour: Colour) -> Tensor:
    """(h, w) to 4:2:0 with samples beside the left luma column: [1 2 1] / 4 across, the mean of two rows
    down, or, with siting "topleft", [1 2 1] / 4 as well.
    """
    h, w = chroma.shape
    top = int(colour.siting == "topleft")
    x = torch.nn.functional.pad(chroma[None, None], (1, 1 + w % 2, top, top + h % 2), mode="replicate")[0, 0]
    x = (x[:, 0:-2:2] + 2 * x[:, 1:-1:2] + x[:, 2::2]) / 4
    return (x[0:-2:2] + 2 * x[1:-1:2] + x[2::2]) / 4 if top else (x[0::2] + x[1::2]) / 2


def planar(frame: "av.VideoFrame") -> "av.VideoFrame":
    """The frame itself if `_planes` can read it (packed RGB, or a plane of 8 to 16 bit per component), else
    repacked.
    """
    fmt = frame.format
    parts = fmt.components
    own_planes = len({c.plane for c in parts}) == len(parts) and not fmt.has_palette and not fmt.is_bit_stream
    if _PACKED_RGB.fullmatch(fmt.name):
        return frame
    if own_planes and all(8 <= c.bits <= 16 for c in parts) and "msb" not in fmt.name:
        return frame
    bits = max(c.bits for c in parts)
    alpha = fmt.has_palette or any(c.is_alpha for c in parts)
    if fmt.is_rgb or fmt.has_palette or len(parts) < 3 or fmt.name.startswith("xyz"):
        deep = {10: "10le", 12: "12le", 14: "14le"}.get(bits, "16le") if bits > 8 else ""
        return frame.reformat(format=f"gbrap{'16le' if bits > 8 else ''}" if alpha else f"gbrp{deep}")
    across, down = 640 // fmt.chroma_width(640), 480 // fmt.chroma_height(480)
    subsampling = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411", (1, 2): "440"}[across, down]
    deep = f"{bits}le" if bits > 8 else ""
    return frame.reformat(format=f"yuv{'a' if alpha else ''}{subsampling}p{deep}")


def _planes(frame: "av.VideoFrame") -> list[Tensor]:
    """Float32 (h, w) per component, in component order (R G B A or Y U V A), in sample units."""
    fmt = frame.format
    packed = _PACKED_RGB.fullmatch(fmt.name)
    if packed:
        letters = packed[1]
        rows = _rows(frame.planes[0], _dtype(fmt, fmt.components[0].bits))
        samples = rows[:, : frame.width * len(letters)].reshape(frame.height, frame.width, len(letters))
        found = [samples[..., letters.index(c)] for c in "rgba" if c in letters]
    else:
        found = [
            _rows(frame.planes[c.plane], _dtype(fmt, c.bits))[:, : frame.planes[c.plane].width]
            for c in fmt.components
        ]
    return [torch.from_numpy(samples.astype(np.float32)) for samples in found]


def _fill(plane: Any, values: np.ndarray, dtype: np.dtype) -> None:
    """Copy whole numbers (h, samples per row) into a plane, whose rows may be padded."""
    _rows(plane, dtype)[:, : values.shape[1]] = values


def _rows(plane: Any, dtype: np.dtype) -> np.ndarray:
    """A plane's memory as (h, samples per padded row); writing to it writes the picture."""
    return np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)


def _dtype(fmt: Any, bits: int) -> np.dtype:
    return np.dtype(">u2" if fmt.is_big_endian else "<u2") if bits > 8 else np.dtype("u1")
