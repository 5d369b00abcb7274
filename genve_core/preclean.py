"""A first pass at the clip's own size: for clips that are much poorer than their size, as of old cameras and codecs.

Ours, not the paper's; that cleaning comes before enlarging is RealBasicVSR's (Chan et al., CVPR 2022), which has a
network of its own for it. Here the same networks do both, with the decoder that was trained on what both passes meet
(`Models.for_enlargement`); the first pass has no reference and n = 0, so that only the second sharpens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .clip import on_grid
from .segments import Frames, widened
from .steps import OnProgress, silent

if TYPE_CHECKING:
    from .pipeline import Enhancer


class Precleaned:
    """A shot's frames after the first pass; `Frames` again, made when they are read.

    What a span is made of depends on the span alone, so that an interrupted run ends with the same bytes.
    """

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
        if span != self._span:
            self._span, self._frames = range(0), torch.empty(0)  # makes room
            self._frames = self._cleaned(span)
            self._span = span
        return self._frames

    def read_near(self, number: int, reach: int) -> Tensor:
        near = widened(range(number, number + 1), reach, len(self))
        if len(self._first_pass().segments(len(self))) == 1:  # then all of it will be read
            frames = self.read(range(len(self)))[near.start : near.stop]
        else:
            frames = self._cleaned(near)
        self._keys[number] = frames[number - near.start].clone()  # wanted again with every segment
        return frames

    def read_one(self, number: int) -> Tensor:
        if number not in self._keys:
            self.read_near(number, 0)
        return self._keys[number]

    def _cleaned(self, own: range) -> Tensor:
        """Frames `own`, (k, 3, h, w)."""
        first_pass, cleaned = self._first_pass(), []

        def stay(stage: str, ready: int, total: int) -> None:
            self._report("preclean", len(cleaned), len(own))

        for segment in first_pass.segments(len(self), own):
            poor = self._shot.read(segment.read)[segment.own.start - segment.read.start :]
            for i, frame in enumerate(first_pass.run_segment(self._shot, segment, [], stay)):
                cleaned.append(on_grid(torch.lerp(poor[i], frame[0], self._share)))
                self._report("preclean", len(cleaned), len(own))
        return torch.stack(cleaned)
