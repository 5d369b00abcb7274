"""Stage `decoder`: the detail decoder with everything it may see and the latents of the poor input, no diffusion.

This is the row *decoder alone* of the studies, and the start of stage `controller`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ...decoder.detail_decoder import DecoderInputs, DetailDecoder
from ...decoder.inputs import decoder_inputs
from ...vae import MiniVAE
from ..clip_store import ClipStore
from ..discriminator import PatchDiscriminator, adversarial_losses
from ..losses import dial_loss, psnr, restoration_loss
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
    own_reference: float = 0.2  # made by the decoder itself from the poor key frame
    reach: int = 3  # neighbours seen on either side
    edge: float = 0.5
    steady: float = 0.5
    # the dial: n is told to the decoder, and decides between two more terms of the loss (`dial_loss`)
    highest_noise: int = 400  # n is drawn from [0, this]
    usual_noise: int = 250  # and this is drawn half of the time: the n that users meet first
    structure: float = 0.25
    fidelity: float = 0.2
    adversarial: float = 0.0  # weight at the highest n, of a discriminator trained alongside


def draw_reference(crop: dict[str, Tensor], config: DecoderConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """Pick the kind of reference: `reference` (3, h, w), `use` 0 or 1, `own` 1 where it has to be made from the key."""
    kind = rng.random()
    none, changed = config.no_reference, config.no_reference + config.imperfect_reference
    own = changed + config.own_reference
    reference = imperfect(crop["hq"][0], rng) if none <= kind < changed else crop["hq"][0]
    return {"reference": reference, "use": torch.tensor(float(kind >= none)),
            "own": torch.tensor(float(changed <= kind < own))}


class DecoderStage:
    name = "decoder"

    def __init__(self, store: ClipStore, config: DecoderConfig, vae: MiniVAE, decoder: DetailDecoder | None = None):
        self.store, self.config, self.vae = store, config, vae
        size = (vae.latent_channels, config.channels, config.depth, config.reach)
        self.decoder = (decoder or DetailDecoder(*size)).with_noise_levels()
        self.trained = nn.ModuleDict({"decoder": self.decoder})
        self.helpers = nn.ModuleDict({"discriminator": PatchDiscriminator()} if config.adversarial else {})

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        crop = self.store.crop(rng, self.config.crop, ROW)
        start = int(rng.integers(ROW - self.config.frames + 1))
        n = self.config.usual_noise if rng.random() < 0.5 else int(rng.integers(self.config.highest_noise + 1))
        return {**crop, **draw_reference(crop, self.config, rng), "start": torch.tensor(start), "n": torch.tensor(n)}

    def inputs(self, *args: Tensor, **kwargs: Any) -> DecoderInputs:
        """`decoder_inputs` for this decoder."""
        return decoder_inputs(*args, reach=self.decoder.reach, **kwargs)

    def pixel_loss(self, result: Tensor, truth: Tensor, batch: dict[str, Tensor]) -> Tensor:
        c = self.config
        loss = restoration_loss(result, truth, edge=c.edge, steady=c.steady)
        up, amount = self.decoded(batch["up"][:, 1:], batch), (batch["n"] / c.highest_noise).clamp(max=1)
        loss = loss + dial_loss(result, truth, up, amount, structure=c.structure, fidelity=c.fidelity)
        if "discriminator" not in self.helpers:
            return loss
        frames = (x.flatten(0, 1).float() for x in (result, truth, up))
        fooled, told_apart = adversarial_losses(self.helpers["discriminator"], *frames)
        return loss + c.adversarial * (amount.repeat_interleave(c.frames) * fooled).mean() + told_apart

    @torch.no_grad()
    def own_reference(self, decoder: nn.Module, key: Tensor) -> Tensor:
        """What the decoder makes of poor key frames (b, 3, h, w) alone, as `enhance` does when none is given."""
        still = torch.zeros(len(key), 1, 2, 2, 2, device=key.device)
        inputs = self.inputs(key.unsqueeze(1), still, still)
        return decoder(encode_frames(self.vae, key), inputs, self.config.usual_noise).float().clamp(-1, 1)

    def references(self, decoder: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """References (b, 3, h, w) with the self-made ones put in."""
        reference, own = batch["reference"], batch["own"] > 0
        if own.any():
            reference = reference.clone()
            reference[own] = self.own_reference(decoder, batch["up"][own, 0])
        return reference

    def decoded(self, rows: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Of rows (b, ROW, ...) the frames that are decoded: (b, frames, ...)."""
        starts = batch["start"].tolist()
        return torch.stack([row[s : s + self.config.frames] for row, s in zip(rows, starts, strict=True)])

    def restore(self, decoder: nn.Module, batch: dict[str, Tensor], latents: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decode `frames` frames of each row; returns result and truth, both (b, frames, 3, h, w).

        latents: (b frames, c, h/8, w/8) of those frames; None takes the poor frames' own.
        """
        reference = batch["reference"]
        parts = []
        for i in range(len(reference)):  # rows start at different frames
            start = int(batch["start"][i])
            use = float(batch["use"][i])
            parts.append(self.inputs(
                batch["up"][i : i + 1, 1:], batch["forward"][i : i + 1], batch["backward"][i : i + 1],
                reference=reference[i : i + 1], key=batch["up"][i : i + 1, 0], to_key=batch["to_key"][i : i + 1],
                valid=batch["valid"][i : i + 1], strength=use, frames=slice(start, start + self.config.frames),
            ))
        inputs = type(parts[0])(*[torch.cat([getattr(p, name) for p in parts])
                                  for name in ("up", "detail", "valid", "key", "near")])
        n = batch["n"].repeat_interleave(self.config.frames)
        result = decoder(encode_frames(self.vae, inputs.up) if latents is None else latents, inputs, n)
        return result.unflatten(0, (-1, self.config.frames)), self.decoded(batch["hq"][:, 1:], batch)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        batch = {**batch, "reference": self.references(self.decoder, batch)}
        result, truth = self.restore(self.decoder, batch)
        loss = self.pixel_loss(result, truth, batch)
        return loss, self.figures(result, truth, batch)

    @torch.no_grad()
    def figures(self, result: Tensor, truth: Tensor, batch: dict[str, Tensor]) -> dict[str, float]:
        """Gain in dB over the up-sampled input, without and with a reference; 0 where a batch has no such sample."""
        up = self.decoded(batch["up"][:, 1:], batch)
        gain = torch.tensor([psnr(r, t) - psnr(u, t) for r, t, u in zip(result, truth, up, strict=True)])
        used = (batch["use"] > 0).cpu()
        return {"gain": float(gain.mean()), "gain_reference": float((gain * used).sum() / used.sum().clamp(min=1))}

    def finish(self) -> None:
        """Nothing to calibrate."""

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        drawn = [self.draw(rng) for _ in range(6)]
        device = next(self.decoder.parameters()).device
        batch = {name: torch.stack([d[name] for d in drawn]).to(device) for name in drawn[0]}
        batch["reference"] = self.references(self.decoder, batch)
        result, truth = self.restore(self.decoder, batch)
        return grid_picture([self.decoded(batch["up"][:, 1:], batch)[:, 0], result[:, 0], truth[:, 0]])
