"""The last step of the method: latents to finished frames, with the references' detail and the input's colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, cast

import torch
from torch import Tensor

from .activations import decoder_bytes
from .clip import MULTIPLE, Clip, ClipFlow, Reference
from .conditioning.flow import FlowConfig
from .conditioning.temporal import shares
from .decoder.detail_decoder import DecoderInputs, DetailDecoder, Seen
from .decoder.inputs import decoder_inputs
from .decoder.memory import DecoderMemory
from .decoder.steady import steadied
from .decoder.tiles import decode_in_tiles, tiles
from .decoder.views import Batch
from .dial import detail_level
from .media.colour import ColourConfig, ColourMatch
from .models import Models
from .segments import widened
from .settings import CHUNK
from .steps import OnProgress, chunks, silent
from .video_codec import TilingConfig, crop, padded_size


def decode_clip(models: Models, clip: Clip, Z_0: Tensor, flow: ClipFlow, references: Sequence[Reference] = (), *,
                n: int, strength: float = 1.0, colour: ColourConfig = ColourConfig(), steadiness: float = 1.0,
                flow_config: FlowConfig = FlowConfig(), frames: range | None = None, chunk: int = CHUNK,
                tiling: TilingConfig = TilingConfig(), memory: DecoderMemory | None = None,
                report: OnProgress = silent) -> Iterator[Tensor]:
    """Finished frames, one by one: (3, h, w) in [-1, 1] at the clip's size, on the CPU, with the input's colours.

    n: noise level of the conditions: how much detail is wanted.
    strength: how much of the references' detail is let in; 0 is exactly as without any.
    steadiness: weight of each neighbour in the final fusion along the motion. Below 1 every frame is decoded as it lies:
    only a whole fusion makes views (`decoder.views`) one.
    frames: only these of the clip, in a row, counted from 0; None = all. Of Z_0 these and the `DetailDecoder.fused` frames
    before and after them must be finished.
    memory: of this clip and flow; another n on the CPU then takes about two thirds of the time, with the same result.
    """
    wanted, models = range(len(clip)) if frames is None else frames, models.for_enlargement(clip.enlargement)
    decoder = cast(DetailDecoder, models.build(models.decoder))
    span = widened(wanted, decoder.fused, len(clip))
    views = decoder.views if steadiness == 1 else 1
    # beside a picture that was given, one that was made from a poor frame has nothing to show
    used = ([one for one in references if not one.own] or references) if strength > 0 else ()
    # an accelerator looks again in less time than its memory is worth
    memory = memory if memory is not None and models.device.type == "cpu" else DecoderMemory(0)
    memory.begin([decoder.head.weight, flow.forward, *(x for reference in used for x in (reference.image, reference.valid))],
                 [strength, chunk, views])
    up = _UpSampled(clip, models.device)
    level, usual = (detail_level(one, models.defaults, clip.enlargement) for one in (n, models.defaults.noise_level))
    dial = level, usual if level > usual else None

    def decode(part: slice) -> tuple[Tensor, Tensor]:
        return _decode_part(models, up, Z_0, flow, used, dial, strength, part, views, tiling, memory)

    decoded = _coloured(decode, ColourMatch(colour), span, chunk, report)
    rows = slice(span.start, span.stop)
    finished = steadied(decoded, flow.forward[rows], flow.backward[rows], steadiness, flow_config, decoder.fused, chunk)
    for i in span:
        with models.computing():
            frame = crop(next(finished), clip.size).clamp(-1, 1).cpu()
        if i in wanted:
            yield frame


def _coloured(decode: Callable[[slice], tuple[Tensor, Tensor]], match: ColourMatch, span: range, chunk: int,
              report: OnProgress) -> Iterator[Tensor]:
    """Decoded frames (3, H, W) of `span` with the input's colours, one by one. decode: (decoded, up-sampled) of a part."""
    parts = [slice(span.start + part.start, span.start + part.stop) for part in chunks(len(span), chunk)]
    if match.needs_first_pass:
        for part in parts:
            match.observe(*decode(part))
    for part in parts:
        frames = match.apply(*decode(part))
        report("decode", part.stop - span.start, len(span))
        yield from frames


