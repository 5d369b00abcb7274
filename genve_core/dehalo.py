"""Take away the light and dark rims beside edges that a camera's sharpening leaves; the network would sharpen them further.

Ours, not the paper's. As in DeHalo_alpha, known to users of AviSynth, what is narrow and stands out beside an edge is a rim;
found by morphology: opening removes what is light and narrow, closing what is dark and narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .media.colour import grey_levels
from .segments import Frames
from .steps import OnProgress, silent

WIDTH = 2  # px of the poor frame: rims are narrower than a disc of this radius
PLATEAU = 6  # px: beside a rim lies something even, in which a disc of this radius has room
NOISE = 1.0  # grey levels of 255 that are no rim
# What a rim is beside, in grey levels: nothing is done at edges below the first, all from the second on.
EDGE = (30.0, 60.0)
# Shares of that edge, all up to the first, nothing from the second on: how far a rim stands out, more is a line or a thing;
# and how much of what lies beside it would go with the plateau, more is texture.
STANDS_OUT, UNEVEN = (0.3, 0.45), (0.1, 0.25)
PAIRED = 1.5  # times what stands out on the edge's other side is the most that is taken away


@dataclass(frozen=True)
class Dehaloed:
    """A shot's frames without rims; `Frames` again."""

    shot: Frames
    share: float  # of the rims that is taken away, in [0, 1]
    report: OnProgress = silent  # hears of the stage "dehalo"

    def __len__(self) -> int:
        return len(self.shot)

    def read(self, span: range) -> Tensor:
        return without_rims(self.shot.read(span), self.share, self.report)

    def read_one(self, number: int) -> Tensor:
        return without_rims(self.shot.read_one(number).unsqueeze(0), self.share)[0]

    def read_near(self, number: int, reach: int) -> Tensor:
        return without_rims(self.shot.read_near(number, reach), self.share)


def without_rims(frames: Tensor, share: float, report: OnProgress = silent) -> Tensor:
    """Frames (f, 3, h, w) in [-1, 1] with `share` of their rims taken away; colours stay, only their brightness changes.

    With 0 the frames themselves.   report: hears of the stage "dehalo".
    """
    if share == 0:
        return frames
    clean = torch.empty_like(frames)
    for i in range(len(frames)):  # one by one: a shot's temporary copies would take more than the shot
        rims = torch.from_numpy(_rims(grey_levels(frames[i : i + 1])[0].cpu().numpy())).to(frames)
        clean[i] = (frames[i] - share / 127.5 * rims).clamp(-1, 1)
        report("dehalo", i + 1, len(frames))
    return clean


def _rims(luma: np.ndarray) -> np.ndarray:
    """Of a frame (h, w) float32 in grey levels, how far its pixels stand out as a rim: above 0 light, below dark."""
    import cv2

    light, dark = _light_rims(luma), _light_rims(-luma)
    reach = np.ones((4 * WIDTH + 3,) * 2, np.uint8)
    # sharpening leaves one on either side; one alone is a thing of its own
    return np.minimum(light, PAIRED * cv2.dilate(dark, reach)) - np.minimum(dark, PAIRED * cv2.dilate(light, reach))


def _light_rims(luma: np.ndarray) -> np.ndarray:
    """By how much each pixel of (h, w) float32, in grey levels, stands out from what is beside it, where that is a rim."""
    import cv2

    def disc(radius: int) -> np.ndarray:
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))

    around = disc(2 * WIDTH + 1)
    calm = cv2.GaussianBlur(luma, (0, 0), 0.7)
    edge = cv2.dilate(calm, around) - cv2.erode(calm, around)
    without = cv2.morphologyEx(luma, cv2.MORPH_OPEN, disc(WIDTH))
    plateau = cv2.morphologyEx(luma, cv2.MORPH_OPEN, disc(PLATEAU))
    rim = np.maximum(luma - without - NOISE, 0)
    whole = np.maximum(edge, 1)
    is_rim = _falling(rim / whole, STANDS_OUT) * _falling((without - plateau) / whole, UNEVEN)
    # what has a core that is no rim is none up to its border, which would be left hollow
    is_rim = cv2.GaussianBlur(cv2.erode(is_rim, disc(WIDTH)), (0, 0), 1)
    return rim * is_rim * (1 - _falling(edge, EDGE))


def _falling(x: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """1 up to the first limit, 0 from the second on."""
    return np.clip((limits[1] - x) / (limits[1] - limits[0]), 0, 1).astype(np.float32)
