"""Auto-fit: sizes that the free memory allows, from a model of what a segment takes.

The usual sizes are kept wherever they fit, so that they, and with them the result to the last bit, do not depend on what
else the machine does. Otherwise the stage that takes most is made smaller, in the order of what that costs: frames at
once, tiles, segments, and only then the windows, which change the picture.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from .clip import MULTIPLE
from .conditioning.calm import context
from .film import Film
from .pipeline import Enhancer
from .pyramid import worked_size
from .segments import Segment, segments
from .settings import at_once
from .sizes import Part, Sizes
from .steps import matched_at_once
from .video_codec import padded_size

SHARE = 0.85  # of the free memory that is used: other programs want some, and the model errs
FIXED = 2**28  # bytes: libraries' buffers, the writer, freed memory that the system does not get back

# Bytes per pixel of output and frame, for genve-mini. The networks' activations are in float32; bf16 takes about `BF16` of
# them: a window of 16 frames of 1408x896 took 48 bytes (benchmarks/memory.py). The rest is counted from the tensors held.
UP = 36  # of frames being up-sampled, copies included
FLOW = 60  # of frames being matched
CALM = 7  # of frames on the flow's grid and the steps between them, held for averages
KEY = 3  # of the flow to one key frame with its validity, held
BETWEEN = 4  # of the flow between neighbours, held
LATENTS = 9  # of all that lies on the latents' grid while windows are denoised
VAE, DECODER, DIFFUSER = 165, 250, 80
INPUTS = 150  # of the decoder's inputs, and of what else decoding holds; for 4K the sum is about an eighth too low
BF16 = 0.65
SOURCE = 24  # bytes per pixel of input and frame: read, and once more while it is stacked


@dataclass(frozen=True)
class Task:
    """What is to be enhanced, as far as memory depends on it."""

    source: tuple[int, int]  # (h, w) of the input in pixels
    size: tuple[int, int]  # of the output
    frames: int  # of the longest shot
    keys: int  # most references of a shot
    steps: int
    reach: int  # frames that decoding looks to either side
    bf16: bool
    context: int = 0  # frames that flow looks to either side
    whole_shots: bool = False  # segments cannot be used
    apart: bool = False  # the networks' memory is an accelerator's own; the frames that were read lie in RAM
    lower: tuple[int, int] | None = None  # size of a lower level that is worked on beside, see `pyramid`


Need = dict[str, float]  # stage -> bytes


def needed(sizes: Sizes, task: Task) -> Need:
    """The most memory that each stage of the largest segment holds, beyond what the process held before."""
    poor = len(_largest(sizes, task).read) * SOURCE * task.source[0] * task.source[1]
    # the lower level is at work in any of its stages while the upper one waits
    beside = 0.0 if task.lower is None else max(_stages(sizes, replace(task, size=task.lower)).values())
    together = {name: FIXED + stage + beside + (0 if task.apart else poor) for name, stage in _stages(sizes, task).items()}
    return {"read": poor + FIXED, **together} if task.apart else together


def _stages(sizes: Sizes, task: Task) -> Need:
    """The same of one level alone, without the frames that were read."""
    h, w = padded_size(task.size, MULTIPLE)
    pixels, share = h * w, BF16 if task.bf16 else 1.0
    largest = _largest(sizes, task)
    seen = len(largest.seen)
    decoded = min(seen, len(largest.own) + 2 * task.reach)
    chunk, tiling = min(at_once(task.size, sizes.chunk, task.apart), seen), sizes.tiling
    motion = seen * KEY * task.keys * pixels
    in_vae = min(tiling.frames, chunk) * min(pixels, tiling.tile**2) * VAE * share
    window = min(sizes.window.length, seen) * min(pixels, tiling.diffuse**2) * DIFFUSER * share
    in_decoder = (chunk * pixels if pixels <= tiling.decode**2 else tiling.decode**2) * DECODER * share
    # of the frames that decoding looks at, those up-sampled at once; what the last fusion holds of the rest is smaller
    around, matched = min(seen, chunk + 2 * (task.reach - 1)), min(seen, matched_at_once(task.size, chunk))
    return {
        "encode": (seen + chunk * UP) * pixels + in_vae,
        "flow": motion + (seen + (matched + 1) * FLOW + 2 * (matched + task.context) * CALM) * pixels,
        "diffuse": motion + seen * LATENTS * pixels + window,
        "decode": (decoded * (1 + BETWEEN + KEY * task.keys) + around * UP + chunk * INPUTS * max(1, task.keys)) * pixels
                  + in_decoder,
    }  # fmt: skip


def _largest(sizes: Sizes, task: Task) -> Segment:
    return max(cut(sizes, task), key=lambda segment: len(segment.seen))


def cut(sizes: Sizes, task: Task) -> list[Segment]:
    """The longest shot's segments."""
    length = task.frames if task.whole_shots else sizes.segment
    return segments(task.frames, sizes.window, length=length, steps=task.steps, reach=task.reach,
                    context=task.context)