class _UpSampled:
    """A clip's up-sampled frames. Parts that are asked for in order overlap: no frame of them is enlarged twice."""

    def __init__(self, clip: Clip, device: torch.device):
        self.clip, self._device = clip, device
        self._frames: dict[int, Tensor] = {}
        self._keys: dict[int, Tensor] = {}

    def part(self, part: slice) -> Tensor:
        """(k, 3, H, W), as of `Clip.up`."""
        span = range(part.start, part.stop)
        self._frames = {i: frame for i, frame in self._frames.items() if i in span}
        if missing := [i for i in span if i not in self._frames]:
            new = slice(missing[0], missing[-1] + 1)
            self._frames |= zip(span[new.start - span.start :], self.clip.up(new, self._device).split(1))
        return torch.cat([self._frames[i] for i in span])

    def key(self, number: int) -> Tensor:
        """(1, 3, H, W), as of `Clip.up_at`."""
        if number not in self._keys:
            self._keys[number] = self.clip.up_at(number, self._device)
        return self._keys[number]


def _decode_part(models: Models, up: _UpSampled, Z_0: Tensor, flow: ClipFlow, references: Sequence[Reference],
                 dial: tuple[float, float | None], strength: float, part: slice, views: int, tiling: TilingConfig,
                 memory: DecoderMemory) -> tuple[Tensor, Tensor]:
    size, most, (n, plain) = padded_size(up.clip.size, MULTIPLE), tiling.decode**2, dial
    work = decoder_bytes(models, part.stop - part.start, size, tiling.decode)
    decoder = cast(DetailDecoder, models.ready(models.decoder, work=work)[0])
    # by its number in the shot, so that a frame is seen the same way whatever it is decoded with
    batch = Batch([(up.clip.first + i) % views for i in range(part.start, part.stop)], size)
    latents = batch.split_latents(Z_0[0, part].to(models.device), decoder.turn)

    def inputs() -> list[DecoderInputs]:
        reach = decoder.reach
        around = slice(max(0, part.start - reach), min(len(up.clip), part.stop + reach))
        mine = slice(part.start - around.start, part.stop - around.start)
        given = _inputs(up, flow, references, strength, around, mine, decoder)
        return [DecoderInputs(*x) for x in zip(*(batch.split(getattr(given, one.name)) for one in fields(given)), strict=True)]

    if len(tiles(size, most)) > 1:  # frames of this size would soon fill the decoder's memory
        parts: Sequence[DecoderInputs | Seen] = inputs()
        decoded = [decode_in_tiles(decoder, z, given, n, most, plain) for z, given in zip(latents, parts, strict=True)]
    else:
        parts = memory.recall(part, lambda: [decoder.look(given) for given in inputs()])
        decoded = [decoder(z, seen, n, plain).float() for z, seen in zip(latents, parts, strict=True)]
    return batch.join(decoded), batch.join([one.up for one in parts])


def _inputs(up: _UpSampled, flow: ClipFlow, references: Sequence[Reference], strength: float, around: slice, mine: slice,
            decoder: DetailDecoder) -> DecoderInputs:
    """What the detail decoder sees; of several references the sum, each with its share."""
    video = up.part(around).unsqueeze(0)
    rows: dict[str, Any] = {"forward": flow.forward[around].unsqueeze(0), "backward": flow.backward[around].unsqueeze(0),
                            "frames": mine, "reach": decoder.reach, "fine": decoder.fine}
    if not references:
        return decoder_inputs(video, **rows)
    parts = [
        decoder_inputs(video, strength=strength,
                       reference=reference.image.unsqueeze(0).to(video), key=up.key(reference.key),
                       guess=reference.own, valid=share.unsqueeze(0),
                       to_key=flow.to_key[reference.key][around].unsqueeze(0), **rows)
        for reference, share in zip(references, shares(references, flow, around), strict=True)
    ]
    first = parts[0]
    for other in parts[1:]:
        first = replace(first, detail=first.detail + other.detail, valid=first.valid + other.valid, key=first.key + other.key)
    return first
