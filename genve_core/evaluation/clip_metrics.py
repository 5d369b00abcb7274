"""One clip judged by numbers: against its own input, and against the truth where there is one.

Everything is measured on 8-bit frames, as they would be saved. `ClipReport` says what each number is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..clip import ClipFlow
from ..conditioning.flow import FlowConfig, consistent
from ..conditioning.warp import resize_flow
from ..diffuser.windows import WindowConfig, window_weights, windows
from ..errors import InputError
from ..media.eight_bit import as_bytes, to_video
from ..video_codec import upsample
from .metrics import Motion, check_pair, motion_between_frames, psnr_per_frame, warp_error

FAINT = 0.5  # grey levels, added to both sides of a ratio of changes: a still clip has no change to divide by


@dataclass(frozen=True)
class ClipReport:
    """What was measured. `values` holds one number each, None where it cannot be known; `curves` the same per frame.

    input_psnr: dB; the result, area-reduced to the input's grid, against the input. High: it still shows the input.
    sharpness: mean gradient of the grey result in grey levels per pixel. Noise counts as well.
    sharpness_gain: that over the bicubically enlarged input's.
    warp_ratio: how much frames change along the motion, result over truth (without truth: over the enlarged input).
    seam_score: how much the result changes from frame to frame where windows overlap, over elsewhere; each change is
        first divided by the input's own. 1: no seam is seen.
    psnr: dB against the truth.
    """

    values: dict[str, float | None]
    curves: dict[str, list[float]]
    borders: list[int]  # frames i where from i - 1 to i another share of the windows counts
    about: dict[str, Any] = field(default_factory=dict)  # frames, sizes and settings

    def text(self) -> str:
        """A line for each number that is known."""
        lines = [LINES[name].format(value, base=self.about["warp_base"]) for name, value in self.values.items()
                 if value is not None]
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """For JSON: no NaN."""
        curves = {name: [value if math.isfinite(value) else None for value in row] for name, row in self.curves.items()}
        return {**self.about, **self.values, "borders": self.borders, "per_frame": curves}


LINES = {
    "input_psnr": "Fidelity to the input: {:.2f} dB (PSNR of the result reduced to the input's grid)",
    "sharpness": "Sharpness: {:.2f} grey levels per pixel (mean gradient)",
    "sharpness_gain": "Sharpness gain: {:.2f} times the enlarged input's",
    "warp_ratio": "Warp ratio: {:.2f} times the {base}'s change along the motion",
    "seam_score": "Seam score: {:.3f} (change where windows overlap, over elsewhere)",
    "psnr": "PSNR against the truth: {:.2f} dB",
}


def measure(result: np.ndarray, given: np.ndarray, *, truth: np.ndarray | None = None, motion: Sequence[Motion] | None = None,
            window: WindowConfig = WindowConfig(), scale: int = 4) -> ClipReport:
    """Judge a result (f, H, W, 3) uint8 by its input (f, h, w, 3) uint8.

    truth: like the result.   motion: of each frame to the next, at the result's size; None = found by OpenCV's DIS on the
    truth, or else on the enlarged input.   window: how the clip was cut, for the seam score.
    scale: what an input of the result's size was enlarged by; both are reduced by it before they are compared.
    Raises InputError for clips that do not fit together.
    """
    check_clips(result, given, truth, scale)
    size = (result.shape[1], result.shape[2])
    low = given if given.shape[1:3] != size else reduced(given, (max(1, size[0] // scale), max(1, size[1] // scale)))
    large = given if given.shape[1:3] == size else enlarged(given, size)
    base = large if truth is None else truth
    motion = motion_between_frames(base) if motion is None else motion
    curves = {
        "input_psnr": psnr_per_frame(reduced(result, (low.shape[1], low.shape[2])), low),
        "sharpness": sharpness_per_frame(result),
        "warp_error": _pairs(lambda a: warp_error(result[a : a + 2], motion[a : a + 1]), len(result)),
        "change": changes(result, large),
    }
    curves |= {} if truth is None else {"psnr": psnr_per_frame(result, truth)}
    borders = window_borders(len(result), window)
    values = {
        "input_psnr": _mean(curves["input_psnr"]),
        "sharpness": _mean(curves["sharpness"]),
        "sharpness_gain": _ratio(_mean(curves["sharpness"]), _mean(sharpness_per_frame(large))),
        "warp_ratio": _ratio(warp_error(result, motion), warp_error(base, motion)),
        "seam_score": seam_score(curves["change"], borders),
        "psnr": None if truth is None else _mean(curves["psnr"]),
    }
    about = {"frames": len(result), "width": size[1], "height": size[0], "input_width": low.shape[2],
             "input_height": low.shape[1], "warp_base": "input" if truth is None else "truth", "window": window.length,
             "overlap": window.overlap}
    return ClipReport(values, {name: [float(v) for v in row] for name, row in curves.items()}, borders, about)


def check_clips(result: np.ndarray, given: np.ndarray, truth: np.ndarray | None, scale: int) -> None:
    """Raise InputError unless these can be of the same frames."""
    check_pair(result, result)
    check_pair(given, given)
    if len(given) != len(result):
        raise InputError(f"the result has {len(result)} frames and the input {len(given)}, wanted as many; wire the frames "
                         f"that went into the enhancement")
    if given.shape[1] > result.shape[1] or given.shape[2] > result.shape[2]:
        raise InputError(f"the input is {given.shape[2]}x{given.shape[1]} px and the result {result.shape[2]}x"
                         f"{result.shape[1]} px, wanted an input that is not larger; are the two swapped?")
    if truth is not None and truth.shape != result.shape:
        raise InputError(f"the truth has {_shape(truth)}, the result {_shape(result)}, wanted the same; "
                         f"resize or cut the truth to the result")
    if scale < 1:
        raise InputError(f"the input's scale must be 1 or more, got {scale}")


def _shape(frames: np.ndarray) -> str:
    return f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} px"


def enlarged(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic, as the pipeline's own up-sampling: (f, *size, 3) uint8. size: (h, w)."""
    return np.concatenate([as_bytes(upsample(to_video(frame[None])[None], size)[0]) for frame in frames])


