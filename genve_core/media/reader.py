"""Reading a video: any file PyAV can open, or a folder of images, as upright float RGB frames with their
times.
"""

import sys
import weakref
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from . import pixels, source
from .deinterlace import deinterlaced, is_woven
from .info import Hdr, colour_of, probe

_Look = tuple[pixels.Colour, int, bool]  # how a stored picture is coded, turned and mirrored


@dataclass(frozen=True)
class Frame:
    """One upright picture."""

    index: int
    """0 for the clip's first frame."""
    rgb: Tensor
    """(3, h, w) float32 in [-1, 1], SDR BT.709, or as coded where HDR is kept."""
    alpha: Tensor | None
    """(h, w) float32 in [0, 1], 1 is opaque; None if the video has no transparency."""
    time: Fraction
    """Seconds at which the frame appears, as the file says."""


class VideoReader:
    """Reads a video as often as asked; each pass decodes anew and holds one frame at a time.

    `with VideoReader(path) as video: for frame in video: ...`. Leaving the block closes the file even when a
    loop was left early. Raises InputError at once if the input cannot be read (see `probe`).
    """

    def __init__(self, path: str | Path, rate: Fraction | int | None = None, hdr: Hdr = "tone-map", deinterlace: bool = True):
        """rate: frames per second for a folder of images or a raw stream; 25 if None.   hdr: "keep" gives HDR and
        wide-gamut values as they are coded, without conversion.   deinterlace: False leaves two fields woven."""
        self.info = probe(path, rate, hdr)
        self.notes: list[str] = []
        """What a person should be told, one sentence each; damage and interlacing are known only after the
        frames were read.
        """
        self._deinterlace = deinterlace
        self._passes: weakref.WeakSet[Generator[Frame]] = weakref.WeakSet()
        if self.info.is_hdr and not self.info.is_wide:
            self._note(
                f"{self.info.path.name} is HDR ({self.info.colour.transfer}); it is tone mapped to SDR BT.709"
            )

    @cached_property
    def woven(self) -> bool:
        """True if the pictures are of two fields each, though not flagged as interlaced (`is_woven`): some are decoded."""
        if self.info.is_stills:
            return False
        return is_woven(source.decoded_video(self.info.path, lambda text: None, self.info.rate))

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every pass that is still open. The reader can be used again afterwards."""
        for frames in list(self._passes):
            frames.close()
        self._passes.clear()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames `start` to `stop` (not included; None: to the end), both 0 or more. Those before `start` are
        decoded but not converted: read long clips in one pass. Yields fewer if the clip is shorter."""
        return self._pass(range(start, sys.maxsize if stop is None else stop))

    def picked(self, numbers: Iterable[int]) -> Iterator[Frame]:
        """The frames with these numbers, in rising order, in one pass; the others are decoded but not converted."""
        return self._pass(frozenset(numbers))

    def _pass(self, wanted: range | frozenset[int]) -> Iterator[Frame]:
        frames = self._frames(wanted)
        self._passes.add(frames)
        return frames

    def _frames(self, wanted: range | frozenset[int]) -> Generator[Frame]:
        last = wanted[-1] if isinstance(wanted, range) and wanted else max(wanted, default=-1)
        pictures = self._stills() if self.info.is_stills else self._file_pictures()
        for index, (picture, time, look) in enumerate(pictures):
            if index > last:
                return
            if index in wanted:
                rgb, alpha = self._convert(picture, look, index)
                yield Frame(index, rgb, alpha, time)

    def _file_pictures(self) -> Iterator[tuple[Any, Fraction, _Look]]:
        info = self.info
        look = (info.colour, info.rotation, info.mirrored)
        pictures = source.decoded_video(info.path, self._note, info.rate)
        if self._deinterlace:
            pictures = deinterlaced(pictures, info.path.name, self._note, self.woven)
        for picture, time in pictures:
            yield picture, time, look

    def _stills(self) -> Iterator[tuple[Any, Fraction, _Look]]:
        for index, file in enumerate(source.image_files(self.info.path)):
            picture, context = source.decoded_image(file)
            yield picture, index / self.info.rate, (colour_of(picture, context), *source.orientation(picture))

    def _convert(self, picture: Any, look: _Look, index: int) -> tuple[Tensor, Tensor | None]:
        info = self.info
        colour, rotation, mirrored = look
        rgb, alpha = pixels.to_rgb(picture, colour, info.has_alpha, to_sdr=not info.is_wide)
        rgb = _upright(rgb, rotation, mirrored)
        h, w = rgb.shape[-2:]
        if (w, h) != (info.width, info.height):
            raise InputError(
                f"{info.path} changes its size from {info.width}x{info.height} to {w}x{h} px on the way, "
                f"at frame {index}; all frames must have one size: scale them first or cut the video there"
            )
        return rgb, None if alpha is None else _upright(alpha, rotation, mirrored)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _upright(x: Tensor, rotation: int, mirrored: bool) -> Tensor:
    if mirrored:
        x = x.flip(-1)
    return torch.rot90(x, -rotation // 90, dims=(-2, -1)).contiguous()
