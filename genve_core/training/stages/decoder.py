"""Stage `decoder`: the detail decoder with everything it may see and the latents of the poor input, no diffusion.

This is the row *decoder alone* of the studies, and the start of stage `controller`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ...decoder.detail_decoder import FULL_NOISE, DecoderInputs, DetailDecoder
from ...decoder.inputs import decoder_inputs
from ...vae import MiniVAE
from ..clip_store import ClipStore
from ..discriminator import PatchDiscriminator, adversarial_losses
from ..losses import (
    Figures,
    contrast_loss,
    input_loss,
    psnr,
    restoration_loss,
    restraint_loss,
    structure_loss,
)
from ..pictures import grid_picture
from ..references import imperfect
from .latents import encode_frames

ROW = 8  # frames of a crop: enough for two frames with three neighbours on either side


@dataclass(frozen=True)
class DecoderConfig:
    """Size of the decoder and what references it meets."""

    channels: tuple[int, ...] = (32, 64, 128)
    depth: tuple[int, ...] = (1, 2, 4, 6, 6)
    crop: int = 192  # pixels
    frames: int = 2  # decoded in a row
    no_reference: float = 0.3  # shares; what is left is the true key frame
    imperfect_reference: float = 0.15
    own_reference: float = 0.0  # made by the decoder itself from the poor key frame, seen only where that is sharper
    taught: float = 0.0  # of crops without a reference: share of what `training.taught` made in what is asked for
    reach: int = 3  # neighbours seen on either side
    fine: bool = False  # seen at full size
    edge: float = 0.5
    steady: float = 0.5
    squared: float = 0.0
    # two places of the dial, which are trained together: n = 0 keeps to the input, `full_noise` has full contrast
    fidelity: float = 0.2  # weight of `input_loss` at n = 0
    structure: float = 0.5  # weight of `contrast_loss` at full_noise
    carried: float = 0.0  # weight of `structure_loss` at both ends where a reference of the truth shows what is there
    firm: float = 0.0  # weight of `structure_loss` at n = 0 as far as the input is poor, whatever the reference
    restraint: float = 0.0  # weight of `restraint_loss`: n adds little as far as the input is clean
    likely: bool = True  # False: a decoder is trained, or goes on, without layers for likely detail; then only n = 0 is trained
    adversarial: float = 0.0  # weight at full_noise of a discriminator trained alongside
    full_noise: int = FULL_NOISE  # also the highest n that the controller meets
    usual_noise: int = 250  # n at which references are made from the key frame


def draw_reference(crop: dict[str, Tensor], config: DecoderConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """Pick the kind of reference: `reference` (3, h, w), `use` 0 or 1, `own` 1 where it has to be made from the key."""
    kind = rng.random()
    none, changed = config.no_reference, config.no_reference + config.imperfect_reference
    own = changed + config.own_reference
    reference = imperfect(crop["hq"][0], rng) if none <= kind < changed else crop["hq"][0]
    return {"reference": reference, "use": torch.tensor(float(kind >= none)),
            "own": torch.tensor(float(changed <= kind < own))}


@dataclass(frozen=True)
class Restored:
    """What a decoder made of a batch, each (b, frames, 3, h, w)."""

    certain: Tensor  # at n = 0
    full: Tensor  # at full_noise
    truth: Tensor


class DecoderStage:
    name = "decoder"

    def __init__(self, store: ClipStore, config: DecoderConfig, vae: MiniVAE, decoder: DetailDecoder | None = None):
        self.store, self.config, self.vae = store, config, vae
        size = (vae.latent_channels, config.channels, config.depth, config.reach)
        dialled = (decoder or DetailDecoder(*size, fine=config.fine)).with_dial(config.full_noise)
        self.decoder = dialled if config.likely else dialled.without_likely()
        self.trained = nn.ModuleDict({"decoder": self.decoder})
        self.helpers = nn.ModuleDict({"discriminator": PatchDiscriminator()} if config.adversarial else {})

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        crop = self.store.crop(rng, self.config.crop, ROW, taught=self.config.taught > 0)
        start = int(rng.integers(ROW - self.config.frames + 1))
        drawn = {**crop, **draw_reference(crop, self.config, rng), "start": torch.tensor(start)}
        return self.taught(drawn, rng) if self.config.taught else drawn

    def taught(self, drawn: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """What was drawn, its truth as far as there is no reference that of a teacher, and a row that has some of it."""
        made, where = drawn.pop("taught"), drawn.pop("is_taught").nonzero().flatten()
        if drawn["use"] or not len(where):
            return drawn
        at = int(where[rng.integers(len(where))]) - int(rng.integers(self.config.frames))
        start = min(max(at, 0), ROW - self.config.frames)
        truth = torch.cat([drawn["hq"][:1], drawn["hq"][1:].lerp(made, self.config.taught)])
        return drawn | {"hq": truth, "start": torch.tensor(start)}

    def pixel_loss(self, restored: Restored, batch: dict[str, Tensor]) -> Tensor:
        """The mean of what is asked of both ends of the dial."""
        c = self.config
        certain, full, truth, up = (x.flatten(0, 1).float() for x in (
            restored.certain, restored.full, restored.truth, self.decoded(batch["up"][:, 1:], batch)))
        loss = sum(restoration_loss(end, restored.truth, edge=c.edge, steady=c.steady, squared=c.squared)
                   for end in (restored.certain, restored.full))
        poor = batch["poor"].repeat_interleave(c.frames)
        loss = loss + c.fidelity * input_loss(certain, up) + c.structure * contrast_loss(certain, full, truth, poor)
        if c.carried:  # what such a reference shows is no guess, so contrast is due at n = 0 too
            shown = (batch["use"] * (1 - batch["own"])).repeat_interleave(c.frames) * poor
            loss = loss + c.carried * sum(structure_loss(end, truth, shown) for end in (certain, full))
        if c.firm:
            loss = loss + c.firm * structure_loss(certain, truth, poor)
        if c.restraint:
            loss = loss + c.restraint * restraint_loss(certain, full, poor)
        if "discriminator" not in self.helpers:
            return loss / 2
        fooled, told_apart = adversarial_losses(self.helpers["discriminator"], full, truth, up)
        return (loss + c.adversarial * fooled.mean()) / 2 + told_apart

    @torch.no_grad()
    def own_reference(self, decoder: DetailDecoder, key: Tensor) -> Tensor:
        """What the decoder makes of poor key frames (b, 3, h, w) alone, as `enhance` does when none is given."""
        still = torch.zeros(len(key), 1, 2, 2, 2, device=key.device)
        inputs = decoder_inputs(key.unsqueeze(1), still, still, reach=decoder.reach, fine=decoder.fine)
        return decoder(encode_frames(self.vae, key), inputs, self.config.usual_noise).float().clamp(-1, 1)

    def references(self, decoder: DetailDecoder, batch: dict[str, Tensor]) -> Tensor:
        """References (b, 3, h, w) with the self-made ones put in."""
        reference, own = batch["reference"], batch["own"] > 0
        if self.config.own_reference and own.any():
            reference = reference.clone()
            reference[own] = self.own_reference(decoder, batch["up"][own, 0])
        return reference

    def decoded(self, rows: Tensor, batch: dict[str, Tensor], reach: int = 0) -> Tensor:
        """Of rows (b, ROW, ...) the frames that are decoded: (b, frames + 2 reach, ...).

        reach: so many more on either side; beyond the ends of its row the last frame repeats.
        """
        around = torch.arange(-reach, self.config.frames + reach, device=rows.device)
        wanted = (batch["start"].view(-1, 1) + around).clamp(0, rows.shape[1] - 1)
        return rows[torch.arange(len(rows), device=rows.device).view(-1, 1), wanted]

    def inputs(self, batch: dict[str, Tensor]) -> DecoderInputs:
        """What the decoder sees of the decoded frames of a batch, of all rows at once: a GPU must not wait for any."""
        reach = self.decoder.reach
        # flow is zero where a row ends, so frames repeated beyond its ends are what `aligned_neighbours` takes there by itself
        rows = {"up": batch["up"][:, 1:], **{name: batch[name] for name in ("forward", "backward", "to_key", "valid")}}
        return decoder_inputs(
            **{name: self.decoded(row, batch, reach) for name, row in rows.items()}, reference=batch["reference"],
            key=batch["up"][:, 0], strength=batch["use"], guess=batch["own"] if self.config.own_reference else False,
            reach=reach, fine=self.decoder.fine, frames=slice(reach, reach + self.config.frames))

    def restore(self, decoder: DetailDecoder, batch: dict[str, Tensor], latents: Tensor | None = None) -> Restored:
        """Decode `frames` frames of each row.

        latents: (b frames, c, h/8, w/8) of those frames; None takes the poor frames' own.
        """
        inputs = self.inputs(batch)
        latents = encode_frames(self.vae, inputs.up) if latents is None else latents
        certain, further = (x.unflatten(0, (-1, self.config.frames)) for x in decoder.ends(latents, inputs, 0.0))
        return Restored(certain, certain + further, self.decoded(batch["hq"][:, 1:], batch))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        batch = {**batch, "reference": self.references(self.decoder, batch)}
        restored = self.restore(self.decoder, batch)
        return self.pixel_loss(restored, batch), self.figures(restored, batch)

    @torch.no_grad()
    def figures(self, restored: Restored, batch: dict[str, Tensor]) -> Figures:
        """Gain in dB over the up-sampled input: of both ends, and of the first where there is a reference, else 0."""
        up, certain, full = (psnr(x, restored.truth) for x in (
            self.decoded(batch["up"][:, 1:], batch), restored.certain, restored.full))
        gain, used = certain - up, batch["use"] > 0
        return {"gain": gain.mean(), "gain_full": (full - up).mean(),
                "gain_reference": (gain * used).sum() / used.sum().clamp(min=1)}

    def finish(self) -> None:
        """Nothing to calibrate."""

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        drawn = [self.draw(rng) for _ in range(6)]
        device = next(self.decoder.parameters()).device
        batch = {name: torch.stack([d[name] for d in drawn]).to(device) for name in drawn[0]}
        batch["reference"] = self.references(self.decoder, batch)
        return self.compared(self.restore(self.decoder, batch), batch)

    def compared(self, restored: Restored, batch: dict[str, Tensor]) -> np.ndarray:
        """One frame of each row: the input, both ends of the dial, the truth."""
        up = self.decoded(batch["up"][:, 1:], batch)
        return grid_picture([x[:, 0] for x in (up, restored.certain, restored.full, restored.truth)])
