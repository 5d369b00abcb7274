"""Segments: a long shot is worked on in pieces, so that memory depends on the piece and not on the shot.

Ours, not the paper's. A segment owns some frames and sees more: every frame that its own depend on, through the windows
of all steps, the decoder's neighbours and the final fusion. It reads a few more still, on which the flow of those depends.
So the pieces give what the whole would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .diffuser.windows import WindowConfig, windows


class Frames(Protocol):
    """Poor frames of a shot that need not all be in memory."""

    def __len__(self) -> int: ...

    def read(self, span: range) -> Tensor:
        """Frames `span` of the shot: (len(span), 3, h, w) in [-1, 1]. Asked for with rising start and stop."""
        ...

    def read_one(self, number: int) -> Tensor:
        """One frame, (3, h, w), wherever it lies."""
        ...

    def read_near(self, number: int, reach: int) -> Tensor:
        """The same with the frames around it as far as there are, at most `reach` on either side: (k, 3, h, w)."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Frames (f, 3, h, w) as they are."""

    frames: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, span: range) -> Tensor:
        return self.frames[span.start : span.stop]

    def read_one(self, number: int) -> Tensor:
        return self.frames[number]

    def read_near(self, number: int, reach: int) -> Tensor:
        return self.frames[max(0, number - reach) : number + reach + 1]


@dataclass(frozen=True)
class Segment:
    """A piece of a shot; numbers are frames of the shot."""

    own: range  # finished by this piece
    seen: range  # worked on for it; begins and ends with a window
    read: range  # looked at for the flow of those


def segments(frames: int, window: WindowConfig, *, length: int, steps: int, reach: int, context: int = 0,
             own: range | None = None) -> list[Segment]:
    """Cut a shot of `frames` frames, or its frames `own`, into segments that own about `length` frames.

    steps: of sampling; each fuses the windows anew, and so looks one window further.   reach: frames that decoding looks
    to either side.   context: frames that flow looks to either side. What is not much longer than `length` is one segment.
    """
    spans, own = windows(frames, window), range(frames) if own is None else own
    starts = [*_starts(own, spans, length, reach), own.stop]
    found = []
    for a, b in zip(starts, starts[1:]):
        seen = _seen(widened(range(a, b), reach, frames), spans, steps)
        found.append(Segment(range(a, b), seen, widened(seen, context, frames)))
    return found


def widened(span: range, reach: int, frames: int) -> range:
    """`span` and up to `reach` frames on either side, of a shot of `frames` frames."""
    return range(max(0, span.start - reach), min(frames, span.stop + reach))


def _starts(own: range, spans: Sequence[range], length: int, reach: int) -> list[int]:
    """First frame of each segment: `reach` before a window begins, so that the segment before needs nothing of that window,
    and this one only the window before it. The last segment may be half as long again as the others."""
    starts = [own.start]
    for window in spans:
        start, begin = window.start - reach, starts[-1] + reach if starts[-1] else 0
        if start > starts[-1] and window.start - begin >= length and own.stop - start >= length / 2:
            starts.append(start)
    return starts


def _seen(needed: range, spans: Sequence[range], steps: int) -> range:
    """All frames that `needed` depend on through `steps` fusions of windows."""
    for _ in range(steps):
        touched = [span for span in spans if span.start < needed.stop and needed.start < span.stop]
        needed = range(min(span.start for span in touched), max(span.stop for span in touched))
    return needed
