"""A sweep: some frames of a clip at several noise levels and with several references, to choose by eye.

Latents and flow are made once, before. Of the rest only what the chosen frames need is computed: the windows of the
whole clip that hold them, with the noise that belongs to their frames, and of those only the frames themselves are
decoded. Where one window holds the whole clip the pictures are those of the whole run; else the overlap with a
window that was left out may change a frame a little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from .clip import Clip, ClipFlow, Reference
from .conditioning.temporal import carry
from .decode import decode_clip
from .diffuser.windows import WindowConfig, windows
from .errors import InputError
from .models import Models
from .segments import widened
from .steps import OnProgress, augment, diffuse, match, silent

MOST = 100  # pictures in a sweep: more is a slip of the hand


@dataclass(frozen=True)
class SweepConfig:
    """Which pictures to make."""

    levels: tuple[int, ...]  # n of each column, in [0, 999]
    frames: tuple[int, ...]  # counted from 0
    steps: int | None = None  # None = the bundle's
    seed: int = 0
    strength: float = 1.0  # of the reference, in [0, 1]
    window: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        if not self.levels or not self.frames:
            raise InputError(f"a sweep needs at least one noise level and one frame, got {len(self.levels)} and "
                             f"{len(self.frames)}")
        for level in self.levels:
            if not 0 <= level < 1000:
                raise InputError(f"noise level must be in [0, 999], got {level}")
        if not 0 <= self.strength <= 1:
            raise InputError(f"reference strength must be in [0, 1], got {self.strength}")


def spread(count: int, total: int) -> tuple[int, ...]:
    """`count` frames of `total`, evenly apart and away from the ends; all of them if there are fewer."""
    count = min(count, total)
    return tuple(int((i + 0.5) * total / count) for i in range(count))


def sweep(models: Models, clip: Clip, Z: Tensor, references: Mapping[str, Sequence[Reference]], flow: ClipFlow,
          config: SweepConfig, *, report: OnProgress = silent) -> Iterator[tuple[str, list[Tensor]]]:
    """One setting after the other: its label, and the frames (3, h, w) in [-1, 1] in the order of `config.frames`.

    Z: (1, f, c, H/8, W/8).   references: label -> the references used together, with the clean y; every level is tried
    with each. The label of the only one may be empty. Raises InputError for frames that are not in the clip.
    """
    for frame in config.frames:
        if not 0 <= frame < len(clip):
            raise InputError(f"frame {frame} is not in the clip of {len(clip)} frames; choose from 0 to {len(clip) - 1}")
    settings = [*product(references.items(), config.levels)]
    if len(settings) * len(config.frames) > MOST:
        raise InputError(f"the sweep would have {len(settings) * len(config.frames)} pictures, at most {MOST} are made; "
                         f"choose fewer levels, references or frames")
    times = models.defaults.video_times(config.steps)
    for done, ((name, used), n) in enumerate(settings):
        def stay(stage: str, ready: int, total: int, done: int = done) -> None:
            report("sweep", done, len(settings))

        guided = _conditions(models, Z, used if config.strength > 0 else (), flow, n, config)
        Z_0 = torch.zeros_like(Z, device="cpu")
        for span in _spans(len(clip), config, models.fused):
            rows = slice(span.start, span.stop)
            guidance = match(models, guided[0][:, rows], None if guided[1] is None else guided[1][:, rows], n,
                             strength=config.strength)
            Z_0[:, rows] = diffuse(models, Z[:, rows], guidance, times, seed=config.seed, window=config.window,
                                   first_frame=span.start, report=stay).cpu()
        pictures = [next(decode_clip(models, clip, Z_0, flow, used, n=n, strength=config.strength, report=stay,
                                     frames=range(frame, frame + 1))) for frame in config.frames]
        report("sweep", done + 1, len(settings))
        yield ", ".join(part for part in (f"n = {n}", name) if part), pictures


def _conditions(models: Models, Z: Tensor, references: Sequence[Reference], flow: ClipFlow, n: int,
                config: SweepConfig) -> tuple[Tensor, Tensor | None]:
    """Z_n and Y_n of the whole clip."""
    Z_n, noised = augment(models, Z, references, n, seed=config.seed)
    return Z_n, carry(noised, flow)[0] if noised else None


def _spans(total: int, config: SweepConfig, fused: int) -> list[range]:
    """Runs of the clip's own windows that hold the chosen frames and `fused` on either side of them.

    A run of windows cut out of a clip is cut into the same windows again.
    """
    needed = {i for frame in config.frames for i in widened(range(frame, frame + 1), fused, total)}
    spans: list[range] = []
    previous = None
    for index, window in enumerate(windows(total, config.window)):
        if needed.isdisjoint(window):
            continue
        if previous is not None and previous == index - 1:
            spans[-1] = range(spans[-1].start, window.stop)
        else:
            spans.append(window)
        previous = index
    return spans
