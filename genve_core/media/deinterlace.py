"""Interlaced pictures made whole by FFmpeg's bwdif as they are decoded: one out for each in, with the same time."""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from . import pixels

_BWDIF = "mode=send_frame:deint=interlaced"  # one picture for each; those that are not flagged stay as they are
_SMALLEST = 16  # px a side; bwdif refuses planes of less than 3x4
_TICK = Fraction(1, 1000)  # any will do: times are not the filter's business
_NO_MATRIX, _NO_RANGE = 2, 0


def deinterlaced(
    pictures: Iterator[tuple[Any, Fraction]], name: str, note: Callable[[str], None]
) -> Iterator[tuple[Any, Fraction]]:
    """(av.VideoFrame, time) of a video from its beginning on, without combing. name: of the file, for the notes.

    The filter starts at the first picture that is flagged as interlaced, and anew where size or format change: so what
    comes out depends on the video alone, not on which frames are wanted of it.
    """
    under_way, kind, times = None, None, deque[Fraction]()
    for picture, time in pictures:
        size, pixel_format = (picture.width, picture.height), picture.format.name
        if under_way is not None and kind != (size, pixel_format):
            yield from zip(under_way.push(None), times, strict=True)
            times.clear()
            under_way = None
        if under_way is None and picture.interlaced_frame:
            if min(size) >= _SMALLEST and _can_be_filtered(pixel_format):
                note(f"{name} is interlaced; it is deinterlaced (bwdif)")
                under_way, kind = _Filter(*size, pixel_format), (size, pixel_format)
            else:
                note(f"{name} is interlaced ({pixel_format}, {size[0]}x{size[1]} px, which cannot be deinterlaced here); "
                     f"its fields stay woven, so deinterlace it first")
        if under_way is None:
            yield picture, time
            continue
        times.append(time)
        for whole in under_way.push(picture):
            yield whole, times.popleft()
    if under_way is not None:
        yield from zip(under_way.push(None), times, strict=True)


class _Filter:
    """Pictures of one size and format in, pictures out one later, as both neighbours are looked at."""

    def __init__(self, width: int, height: int, pixel_format: str):
        from av.filter import Graph

        self._graph: Any = Graph()
        source = self._graph.add_buffer(width=width, height=height, format=pixel_format, time_base=_TICK)
        self._graph.link_nodes(source, self._graph.add("bwdif", _BWDIF), self._graph.add("buffersink")).configure()
        self._count = 0

    def push(self, picture: Any) -> list[Any]:
        """The pictures that are done when this one, which loses its colour tags and time, is known. None: there are no more."""
        if picture is not None:
            # were it tagged, FFmpeg would convert its colours where it repacks it
            picture.colorspace, picture.color_range = _NO_MATRIX, _NO_RANGE
            picture.pts, picture.time_base = self._count, _TICK
            self._count += 1
        self._graph.push(picture)
        done = []
        while True:
            try:
                done.append(self._graph.pull())
            except (BlockingIOError, EOFError):
                return done


@lru_cache
def _can_be_filtered(pixel_format: str) -> bool:
    """True if the filter takes the format as it is, or repacked as `pixels` does it; others it would convert, with loss."""
    import av

    blank = av.VideoFrame(_SMALLEST, _SMALLEST, pixel_format)
    trial = _Filter(_SMALLEST, _SMALLEST, pixel_format)
    done = [*trial.push(blank), *trial.push(None)]
    return done[0].format.name == pixels.planar(blank).format.name
