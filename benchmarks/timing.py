"""Timing and memory, measured the same way by every benchmark."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Timing", "bench", "chip_name", "free_memory_mb", "peak_memory_mb"]


@dataclass(frozen=True)
class Timing:
    """What `bench` saw. Times in milliseconds; memory in MiB (see `peak_memory_mb`)."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float
    runs: int
    peak_mb: float
    chip: str

    def __str__(self) -> str:
        spread = f"{self.fastest_ms:.1f}..{self.slowest_ms:.1f}, n={self.runs}"
        return f"{self.median_ms:.1f} ms ({spread}), peak {self.peak_mb:.0f} MiB on {self.chip}"


def bench(fn: Callable[[], object], device: str = "cpu", warmup: int = 2, runs: int = 7) -> Timing:
    """Time `fn`. CUDA calls return early, so the clock waits for the device.

    The peak on a CPU is that of the whole process since its start: for a peak of `fn` alone, run each case in
    a process of its own and take off what it held before.
    """
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times_ms = []
    for _ in range(warmup + runs):
        wait()
        start = time.perf_counter()
        fn()
        wait()
        times_ms.append(1e3 * (time.perf_counter() - start))
    kept = times_ms[warmup:]
    median = statistics.median(kept)
    return Timing(median, min(kept), max(kept), runs, peak_memory_mb(device), chip_name(device))


def chip_name(device: str) -> str:
    """The device and the torch version, for the head of a table."""
    chip = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return f"{chip}, torch {torch.__version__}"


def peak_memory_mb(device: str = "cpu") -> float:
    """The most memory held so far, in MiB: the process on a CPU (NaN on Windows), torch's on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows has no such module
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux


def free_memory_mb(device: str = "cpu") -> float:
    """What may still be used, in MiB; infinity where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 2**20
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":") for line in lines)
        return int(fields["MemAvailable"].split()[0]) / 2**10
    except (OSError, KeyError):
        return float("inf")
