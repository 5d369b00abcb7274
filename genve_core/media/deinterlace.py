"""Interlaced pictures made whole by FFmpeg's bwdif as they are decoded: one out for each in, with the same time."""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any

from . import pixels

_BWDIF = "bwdif", "mode=send_frame:deint=interlaced"  # one picture for each; those that are not flagged stay as they are
_FIND = "idet"  # flags pictures of two fields by what they show, in place of what they say
_LOOKED = 60  # pictures from the beginning that show whether a video is woven
_COMBED, _SHARE = 8, 0.8  # pictures that must show combs, and how many of those from the first such one on
_TALLEST = 1088  # lines of what can be woven without being flagged; above them nothing was ever recorded so
_SMALLEST = 16  # px a side; bwdif refuses planes of less than 3x4
_TICK = Fraction(1, 1000)  # any will do: times are not the filter's business
_NO_MATRIX, _NO_RANGE = 2, 0


def deinterlaced(
    pictures: Iterator[tuple[Any, Fraction]], name: str, note: Callable[[str], None], woven: bool = False
) -> Iterator[tuple[Any, Fraction]]:
    """(av.VideoFrame, time) of a video from its beginning on, without combing. name: of the file, for the notes.

    woven: no picture is flagged as interlaced, but it `is_woven`; then combs are looked for in every picture.
    The filter starts at the first picture that is flagged, or at the first of all if `woven`, and anew where size or format
    change: so what comes out depends on the video alone, not on which frames are wanted of it.
    """
    under_way, kind, times = None, None, deque[Fraction]()
    for picture, time in pictures:
        size, pixel_format = (picture.width, picture.height), picture.format.name
        if under_way is not None and kind != (size, pixel_format):
            yield from zip(under_way.push(None), times, strict=True)
            times.clear()
            under_way = None
        if under_way is None and (woven or picture.interlaced_frame):
            filters = ((_FIND, ""), _BWDIF) if woven else (_BWDIF,)
            if _can_be_filtered(size, pixel_format, filters):
                note(f"{name} is woven of two fields, though not flagged as interlaced; it is deinterlaced (bwdif)" if woven
                     else f"{name} is interlaced; it is deinterlaced (bwdif)")
                under_way, kind = _Filter(*size, pixel_format, filters), (size, pixel_format)
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


def is_woven(pictures: Iterator[tuple[Any, Fraction]]) -> bool:
    """Whether the pictures of a video are of two fields each though none is flagged so, by what its first ones show.

    Two fields of one instant have no combs, so they are not taken for woven. Telecined film is, though but two of its five
    pictures are: idet finds combs beside them as well. Deinterlaced it measured no worse than left, and steadier.
    """
    find, kind, combed = None, None, list[bool]()
    for picture, _ in islice(pictures, _LOOKED):
        looks = (picture.width, picture.height), picture.format.name, ((_FIND, ""),)
        if picture.interlaced_frame or picture.height > _TALLEST or (find is None and not _can_be_filtered(*looks)):
            return False
        if find is None:
            find, kind = _Filter(*looks[0], *looks[1:]), looks
        if kind != looks:
            break
        combed += (found.interlaced_frame for found in find.push(picture))
    if find is not None:
        combed += (found.interlaced_frame for found in find.push(None))
    combed = combed[combed.index(True):] if True in combed else []
    return sum(combed) >= max(_COMBED, _SHARE * len(combed))


class _Filter:
    """Pictures of one size and format in, pictures out one later, as both neighbours are looked at."""

    def __init__(self, width: int, height: int, pixel_format: str, filters: tuple[tuple[str, str], ...]):
        """filters: name and options of each."""
        from av.filter import Graph

        self._graph: Any = Graph()
        source = self._graph.add_buffer(width=width, height=height, format=pixel_format, time_base=_TICK)
        chain = (self._graph.add(name, options) for name, options in (*filters, ("buffersink", "")))
        self._graph.link_nodes(source, *chain).configure()
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
def _can_be_filtered(size: tuple[int, int], pixel_format: str, filters: tuple[tuple[str, str], ...]) -> bool:
    """True if `filters` take the format as it is, or repacked as `pixels` does it; others they would convert, with loss."""
    import av

    if min(size) < _SMALLEST:
        return False
    blank = av.VideoFrame(_SMALLEST, _SMALLEST, pixel_format)
    trial = _Filter(_SMALLEST, _SMALLEST, pixel_format, filters)
    done = [*trial.push(blank), *trial.push(None)]
    return done[0].format.name == pixels.planar(blank).format.name
