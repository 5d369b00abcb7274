"""Decoding a clip once more at another noise level, without looking at its frames and references again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .detail_decoder import Seen

LIMIT = 2**29  # bytes: about 30 frames of 704x448


class DecoderMemory:
    """What the decoder made of the parts of one clip, up to `limit` bytes; parts beyond are made anew every time."""

    def __init__(self, limit: int = LIMIT):
        self.limit = limit
        self.bytes = 0
        self._parts: dict[tuple[int, int], Sequence[Seen]] = {}
        self._sources: tuple[Tensor, ...] = ()
        self._settings: tuple[float, ...] = ()

    def begin(self, sources: Sequence[Tensor], settings: Sequence[float]) -> None:
        """Say what the parts are made of: these very tensors and settings. All is forgotten if it was of others."""
        same = len(sources) == len(self._sources) and all(a is b for a, b in zip(sources, self._sources, strict=True))
        if not same or tuple(settings) != self._settings:
            self._parts.clear()
            self.bytes = 0
        self._sources, self._settings = tuple(sources), tuple(settings)

    def recall(self, part: slice, make: Callable[[], Sequence[Seen]]) -> Sequence[Seen]:
        """What is known of frames `part`, else what `make` gives."""
        key = (part.start, part.stop)
        if key in self._parts:
            return self._parts[key]
        seen = make()
        size = sum(one.bytes for one in seen)
        if self.bytes + size <= self.limit:
            self._parts[key] = seen
            self.bytes += size
        return seen

    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        return [x for part in self._parts.values() for seen in part for x in seen.tensors]
