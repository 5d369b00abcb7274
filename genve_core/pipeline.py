"""The whole method (paper, Fig. 2) in one screen: `enhance` for Python users, `Enhancer` for long clips.

    up-sample, encode ........... Z            flow key <-> frame, frame <-> neighbour
    reference ................... y            (image diffuser with Eq. 3, or the user's image)
    augment, carry .............. Z_n, Y_n
    LCA ......................... e            (once: it does not depend on t)
    Z_T1, then for each t: controller -> guidance -> video diffuser -> Z_0
    decode, colour .............. frames
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from .clip import Clip, ClipFlow, Reference
from .conditioning.calm import context
from .conditioning.temporal import carry
from .decode import decode_clip
from .dehalo import Dehaloed
from .errors import InputError
from .media.colour import ColourConfig
from .models import Models
from .preclean import Precleaned
from .pyramid import Shown, as_picture, joined, worked
from .reference.key_frame import check_key_frame, choose_key_frame
from .segments import Frames, InMemory, Segment, segments, widened
from .settings import EnhanceConfig, at_once
from .steps import (
    OnProgress,
    augment,
    between_flow,
    calm_frame,
    diffuse,
    encode_clip,
    given_reference,
    key_flow,
    match,
    own_reference,
    silent,
)

Picture = Tensor | str | Path  # (3 or 4, h, w) in [-1, 1], or a file
References = Picture | Mapping[int, Picture]  # of the key frame, or of the frames named


class Enhancer:
    """A bundle on a device, ready to enhance clips.

    After a run, `seconds` holds the time each stage took, `keys` the key frames used, `notes` what the user
    should know about the references.
    """

    def __init__(self, bundle: Bundle | Models, config: EnhanceConfig = EnhanceConfig(), device: str = "auto"):
        self.config = config
        models = bundle if isinstance(bundle, Models) else Models(bundle, device, config.precision)
        self.models = models.for_preclean(config.preclean) if config.preclean else models
        self.device = self.models.device
        defaults = self.models.defaults
        self.n = defaults.noise_level if config.noise_level is None else config.noise_level
        self.times = defaults.video_times(config.steps)
        self.steps = len(self.times)
        self.seconds: dict[str, float] = {}
        self.keys: tuple[int, ...] = ()
        self.notes: tuple[str, ...] = ()

    def run(self, frames: Tensor, reference: References | None = None,
            on_progress: OnProgress | None = None) -> Iterator[Tensor]:
        """Enhance one shot. frames: (f, 3, h, w) in [-1, 1], f >= 1, any size.

        reference: a picture of the key frame, or {frame: its picture} for one or more frames (then
        `EnhanceConfig.key_frame` is left out); each governs the frames nearest to its own. None = made here.
        Yields finished frames one by one, (1, 3, H, W) in [-1, 1] on the CPU. Raises InputError for unusable input.
        """
        self.seconds, self.notes = {}, ()
        with self._timed("look"):
            Clip(frames, self.config.output_size(frames.shape[-2], frames.shape[-1]))  # refuse unusable frames now
            pictures = self._pictures(frames, reference)
        shot = self.prepared(InMemory(frames), on_progress or silent)
        references = self.references(shot, pictures)
        for segment in self.segments(len(shot)):
            yield from self.run_segment(shot, segment, references, on_progress)

    def prepared(self, shot: Frames, report: OnProgress = silent) -> Frames:
        """The shot as the rest is to see it: after a first pass at its own size, and without rims, as the config asks."""
        if self.config.preclean:
            shot = Precleaned(shot, self._first_pass, self.config.preclean, report)
        # not before that pass, which would sharpen what is left of them
        return Dehaloed(shot, self.config.dehalo, report) if self.config.dehalo else shot

    def _first_pass(self) -> Enhancer:
        return Enhancer(self.models, replace(self.config, preclean=0.0, dehalo=0.0, scale=1.0, size=None, key_frame=None,
                                             supersample=False, noise_level=0, reference_strength=0.0, colour=ColourConfig()))

    def segments(self, frames: int, own: range | None = None) -> list[Segment]:
        """The pieces in which a shot of `frames` frames, or its frames `own`, is worked on."""
        # the colour statistics of "adain" are those of the whole shot
        length = frames if self.config.colour.method == "adain" else self.config.segment
        return segments(frames, self.config.window, length=length, steps=self.steps, reach=self.models.reach,
                        context=context(self.config.flow), own=own)

    def references(self, shot: Frames, pictures: Mapping[int, Picture | None]) -> list[Reference]:
        """Section 3.2 for each key frame, or the user's image in its place; `notes` tells about those."""
        config = self.config
        self.keys = tuple(sorted(pictures))
        if config.reference_strength == 0:
            return []
        made = []
        with self._timed("reference"):
            for key in self.keys:
                frames, first = shot.read_near(key, context(config.flow)), max(0, key - context(config.flow))
                near, picture = self._clip(frames, first), pictures[key]
                below = worked(near, picture is not None, config.supersample)
                if picture is None:
                    made.append(self._reference(below, key, None))
                    continue
                reference = self._reference(near, key, picture)
                if below is not near:  # what was fitted and moved into place, once
                    seen = as_picture(reference, near.size)
                    reference = replace(reference, lower=self._reference(below, key, seen, fitted=True))
                made.append(reference)
        self.notes = tuple(dict.fromkeys([*self.notes, *(note for one in made for note in one.notes)]))
        return made

    def _reference(self, near: Clip, key: int, picture: Picture | None, *, fitted: bool = False) -> Reference:
        """Of key frame `key`, which the clip holds with the frames around it. fitted: the picture lies as it is to lie."""
        config, at = self.config, key - near.first
        clip = near.part(slice(at, at + 1))
        if picture is None:
            Z = encode_clip(self.models, clip, tiling=config.tiling)
            reference = own_reference(self.models, clip, Z, key, seed=config.seed, tiling=config.tiling)
        else:
            reference = given_reference(self.models, clip, picture, key, fit="stretch" if fitted else config.fit,
                                        match_colour=config.match_colour and not fitted, align=config.align and not fitted,
                                        tiling=config.tiling)
        return replace(reference, calm=calm_frame(self.models, near, key, config.flow, chunk=self._at_once(near.size)))

    def run_segment(self, shot: Frames, segment: Segment, references: Sequence[Reference],
                    on_progress: OnProgress | None = None) -> Iterator[Tensor]:
        """Enhance one segment of a shot; yields its own frames as `run` does. references: of the whole shot."""
        report = on_progress or silent
        with self._timed("read"):
            frames = shot.read(segment.read)
        around = self._clip(frames, segment.read.start, {one.key: shot.read_one(one.key) for one in references})
        given, shown = [one for one in references if not one.own], Shown(report)
        below, work = worked(around, bool(given), self.config.supersample), partial(self._enhanced, segment, len(shot))
        if below is around:
            yield from work(around, references, report)
            return
        above = work(around, given, shown) if given else None
        coarse = work(below, [one.lower or one for one in references], shown.again if given else report)
        yield from joined(coarse, above, around.size)

    def _clip(self, frames: Tensor, first: int, elsewhere: Mapping[int, Tensor] | None = None) -> Clip:
        return Clip(frames, self.config.output_size(frames.shape[-2], frames.shape[-1]), first, elsewhere or {})

    def _enhanced(self, segment: Segment, total: int, around: Clip, references: Sequence[Reference],
                  report: OnProgress) -> Iterator[Tensor]:
        """A segment's own frames at the size of the clip, which holds what it reads. total: frames of the whole shot."""
        config, seen, keys = self.config, segment.seen, [reference.key for reference in references]
        clip, chunk = around.part(_rows(seen, around)), self._at_once(around.size)
        with self._timed("encode"):
            Z = encode_clip(self.models, clip, tiling=config.tiling, chunk=chunk, report=report)
        with self._timed("flow"):
            flow = key_flow(self.models, around, keys, config.flow, calm={one.key: one.calm for one in references},
                            rows=_rows(seen, around), chunk=chunk, report=report)
        with self._timed("diffuse"):
            Z_0 = self._diffuse(Z, references, flow, report)
        # the rest was needed for the latents only; dropped, it makes room
        needed = widened(segment.own, self.models.reach, total)
        around = around.part(_rows(widened(needed, context(config.flow), total), around))
        flow, Z_0, Z, clip = flow.part(_rows(needed, clip)), Z_0[:, _rows(needed, clip)].clone(), None, around.part(
            _rows(needed, around))
        with self._timed("flow"):
            flow = between_flow(self.models, around, flow, config.flow, chunk=chunk)
        own = range(segment.own.start - clip.first, segment.own.stop - clip.first)
        finished = decode_clip(self.models, clip, Z_0, flow, references, n=self.n, strength=config.reference_strength,
                               colour=config.colour, steadiness=config.steadiness, flow_config=config.flow,
                               frames=own, chunk=chunk, tiling=config.tiling, report=report)
        for _ in own:
            with self._timed("decode"):
                frame = next(finished)
            yield frame.unsqueeze(0)

    def _at_once(self, size: tuple[int, int]) -> int:
        return at_once(size, self.config.chunk, self.device.type == "cuda")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    def _pictures(self, frames: Tensor, reference: References | None) -> dict[int, Picture | None]:
        """{key frame: the picture given of it, None where one is to be made}."""
        if isinstance(reference, Mapping):
            return {key: reference[key] for key in self._named(reference, len(frames))}
        if self.config.key_frame is not None:
            return {check_key_frame(self.config.key_frame, len(frames)): reference}
        return {choose_key_frame(frames): reference}

    def _named(self, references: Mapping[int, Picture], frames: int) -> tuple[int, ...]:
        """The frames that the user's references name, in order."""
        if not references:
            raise InputError("references were given as an empty mapping; give at least one, or None")
        for key in references:
            if not isinstance(key, int):
                raise InputError(f"references must be given as {{frame number: picture}}, got the frame {key!r}")
        if self.config.key_frame is not None:
            raise InputError(f"key frame {self.config.key_frame} was given beside references that name their frames "
                             f"({', '.join(map(str, sorted(references)))}); leave the key frame out")
        return tuple(check_key_frame(key, frames) for key in sorted(references))

    def _diffuse(self, Z: Tensor, references: Sequence[Reference], flow: ClipFlow, report: OnProgress) -> Tensor:
        """Sections 3.3 and 3.4."""
        config = self.config
        Z_n, noised = augment(self.models, Z, references, self.n, seed=config.seed, first_frame=flow.first)
        Y_n = carry(noised, flow)[0] if noised else None
        guidance = match(self.models, Z_n, Y_n, self.n, strength=config.reference_strength)
        del Z_n, Y_n, noised
        return diffuse(self.models, Z, guidance, self.times, seed=config.seed, window=config.window, tiling=config.tiling,
                       first_frame=flow.first, report=report)


def _rows(span: range, clip: Clip) -> slice:
    """Where frames `span` of the shot lie in a part of it, as far as they do."""
    return slice(max(0, span.start - clip.first), max(0, min(len(clip), span.stop - clip.first)))


def enhance(video: Tensor, *, reference: References | None = None, bundle: str | Path | Bundle = DEFAULT_BUNDLE,
            device: str = "auto", on_progress: OnProgress | None = None, **config: object) -> Tensor:
    """Enhance a clip in memory.

    video: (f, 3, h, w) or (1, f, 3, h, w) in [-1, 1].   reference: picture(s), see `Enhancer.run`.
    bundle: a name, a folder, or a loaded `Bundle`.   config: fields of `EnhanceConfig`.
    Returns the video, shaped like the input with its new height and width, on the CPU.
    """
    frames = video[0] if video.ndim == 5 and len(video) == 1 else video
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    enhancer = Enhancer(loaded, EnhanceConfig(**config), device)  # type: ignore[arg-type]
    result = torch.cat(list(enhancer.run(frames, reference, on_progress)))
    return result.unsqueeze(0) if video.ndim == 5 else result
