"""The numbers of protocol v1. Frames are uint8 RGB (f, h, w, 3); every metric is a mean over frames."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from .motion import Motion, checked_motion, warp

PSNR_CAP = 100.0  # dB, given for identical frames, so that means and JSON stay finite
VMAF_MODELS = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}


def check_pair(result: np.ndarray, truth: np.ndarray) -> None:
    """Raise InputError unless both are uint8 (f, h, w, 3) of one shape."""
    for name, frames in (("result", result), ("truth", truth)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise InputError(f"{name} must be uint8 (f, h, w, 3), got {frames.dtype} {frames.shape}")
    if result.shape != truth.shape:
        raise InputError(f"result must be {truth.shape} like the truth, got {result.shape}")


def psnr_per_frame(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PSNR over RGB of each frame in dB, (f,), at most PSNR_CAP."""
    check_pair(result, truth)
    mse = np.array([np.square(a.astype(np.float32) - b).mean(dtype=np.float64) for a, b in zip(result, truth)])
    return np.minimum(PSNR_CAP, 10 * np.log10(255.0**2 / np.maximum(mse, 1e-12)))


def psnr(result: np.ndarray, truth: np.ndarray, leave_out: int | None = None) -> float:
    """Mean over frames of the RGB PSNR in dB. `leave_out`: a frame that was given to the method and does not count."""
    values = psnr_per_frame(result, truth)
    if leave_out is not None:
        if not 0 <= leave_out < len(values):
            raise InputError(f"frame {leave_out} cannot be left out of {len(values)} frames")
        if len(values) == 1:
            raise InputError("a clip of one frame has no frame left without its key frame; use 2 frames or more")
        values = np.delete(values, leave_out)
    return float(values.mean())


def input_psnr(result: np.ndarray, low: np.ndarray) -> float:
    """Does the result still show the input? PSNR of the area-reduced result against the input, in dB."""
    import cv2

    size = (low.shape[2], low.shape[1])
    return psnr(np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in result]), low)


def ssim(result: np.ndarray, truth: np.ndarray) -> float:
    """SSIM of the grey frames (scikit-image's defaults: 7x7 window, range 255)."""
    import cv2

    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise InputError('SSIM needs scikit-image; install it with pip install "genve[evaluate]"') from error
    check_pair(result, truth)
    grey = [[cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in pair] for pair in zip(result, truth)]
    return float(np.mean([structural_similarity(a, b, data_range=255) for a, b in grey]))


def vmaf(result: np.ndarray, truth: np.ndarray, threads: int = 1) -> dict[str, float]:
    """VMAF and VMAF-NEG, {"vmaf": .., "vmaf_neg": ..}, each 0 to 100, on yuv420p at 25 fps (libvmaf's own models)."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise InputError('VMAF needs imageio-ffmpeg; install it with pip install "genve[evaluate]"') from error
    check_pair(result, truth)
    with tempfile.TemporaryDirectory(prefix="genve-vmaf-") as folder:
        for name, frames in (("result", result), ("truth", truth)):
            (Path(folder) / name).write_bytes(frames.tobytes())
        command = [get_ffmpeg_exe(), *_vmaf_arguments(truth.shape[1], truth.shape[2], threads)]
        # the folder is the working directory: a path inside a filter would need escaping (colons on Windows)
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        log = Path(folder) / "log.json"
        if run.returncode or not log.exists():
            raise RuntimeError(f"ffmpeg's libvmaf failed: {run.stderr.strip().splitlines()[-1:]}")
        pooled = json.loads(log.read_text())["pooled_metrics"]
    return {name: float(pooled[name]["mean"]) for name in VMAF_MODELS}


def _vmaf_arguments(h: int, w: int, threads: int) -> list[str]:
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", "25"]
    models = "|".join(rf"version={version}\:name={name}" for name, version in VMAF_MODELS.items())
    graph = (
        "[0:v]format=yuv420p[result];[1:v]format=yuv420p[truth];"
        f"[result][truth]libvmaf=model='{models}':log_fmt=json:log_path=log.json:n_threads={threads}"
    )
    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-threads", str(threads)]
    return [*quiet, *raw, "-i", "result", *raw, "-i", "truth", "-lavfi", graph, "-f", "null", "-"]


def motion_between_frames(truth: np.ndarray) -> list[Motion]:
    """Checked motion of each frame to the next, f - 1 entries: made once per clip, used for every method."""
    return [checked_motion(a, b) for a, b in zip(truth[:-1], truth[1:])]


def warp_error(frames: np.ndarray, motion: Sequence[Motion]) -> float:
    """Mean over neighbouring frames of the MSE between a frame and the next one warped onto it, valid pixels only.

    Lai et al. 2018, Eq. 8, squared grey levels. A pair without any valid pixel does not count.
    """
    if len(frames) != len(motion) + 1:
        raise InputError(f"{len(motion)} motions need {len(motion) + 1} frames, got {len(frames)}")
    errors = []
    for a, b, (flow, valid) in zip(frames[:-1], frames[1:], motion):
        if valid.any():
            difference = a.astype(np.float32) - warp(b.astype(np.float32), flow)
            errors.append(np.square(difference[valid]).mean(dtype=np.float64))
    return float(np.mean(errors)) if errors else 0.0


def warp_ratio(result: np.ndarray, truth: np.ndarray, motion: Sequence[Motion] | None = None) -> float | None:
    """Warp error of the result / of the ground truth, by the truth's motion: 1 = as steady, above = flicker.

    None where the truth has no warp error to divide by (one frame, or a still picture).
    """
    check_pair(result, truth)
    motion = motion_between_frames(truth) if motion is None else motion
    base = warp_error(truth, motion)
    return warp_error(result, motion) / base if base > 0 else None