def reduced(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area-reduced to `size` = (h, w), (f, h, w, 3) uint8."""
    import cv2

    return np.stack([cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_AREA) for frame in frames])


def sharpness_per_frame(frames: np.ndarray) -> np.ndarray:
    """Mean length of the grey gradient (Sobel) in grey levels per pixel, (f,)."""
    import cv2

    values = []
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        across, down = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
        values.append(np.hypot(across, down).mean(dtype=np.float64))
    return np.array(values)


def changes(result: np.ndarray, large: np.ndarray) -> np.ndarray:
    """How much each frame differs from the one before, the result's mean difference over the input's: (f,), NaN first."""
    def mean_change(frames: np.ndarray, a: int) -> float:
        return float(np.abs(frames[a + 1].astype(np.float32) - frames[a]).mean(dtype=np.float64))

    return _pairs(lambda a: (mean_change(result, a) + FAINT) / (mean_change(large, a) + FAINT), len(result))


def window_borders(frames: int, window: WindowConfig) -> list[int]:
    """Frames i where the shares of the windows are others than at i - 1: every step of every cross-fade."""
    spans = windows(frames, window)
    share = torch.zeros(len(spans), frames)
    for row, span, weight in zip(share, spans, window_weights(spans), strict=True):
        row[span.start : span.stop] = weight
    return [i for i in range(1, frames) if bool((share[:, i] - share[:, i - 1]).abs().max() > 1e-6)]


def seam_score(change: np.ndarray, borders: Sequence[int]) -> float | None:
    """Mean of `change` (f,) at the borders over its mean elsewhere. None where there is no border, or nothing else."""
    elsewhere = [i for i in range(1, len(change)) if i not in set(borders)]
    if not borders or not elsewhere:
        return None
    return _ratio(_mean(change[list(borders)]), _mean(change[elsewhere]))


def motion_of_flow(flow: ClipFlow, padded: tuple[int, int], size: tuple[int, int],
                   config: FlowConfig = FlowConfig()) -> list[Motion]:
    """A clip's own flow as `measure` takes it. padded: (h, w) the flow covers.   size: (h, w) of the frames in it."""
    motion = []
    for forward, back in zip(flow.forward[:-1, None], flow.backward[1:, None]):
        valid = F.interpolate(consistent(forward, back, config).float(), size=padded, mode="nearest")
        full = resize_flow(forward.float(), padded)[0].permute(1, 2, 0)
        motion.append(Motion(np.ascontiguousarray(full[: size[0], : size[1]].cpu().numpy()),
                             valid[0, 0, : size[0], : size[1]].cpu().numpy() > 0.5))
    return motion


def _pairs(value: Any, frames: int) -> np.ndarray:
    """value(i - 1) at frame i, NaN at frame 0."""
    return np.array([math.nan, *(value(a) for a in range(frames - 1))])


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0 else None
