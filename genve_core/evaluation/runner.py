"""Runs methods over clips and measures them: protocol v1 as a loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from . import metrics
from .niqe import NiqeModel, niqe
from .peers import Bicubic, FrameFolder, Method
from .perceptual import Perceptual
from .protocol import DEGRADATIONS, FRAMES, SETTINGS, Clip, Sample, load_sample
from .report import Sheets


@dataclass(frozen=True)
class EvaluateConfig:
    """What to run. Every combination of degradation, clip, setting and method becomes one row."""

    degradations: tuple[str, ...] = ("real4x", "clean4x")
    settings: tuple[str, ...] = SETTINGS
    frames: int = FRAMES  # most frames per clip; other than 48 is not the protocol
    cache: Path | None = None  # keeps read and degraded clips

    def __post_init__(self) -> None:
        for name, given, known in (("degradation", self.degradations, DEGRADATIONS), ("setting", self.settings, SETTINGS)):
            if unknown := [x for x in given if x not in known]:
                raise InputError(f"{name} {unknown[0]!r} is unknown; choose from {', '.join(known)}")
        if self.frames < 2:
            raise InputError(f"frames must be 2 or more, got {self.frames}")


@dataclass
class Evaluation:
    """What a run leaves: one row per combination, and what went wrong."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scorer:
    """The metrics that need something loaded."""

    niqe: NiqeModel | None = None
    perceptual: Mapping[str, Perceptual] = field(default_factory=dict)
    threads: int = 1

    def __call__(self, result: np.ndarray, sample: Sample, motion: list[metrics.Motion] | None) -> dict[str, Any]:
        """All metrics of one result that do not depend on the setting."""
        row: dict[str, Any] = {"input_psnr": metrics.input_psnr(result, sample.low)}
        if sample.truth is not None:
            row["ssim"] = metrics.ssim(result, sample.truth)
            row |= metrics.vmaf(result, sample.truth, self.threads)
            row["warp_ratio"] = metrics.warp_ratio(result, sample.truth, motion)
        if self.niqe is not None:
            row["niqe"] = niqe(result, self.niqe)
        return row | {name: metric(result, sample.truth) for name, metric in self.perceptual.items()}


def evaluate(clips: tuple[Clip, ...], methods: Mapping[str, Method | Path], data: Path, config: EvaluateConfig,
             scorer: Scorer, sheets: Sheets | None = None, say: Callable[[str], None] = lambda line: None) -> Evaluation:
    """Run every method on every clip. A clip or a method that fails is noted and the rest goes on.

    methods: by name; a folder stands for results made before, see `results_folder`. `say` gets a line per row.
    Raises InputError before anything runs if `data` is not a folder.
    """
    if not Path(data).is_dir():
        raise InputError(f"--data {data} is not a folder; give the one that contains validation/")
    run = Evaluation()
    for clip in clips:
        # a clip that is poor by itself is not made poorer
        for degradation in config.degradations if clip.has_truth else ("none",):
            try:
                sample = load_sample(clip, degradation, data, config.frames, config.cache)
                _evaluate_sample(sample, methods, config, scorer, sheets, say, run)
            except Exception as error:  # one clip must not cost the night's other clips
                _fail(run, say, f"{clip.name} {degradation}", error)
    return run


def _evaluate_sample(sample: Sample, methods: Mapping[str, Method | Path], config: EvaluateConfig, scorer: Scorer,
                     sheets: Sheets | None, say: Callable[[str], None], run: Evaluation) -> None:
    motion = None if sample.truth is None else metrics.motion_between_frames(sample.truth)
    base = Bicubic()(sample.low, sample.scale)
    done: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}  # results that no setting changes
    for setting in config.settings if sample.truth is not None else ("self",):
        results = {}
        for name, method in methods.items():
            where = f"{sample.clip.name} {sample.degradation} {setting} {name}"
            if name == "flow-warp" and setting == "self":
                continue  # it has nothing to warp
            try:
                if name not in done:
                    scored = _run_method(method, sample, setting, scorer, motion)
                    if not (isinstance(method, Path) or method.uses_reference):
                        done[name] = scored
                else:
                    scored = done[name]
                row = {"clip": sample.clip.name, "degradation": sample.degradation, "setting": setting, "method": name,
                       "frames": len(sample.low)} | _against_bicubic(scored[0], base, sample, setting) | scored[1]
            except Exception as error:
                _fail(run, say, where, error)
                continue
            results[name] = scored[0]
            run.rows.append(row)
            say(f"{where}: " + ", ".join(f"{k} {row[k]:.2f}" for k in ("psnr", "vmaf", "warp_ratio", "niqe") if row.get(k)))
        if sheets and results:
            sheets.add(sample, setting, base, results)


def _run_method(method: Method | Path, sample: Sample, setting: str, scorer: Scorer,
                motion: list[metrics.Motion] | None) -> tuple[np.ndarray, dict[str, Any]]:
    if isinstance(method, Path):
        method = FrameFolder(results_folder(method, sample, setting))
    reference = None
    if setting == "one-good-frame" and sample.truth is not None:
        reference = (sample.truth[sample.key_frame], sample.key_frame)
    memory = PeakMemory()
    begin = time.perf_counter()
    result = method(sample.low, sample.scale, reference)
    seconds = time.perf_counter() - begin
    row = {"seconds_per_frame": seconds / len(sample.low), **memory.read()}
    return result, row | scorer(result, sample, motion)


def _against_bicubic(result: np.ndarray, base: np.ndarray, sample: Sample, setting: str) -> dict[str, Any]:
    """PSNR, without the key frame where it was given, and the frame that fares worst against bicubic."""
    if sample.truth is None:
        return {}
    left_out = sample.key_frame if setting == "one-good-frame" else None
    gain = metrics.psnr_per_frame(result, sample.truth) - metrics.psnr_per_frame(base, sample.truth)
    if left_out is not None:
        gain[left_out] = np.inf
    worst = int(gain.argmin())
    psnr = metrics.psnr(result, sample.truth, left_out)
    return {"psnr": psnr, "worst_frame": worst, "worst_gain": float(gain[worst])}


def results_folder(root: Path, sample: Sample, setting: str) -> Path:
    """Where frames made by any tool lie: ROOT/degradation/setting/clip, or ROOT/clip if there is no such folder."""
    full = root / sample.degradation / setting / sample.clip.name
    return full if full.is_dir() else root / sample.clip.name


def _fail(run: Evaluation, say: Callable[[str], None], where: str, error: Exception) -> None:
    line = f"{where}: failed: {type(error).__name__}: {' '.join(str(error).split())}"
    run.failures.append(line)
    say(line)


class PeakMemory:
    """Most memory held since it was made. Linux tells it for a span; elsewhere it is that of the whole process so far."""

    def __init__(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, man 5 proc

    def read(self) -> dict[str, float | None]:
        """{"peak_rss_gib": .., "peak_gpu_gib": ..}; None where unknown."""
        import torch

        gpu = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
        return {"peak_rss_gib": _peak_rss_gib(), "peak_gpu_gib": gpu}


def _peak_rss_gib() -> float | None:
    status = Path("/proc/self/status")
    if status.exists():
        line = next((x for x in status.read_text().splitlines() if x.startswith("VmHWM")), None)
        if line:
            return int(line.split()[1]) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
