"""How much is computed at once, and how to go on with less when memory runs out. Shared by the command line and the nodes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Literal, TypeVar

import torch

from .diffuser.windows import WindowConfig
from .settings import CHUNK, EnhanceConfig
from .video_codec import SMALLEST_TILE, TilingConfig

Part = Literal["segment", "window", "tile", "chunk"]
R = TypeVar("R")
SAID = ("out of memory", "not enough memory", "can't allocate memory", "Insufficient memory")  # by CUDA, torch, OpenCV


@dataclass(frozen=True)
class Sizes:
    """How much is computed at once. Of these only the window changes the result beyond rounding."""

    window: WindowConfig = field(default_factory=WindowConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)
    chunk: int = CHUNK  # frames encoded or decoded together
    segment: int = 96  # frames of a shot worked on together, about

    @classmethod
    def of(cls, config: EnhanceConfig) -> Sizes:
        return cls(config.window, config.tiling, config.chunk, config.segment)

    def into(self, config: EnhanceConfig) -> EnhanceConfig:
        """`config` with these sizes."""
        return replace(config, window=self.window, tiling=self.tiling, chunk=self.chunk, segment=self.segment)

    def stored(self) -> dict[str, Any]:
        """As plain values, for `restored`."""
        return asdict(self)

    @classmethod
    def restored(cls, stored: Any) -> Sizes | None:
        """None for what `stored` did not make."""
        try:
            return cls(**{**stored, "window": WindowConfig(**stored["window"]), "tiling": TilingConfig(**stored["tiling"])})
        except (TypeError, KeyError, ValueError):
            return None

    def halved(self, part: Part) -> Sizes | None:
        """The same with half of one part; None if that would be too small."""
        if part == "window":
            length = self.window.length // 2
            return replace(self, window=window_of(length, self.window.overlap)) if length >= 4 else None
        if part == "tile":
            tile, decode = self.tiling.tile // 2, max(self.tiling.decode // 2, SMALLEST_TILE)
            if tile < 256:
                return None
            overlap = min(self.tiling.overlap, tile // 4)
            return replace(self, tiling=replace(self.tiling, tile=tile, decode=decode, overlap=overlap))
        if part == "segment":
            return replace(self, segment=self.segment // 2) if self.segment >= 2 else None
        chunk = self.chunk // 2
        if not chunk:
            return None
        return replace(self, chunk=chunk, tiling=replace(self.tiling, frames=min(self.tiling.frames, chunk)))

    def told(self, parts: Collection[Part]) -> str:
        """Some of the parts, in words."""
        words = {"window": f"windows of {self.window.length} frames", "tile": f"tiles of {self.tiling.tile} px",
                 "chunk": f"{self.chunk} frames at once", "segment": f"segments of {self.segment} frames"}
        return ", ".join(text for part, text in words.items() if part in parts)


def window_of(length: int, overlap: int = WindowConfig().overlap) -> WindowConfig:
    """Windows of `length` frames that share `overlap`, or a quarter of themselves if that is less."""
    return WindowConfig(length, min(overlap, length // 4))


def is_oom(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on an accelerator or on the CPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    said = str(error)
    return isinstance(error, (RuntimeError, *_cv2_error())) and any(words in said for words in SAID)


def free_cache(device: torch.device) -> None:
    """Give back what torch keeps on an accelerator for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class Retrying:
    """Runs work again with smaller sizes when memory runs out. What it came to is kept for the next work."""

    def __init__(self, sizes: Sizes, parts: tuple[Part, ...], last: tuple[Part, ...] = (), *,
                 oom: Callable[[BaseException], bool] = is_oom, free: Callable[[], None] = lambda: None,
                 tell: Callable[[str], None] = lambda note: None):
        """parts: halved in turn; `last` are halved only when none of those can be any more.

        oom: which errors mean it.   free: called before each retry.   tell: hears one sentence per retry.
        """
        self.sizes = sizes
        self.notes: list[str] = []
        self._parts, self._last, self._oom, self._free, self._tell = parts, last, oom, free, tell

    def call(self, work: Callable[[Sizes], R]) -> R:
        """`work(sizes)`, which does all of its computing before it returns. All other errors pass."""

        def once(sizes: Sizes) -> Iterator[R]:
            yield work(sizes)

        return next(self.items(once))

    def items(self, make: Callable[[Sizes], Iterator[R]]) -> Iterator[R]:
        """What `make(sizes)` yields. When memory runs out, the retry's first items, which were given out already, are
        passed over: no size changes their number or order."""
        given = 0
        while True:
            made = islice(make(self.sizes), given, None)
            try:
                for item in made:
                    given += 1
                    yield item
                return
            except Exception as error:
                smaller = self._smaller() if self._oom(error) else None
                if smaller is None:
                    raise
            # outside of the except block: the error held every tensor of the failed attempt
            del made
            self._free()
            self.sizes = smaller
            self.notes.append(f"Memory ran out; tried again with {smaller.told((*self._parts, *self._last))}.")
            self._tell(self.notes[-1])

    def _smaller(self) -> Sizes | None:
        turn = len(self.notes) % max(len(self._parts), 1)
        for part in (*self._parts[turn:], *self._parts[:turn], *self._last):
            if (smaller := self.sizes.halved(part)) is not None:
                return smaller
        return None


def _cv2_error() -> tuple[type[Exception], ...]:
    import cv2

    return (cv2.error,)
