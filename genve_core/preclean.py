"""A first pass at the clip's own size: for clips that are much poorer than their size, as of old cameras and codecs.

Ours, not the paper's; that cleaning comes before enlarging is RealBasicVSR's (CVPR 2022, section 3.2), which has a network
of its own for it. Here the same networks do both: without a reference and at n = 0, so that only the second pass sharpens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .segments import Frames, widened
from .steps import OnProgress, silent

if TYPE_CHECKING:
    from .pipeline import Enhancer


class Precleaned:
    """A shot's frames after the first pass; `Frames` again, made when they are read."""

    def __init__(self, shot: Frames, first_pass: Callable[[], Enhancer], share: float, report: OnProgress = silent):
        """first_pass: the enhancer to read with, asked for anew each time, as its sizes may have become smaller.
        share: of the change that is let in, above 0 and at most 1.   report: hears of the stage "preclean".
        """
        self._shot, self._first_pass, self._share, self._report = shot, first_pass, share, report
        self._span, self._frames = range(0), torch.empty(0)  # what was read last
        self._keys: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._shot)

    def read(self, span: range) -> Tensor:
        frames = self._held(span)
        if frames is None:
            kept = self._held(range(span.start, self._span.stop)) if span.start in self._span else None
            made = [] if kept is None else [kept]
            frames = torch.cat([*made, *self._cleaned(range(span.start + sum(map(len, made)), span.stop))])
            self._span, self._frames = span, frames
        return frames

    def read_near(self, number: int, reach: int) -> Tensor:
        near = widened(range(number, number + 1), reach, len(self))
        if len(self._first_pass().segments(len(self))) == 1:  # it will be cleaned whole anyway
            self.read(range(len(self)))
        frames = self._held(near)
        frames = torch.cat([*self._cleaned(near)]) if frames is None else frames
        self._keys[number] = frames[number - near.start].clone()  # wanted again with every segment
        return frames

    def read_one(self, number: int) -> Tensor:
        if number not in self._keys:
            self.read_near(number, 0)
        return self._keys[number]

    def _held(self, span: range) -> Tensor | None:
        inside = self._span.start <= span.start and span.stop <= self._span.stop
        return self._frames[span.start - self._span.start : span.stop - self._span.start] if inside else None

    def _cleaned(self, own: range) -> Iterator[Tensor]:
        """Frames `own`, (1, 3, h, w) each."""
        first_pass, done = self._first_pass(), 0

        def stay(stage: str, ready: int, total: int) -> None:
            self._report("preclean", done, len(own))

        for segment in first_pass.segments(len(self), own):
            poor = self._shot.read(segment.read)[segment.own.start - segment.read.start :]
            for i, frame in enumerate(first_pass.run_segment(self._shot, segment, [], stay)):
                done += 1
                self._report("preclean", done, len(own))
                yield torch.lerp(poor[i : i + 1], frame, self._share)
