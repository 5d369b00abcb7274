"""The frames of a film in two passes over its file, one for the frames in order and one for the key frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .errors import InputError
from .media.reader import Frame, VideoReader
from .media.shots import Shot


class Footage:
    """A video as its shots read it: forwards. What is asked for again after it was dropped takes a new pass."""

    def __init__(self, video: VideoReader, keys: Iterable[int] = ()):
        """keys: frames that `one` will be asked for, if in rising order then all in one pass."""
        self._video = video
        self._keys = video.picked(keys)
        self._held: deque[Frame] = deque()
        self._frames: Iterator[Frame] = iter(())
        self._first: int | None = None  # the first frame that can still be had in this pass

    def hold(self, first: int, stop: int) -> list[Frame]:
        """Frames `first` to `stop` (not included); all before are dropped. Raises InputError if the video ends before."""
        if self._first is None or first < self._first:
            self._held.clear()
            self._frames = self._video.frames(first)
        self._first = first
        while self._held and self._held[0].index < first:
            self._held.popleft()
        while not self._held or self._held[-1].index < stop - 1:
            frame = next(self._frames, None)
            if frame is None:
                raise self._shorter(stop - 1)
            if frame.index >= first:
                self._held.append(frame)
        return [frame for frame in self._held if frame.index < stop]

    def stacked(self, first: int, stop: int) -> Tensor:
        """The same as one tensor (stop - first, 3, h, w), which takes the place of the frames held: they lie in memory once."""
        frames = self.hold(first, stop)
        rgb = torch.stack([frame.rgb for frame in frames])
        for i, frame in enumerate(frames):
            self._held[i] = replace(frame, rgb=rgb[i])
        return rgb

    def alpha(self, first: int, stop: int) -> list[Tensor | None]:
        """Transparency (h, w) in [0, 1] of the same frames; None where the video has none."""
        if not self._video.info.has_alpha:
            return [None] * (stop - first)
        return [frame.alpha for frame in self.hold(first, stop)]

    def one(self, number: int) -> Frame:
        """A single frame, wherever it lies. Raises InputError if the video ends before it."""
        for frame in self._keys:
            if frame.index == number:
                return frame
            if frame.index > number:
                break
        frame = next(self._video.frames(number, number + 1), None)
        if frame is None:
            raise self._shorter(number)
        return frame

    def _shorter(self, number: int) -> InputError:
        return InputError(f"{self._video.info.path} ends before frame {number}, which was there when it was first read; "
                          f"leave the file as it is while it is enhanced")


class ShotFrames:
    """One shot of a film as `Frames`."""

    def __init__(self, footage: Footage, shot: Shot):
        self._footage, self._shot = footage, shot
        self._keys: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._shot)

    def read(self, span: range) -> Tensor:
        at = self._shot.start
        return self._footage.stacked(at + span.start, at + span.stop)

    def alpha(self, span: range) -> list[Tensor | None]:
        """Transparency (h, w) in [0, 1]; None where the video has none."""
        return self._footage.alpha(self._shot.start + span.start, self._shot.start + span.stop)

    def read_near(self, number: int, reach: int) -> Tensor:
        near = range(max(0, number - reach), min(len(self), number + reach + 1))
        frames = [self._keys[i] if i in self._keys else self._footage.one(self._shot.start + i).rgb for i in near]
        self._keys[number] = frames[number - near.start]  # its neighbours are wanted once, it again and again
        return torch.stack(frames)

    def read_one(self, number: int) -> Tensor:
        if number not in self._keys:
            self._keys[number] = self._footage.one(self._shot.start + number).rgb
        return self._keys[number]
