"""What a person sees while the work goes on: a bar per stage, notes, and what it cost in the end. All on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

import torch


class Progress:
    """Call it with (stage, done, total), in frames. On a terminal it draws one bar with rate and time left; in a
    log it writes one line for every stage that was completed."""

    def __init__(self, label: str = "") -> None:
        """label: of the file under way, where there are several."""
        from tqdm import tqdm

        self._draw = tqdm
        self._label = label
        self._bar: tqdm | None = None
        self._stage = self._piece = self._left = ""
        self._said: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage, self._done, self._begin = stage, 0, time.perf_counter()
            what = f"{self._label}{self._piece}{stage:8}{self._left}"
            self._bar = self._draw(total=total, desc=what, unit=" frames", leave=False,
                                   disable=None, dynamic_ncols=True, file=sys.stderr)
        self._bar.total = total
        self._bar.update(done - self._done)
        self._done, self._total = done, total

    def piece(self, index: int, total: int, left: str = "") -> None:
        """What follows is piece `index` of `total`. left: see `TimeLeft`."""
        self.close()
        self._piece = f"{index + 1}/{total} " if total > 1 else ""
        self._left = f", {left}" if left else ""

    def close(self) -> None:
        """End the stage under way."""
        if self._bar is None:
            return
        self._bar.close()
        if self._bar.disable and self._done == self._total:
            seconds = time.perf_counter() - self._begin
            what = f"{self._label}{self._piece}{self._stage}"
            print(f"{what}: {self._total} frames in {seconds:.1f} s{self._left}", file=sys.stderr)
        self._bar = None

    def notes(self, notes: Iterable[str]) -> None:
        """Print each note once, as one line, without breaking the bar."""
        for note in notes:
            if note not in self._said:
                self._said.add(note)
                self._draw.write(f"note: {self._label}{' '.join(note.split())}", file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TimeLeft:
    """How long the pieces still to be made will take, from those that this run has made."""

    def __init__(self, lengths: Sequence[int]):
        """lengths: frames of each piece."""
        self._lengths = lengths
        self._first: int | None = None  # the first piece made, and when that began
        self._begin = 0.0

    def at(self, piece: int) -> str:
        """When a piece begins: like `about 12 min left`; nothing while there is nothing to go by."""
        if self._first is None:
            self._first, self._begin = piece, time.perf_counter()
            return ""
        made, left = sum(self._lengths[self._first : piece]), sum(self._lengths[piece:])
        return f"about {duration((time.perf_counter() - self._begin) / made * left)} left"


def duration(seconds: float) -> str:
    """Like `40 s`, `12 min` or `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class PeakMemory:
    """The most memory that this process held. `before` is that at the start, libraries included."""

    def __init__(self) -> None:
        self.before = _resident()

    def describe(self, device: torch.device) -> str:
        """Like `peak memory 1.31 GiB (0.52 before the work)`; what cannot be known is left out."""
        parts = []
        if (peak := _resident()) and self.before:
            parts.append(f"peak memory {peak / 2**30:.2f} GiB ({self.before / 2**30:.2f} before the work)")
        if device.type == "cuda":
            parts.append(f"peak GPU memory {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB")
        return ", ".join(parts) or "peak memory unknown on this system"


def _resident() -> int:
    """Bytes; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