@dataclass(frozen=True)
class Free:
    """Free memory in bytes."""

    ram: int
    vram: int | None = None  # of an accelerator that has its own

    def of(self, stage: str) -> int:
        """Where a stage computes; frames are read into RAM."""
        return self.ram if self.vram is None or stage == "read" else self.vram


def film_task(enhancer: Enhancer, film: Film, pictures: Sequence[Mapping[int, object]], source: tuple[int, int],
              free: Free) -> Task:
    """The task of a film whose frames are of size `source` = (h, w). pictures: of each shot, from `assign`."""
    config = enhancer.config
    keys = max(map(len, pictures)) if config.reference_strength > 0 else 0
    wanted, lower, worked = config.output_size(*source), None, []
    given = {picture is not None for own in pictures for picture in own.values()} if keys else {False}
    if False in given:
        worked.append(worked_size(source, wanted, given=False, supersample=config.supersample))
    if True in given:
        worked.append(wanted)
        below = worked_size(source, wanted, given=True)
        lower = below if below != wanted else None
    size = max(worked, key=math.prod)
    if config.preclean:  # it is enhanced at its own size too
        size = max(size, source, key=math.prod)
    return Task(source, size, max(map(len, film.shots)), keys, enhancer.steps, enhancer.models.reach,
                enhancer.models.bf16, context(config.flow), whole_shots=config.colour.method == "adain",
                apart=free.vram is not None, lower=lower)


HELPS: dict[str, tuple[Part, ...]] = {
    "read": ("segment", "window"),
    "encode": ("chunk", "tile", "segment", "window"),
    "flow": ("chunk", "segment", "window"),
    "diffuse": ("segment", "window"),
    "decode": ("chunk", "tile", "segment", "window"),
}


def fitted(sizes: Sizes, task: Task, free: Free, given: Collection[Part] = ()) -> Sizes:
    """`sizes`, or as little smaller as fits; the smallest there are if nothing does.

    given: parts that stay as they are.
    """
    while True:
        stage, need = _tightest(sizes, task, free)
        if need <= SHARE * free.of(stage):
            return sizes
        smaller = [one for part in HELPS[stage] if part not in given and (one := _lower(sizes, task, part, stage)) is not None]
        if not smaller:
            return sizes
        sizes = smaller[0]


def _tightest(sizes: Sizes, task: Task, free: Free) -> tuple[str, float]:
    """The stage that takes the largest share of what is free for it, and what it needs."""
    need = needed(sizes, task)
    stage = max(need, key=lambda name: need[name] / max(free.of(name), 1))
    return stage, need[stage]


def _lower(sizes: Sizes, task: Task, part: Part, stage: str) -> Sizes | None:
    """Sizes with a part halved as often as it takes to lower the stage's need; None if nothing does."""
    before = needed(sizes, task)[stage]
    smaller = sizes.halved(part)
    while smaller is not None and needed(smaller, task)[stage] >= before:
        smaller = smaller.halved(part)
    return smaller


def described(sizes: Sizes, task: Task, free: Free) -> str:
    """Like `segment 48, window 16, decode 2 frames at once, tiles 768 px: 6.0 GB of RAM free, needs about 4.1`."""
    stage, most = _tightest(sizes, task, free)
    together = at_once(task.size, sizes.chunk, task.apart)
    parts = [f"segment {min(sizes.segment, task.frames)}", f"window {min(sizes.window.length, task.frames)}",
             f"decode {together} frame{'s' if together > 1 else ''} at once"]
    if max(task.size) > sizes.tiling.tile:
        parts.append(f"tiles {sizes.tiling.tile} px")
    where = "GPU memory" if task.apart and stage != "read" else "RAM"
    told = f"{free.of(stage) / 1e9:.1f} GB of {where} free, needs about {most / 1e9:.1f}"
    return f"sizes: {', '.join(parts)}: {told}" + ("" if most <= free.of(stage) else ", which may not be enough")
