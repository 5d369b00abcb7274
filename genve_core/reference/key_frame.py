"""Key-frame choice: the frame from which the reference is made should be sharp, well exposed and central.

The paper says only "a key frame". Sharp, because its detail goes into every frame; central, because flow to
the other frames is then shortest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

LUMA = (0.299, 0.587, 0.114)
SMALL = 160  # px of the shorter side where sharpness is judged: blur still shows, grain less
FLOOR = 1e-6  # gradient energy of a frame that shows nothing (grey in [0, 1])
CENTRAL = 0.5  # an end frame must have exp(0.5) = 1.65 times the energy of the middle one to be chosen


class KeyFrameScorer:
    """Judges frames one by one, so that a shot need not be held in memory; then names the best."""

    def __init__(self) -> None:
        self._energies: list[float] = []

    def add(self, frame: Tensor) -> None:
        """Take the next frame of the shot, (3, h, w) in [-1, 1]."""
        self._energies.append(sharpness(frame))

    def best(self, start: int = 0, stop: int | None = None) -> int:
        """Index of the key frame among frames `start` to `stop` (not included; None: to the end) of those added.

        Raises InputError if there is none.
        """
        shot = range(len(self._energies))[start:stop]
        if not shot:
            raise InputError("a key frame cannot be chosen from 0 frames; give a video with at least 1")
        middle = (shot[0] + shot[-1]) / 2
        half = max((len(shot) - 1) / 2, 1)

        def score(i: int) -> float:
            distance = (i - middle) / half  # -1 at the first frame, 1 at the last
            return math.log(self._energies[i] + FLOOR) - CENTRAL * distance**2

        return max(shot, key=score)


def choose_key_frame(frames: Iterable[Tensor]) -> int:
    """Index of the sharpest, most central frame of (f, 3, h, w), or an iterable of (3, h, w), in [-1, 1]."""
    scorer = KeyFrameScorer()
    for frame in frames:
        scorer.add(frame)
    return scorer.best()


def sharpness(frame: Tensor) -> float:
    """Gradient energy of a small grey version of `frame` (3, h, w), without the part that noise accounts for.

    A black, white or faded frame has little of it, and so is passed over as well. A frame with NaN has none.
    """
    if frame.ndim != 3 or frame.shape[0] != 3:
        raise ValueError(f"a frame must be (3, h, w), got {tuple(frame.shape)}")
    luma = torch.tensor(LUMA, device=frame.device).view(3, 1, 1)
    grey = ((frame.float() + 1) / 2 * luma).sum(0)[None, None]
    shrink = min(grey.shape[-2:]) / SMALL
    if shrink > 1:
        small = [max(1, round(side / shrink)) for side in grey.shape[-2:]]
        grey = F.interpolate(grey, size=small, mode="area")
    grey = F.pad(grey, (2, 2, 2, 2), mode="replicate")
    # binomial smoothing times central difference; their response to white noise of variance 1 is known: its
    # energy is the sum of the squared weights
    smooth, difference = grey.new_tensor([1, 4, 6, 4, 1]) / 16, grey.new_tensor([-1, -2, 0, 2, 1]) / 8
    kernels = torch.stack([torch.outer(smooth, difference), torch.outer(difference, smooth)])[:, None]
    energy = F.conv2d(grey, kernels).square().sum(1).mean()
    energy = energy - noise_variance(grey) * kernels.square().sum()
    value = float(energy)
    return max(value, 0.0) if math.isfinite(value) else 0.0


def noise_variance(grey: Tensor) -> Tensor:
    """Variance of white noise in (1, 1, h, w), blind to straight edges (Immerkaer 1996).

    With a median in place of the mean: texture is sparse, noise is everywhere.
    """
    kernel = grey.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    deviation = F.conv2d(grey, kernel).abs().median() / 0.6745 / 6  # 6 = root of the kernel's energy
    return deviation.square()


def parse_key_frame(text: str) -> int | None:
    """Read `auto` (None) or a frame number from 0. Raises InputError for anything else."""
    text = text.strip()
    if text.lower() == "auto":
        return None
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"key frame must be auto or a frame number from 0, got {text!r}")
    return int(text)


def parse_numbers(text: str, name: str) -> list[int]:
    """Numbers from a text such as `0, 12 57`; an empty text has none. Raises InputError for anything else."""
    words = text.replace(",", " ").split()
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise InputError(f"{name} must be whole numbers from 0, separated by commas, such as 12, 57; got {word!r}")
    return [int(word) for word in words]


def check_key_frame(index: int, frames: int) -> int:
    """`index`, if a clip of `frames` frames has such a frame; raises InputError with the range if not."""
    if not 0 <= index < frames:
        raise InputError(f"key frame must be in [0, {frames - 1}] for a clip of {frames} frames, got {index}")
    return index
