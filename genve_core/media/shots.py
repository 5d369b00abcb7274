"""Shots: where a clip is cut, and which frame stands for each shot. Cuts are found by PySceneDetect.

PySceneDetect compares each frame's change of hue, saturation and brightness with that of the frames around it, so that
a fast pan is no cut. Dissolves and fades are not cuts: their frames belong to the shot before or after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..reference.key_frame import KeyFrameScorer

SMALL = 160  # px of the shorter side where frames are compared: a cut still shows, grain less
AROUND = 2  # frames before and after with which a change is compared
RATIO, CHANGE = 3.0, 15.0  # PySceneDetect's defaults: times the change around, and at least (of 255)
RATE = 25.0  # PySceneDetect wants one; lengths here are in frames


@dataclass(frozen=True)
class Shot:
    """Frames between two cuts."""

    start: int  # first frame
    stop: int  # the frame after the last
    key: int  # the key frame, start <= key < stop

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class ShotConfig:
    """What counts as a cut."""

    sensitivity: float = 0.5  # in [0, 1]; 0.5 is PySceneDetect's own, 1 finds at half of its thresholds, 0 at twice
    shortest: int = 4  # frames; a cut that would leave less on a side is passed over

    def __post_init__(self) -> None:
        if not 0 <= self.sensitivity <= 1:
            raise InputError(f"sensitivity must be in [0, 1], got {self.sensitivity}")
        if self.shortest < 1:
            raise InputError(f"the shortest shot must be 1 frame or more, got {self.shortest}")


class ShotFinder:
    """Looks at frames one by one, so that a clip need not be held in memory; then names its shots."""

    def __init__(self, config: ShotConfig = ShotConfig()):
        """Raises InputError if PySceneDetect is not installed."""
        self.config = config
        self._at, self._detector = _detector(config)
        self._scorer = KeyFrameScorer()
        self._cuts: list[int] = []
        self._seen = 0  # frames
        self._last: np.ndarray | None = None

    def add(self, frame: Tensor) -> None:
        """Take the next frame of the clip, (3, h, w) in [-1, 1]."""
        self._last = _small(frame)
        for i in range(-AROUND if self._seen == 0 else 0, 1):
            # the first frame is held for a while, as the last one is in `shots`: a cut near the end is then judged too
            self._look(self._seen + i)
        self._scorer.add(frame)
        self._seen += 1

    def shots(self) -> list[Shot]:
        """The shots of the frames added, in order, without gaps; to be called once. Raises InputError without frames."""
        if not self._seen:
            raise InputError("shots cannot be found in 0 frames; give a video with at least 1")
        for i in range(AROUND):
            self._look(self._seen + i)
        ends = [0, *self._long_enough(), self._seen]
        return [Shot(a, b, self._scorer.best(a, b)) for a, b in zip(ends, ends[1:])]

    def _look(self, index: int) -> None:
        cuts = self._detector.process_frame(self._at(index + AROUND), self._last)
        self._cuts += [cut.frame_num - AROUND for cut in cuts]

    def _long_enough(self) -> list[int]:
        kept: list[int] = []
        for cut in self._cuts:
            before = kept[-1] if kept else 0
            if cut - before >= self.config.shortest and self._seen - cut >= self.config.shortest:
                kept.append(cut)
        return kept


def find_shots(frames: Iterable[Tensor], config: ShotConfig = ShotConfig()) -> list[Shot]:
    """The shots of (f, 3, h, w), or an iterable of (3, h, w), in [-1, 1]; see `ShotFinder`."""
    finder = ShotFinder(config)
    for frame in frames:
        finder.add(frame)
    return finder.shots()


def with_keys(shots: Sequence[Shot], keys: Sequence[int]) -> list[Shot]:
    """The shots with the key frames that a person named, each for the shot that holds it; the others keep theirs.

    Raises InputError for a frame that is not in the clip, and for two in one shot.
    """
    total, chosen = shots[-1].stop, {}
    for key in keys:
        if not 0 <= key < total:
            raise InputError(f"key frame {key} is not in the clip of {total} frames; choose from 0 to {total - 1}")
        index = next(i for i, shot in enumerate(shots) if key < shot.stop)
        if chosen.setdefault(index, key) != key:
            shot = shots[index]
            raise InputError(f"key frames {chosen[index]} and {key} are both in shot {index} (frames {shot.start} to "
                             f"{shot.stop - 1}); give one for each shot")
    return [Shot(shot.start, shot.stop, chosen.get(i, shot.key)) for i, shot in enumerate(shots)]


def _detector(config: ShotConfig) -> tuple[Any, Any]:
    """A maker of time stamps, and the detector."""
    try:
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise InputError("finding shots needs PySceneDetect 0.7 or newer; install it with "
                         "pip install scenedetect-headless") from error
    factor = 4 ** (0.5 - config.sensitivity)
    detector = AdaptiveDetector(adaptive_threshold=RATIO * factor, min_content_val=CHANGE * factor, window_width=AROUND,
                                min_scene_len=0)
    return (lambda index: FrameTimecode(index, RATE)), detector


def _small(frame: Tensor) -> np.ndarray:
    """A frame (3, h, w) in [-1, 1] as PySceneDetect wants it: small uint8 BGR (h, w, 3)."""
    shrink = max(1.0, min(frame.shape[-2:]) / SMALL)
    size = [max(1, round(side / shrink)) for side in frame.shape[-2:]]
    small = F.interpolate(frame.float().unsqueeze(0), size=size, mode="area")[0]
    bgr = ((small.flip(0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(bgr.permute(1, 2, 0).cpu().numpy())
