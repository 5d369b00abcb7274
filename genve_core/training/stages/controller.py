"""Stage `controller`: LCA and the video controller, with the diffuser frozen (Fig. 2), and the detail decoder on
what the diffuser makes. One pass serves both losses: the clean latent that the guided diffuser predicts is compared
with the truth, and decoded and compared again in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ...bundle import Bundle
from ...conditioning.masking import apply_mask, block_mask
from ...conditioning.noise import augment
from ...conditioning.warp import warp_latent
from ...controller import LCAConfig, VideoController
from ...diffuser.backbone import MotionDiffuser
from ...noise_schedule import NoiseSchedule
from ..clip_store import ClipStore
from ..losses import Figures
from .decoder import ROW, DecoderConfig, DecoderStage
from .latents import TimeConfig, draw_times, encode_frames, latent_gain, latent_loss, noisy_state


@dataclass(frozen=True)
class ControllerConfig:
    """LCA, the conditioning augmentation of section 3.3, and the loss."""

    lca: LCAConfig = field(default_factory=lambda: LCAConfig(dim=96, d=3))
    mask_share: float = 0.7  # share of clips whose reference is masked
    mask_block: int = 3  # latent positions
    latent_weight: float = 0.1
    train_decoder: bool = True  # False: the controller learns to serve the decoder as it is
    times: TimeConfig = field(default_factory=lambda: TimeConfig(at_start=0.6, below=0.4, prior=0.0))
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


class ControllerStage(DecoderStage):
    name = "controller"

    def __init__(self, store: ClipStore, config: ControllerConfig, bundle: Bundle):
        super().__init__(store, config.decoder, bundle["vae"], bundle["decoder"])  # type: ignore[arg-type]
        self.decoder.requires_grad_(config.train_decoder).train()
        self.whole, self.schedule = config, NoiseSchedule(bundle.schedule)
        self.diffuser = MotionDiffuser(bundle.video_unet())
        if "controller" in bundle.components:
            self.controller: VideoController = bundle["controller"].requires_grad_(True).train()  # type: ignore[assignment]
        else:
            self.controller = VideoController.from_unet(self.diffuser.unet, config.lca).requires_grad_(True).train()
        self.trained = nn.ModuleDict({"controller": self.controller})
        if config.train_decoder:
            self.trained["decoder"] = self.decoder

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        sample = super().draw(rng)
        side = self.config.crop // 8
        shape = (ROW, self.vae.latent_channels, side, side)
        ratio = rng.uniform(0.2, 0.8) if rng.random() < self.whole.mask_share else 0.0
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        keep = block_mask((1, ROW, 1, side, side), ratio, self.whole.mask_block, generator)[0]
        noise = rng.standard_normal((ROW + 1, *shape[1:]), dtype=np.float32)
        n = int(rng.integers(self.config.full_noise + 1))
        return {**sample, **draw_times(self.whole.times, shape, rng), "keep": keep,
                "noise_n": torch.from_numpy(noise), "n": torch.tensor(n)}

    def conditions(self, Z: Tensor, y: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Section 3.3 in training: Z_n and the warped, masked Y_n, both (b, f, c, h, w). y: (b, c, h, w)."""
        noise, n = batch["noise_n"], batch["n"]
        Z_n = augment(Z, n, noise[:, 1:], self.schedule)
        y_n = augment(y, n, noise[:, 0], self.schedule)
        Y_n = torch.stack([warp_latent(*args) for args in zip(y_n, batch["to_key"], batch["valid"], strict=True)])
        keep = batch["keep"] * batch["use"].view(-1, 1, 1, 1, 1)
        return Z_n, apply_mask(Y_n, keep)[0]

    def latents(self, batch: dict[str, Tensor], reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The clean latents and Z, both (b, f, c, h, w), and y (b, c, h, w)."""
        clean, Z = encode_frames(self.vae, batch["hq"][:, 1:]), encode_frames(self.vae, batch["up"][:, 1:])
        return clean, Z, encode_frames(self.vae, reference)

    def guided(self, clean: Tensor, Z: Tensor, y: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss in latents, and the clean latents that the guided diffuser predicts."""
        with torch.no_grad():
            Z_n, Y_n = self.conditions(Z, y, batch)
            Z_t = noisy_state(self.schedule, clean, Z, batch)
        guidance = self.controller(Z_t, batch["t"], self.controller.match(Z_n, Y_n), batch["n"])
        output = self.diffuser.to(Z_t.device)(Z_t, batch["t"], guidance)
        return latent_loss(self.schedule, Z_t, output, clean, batch["t"])

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        batch = {**batch, "reference": self.references(self.decoder, batch), "own": torch.zeros_like(batch["own"])}
        clean, Z, y = self.latents(batch, batch["reference"])
        in_latents, Z_0 = self.guided(clean, Z, y, batch)
        restored = self.restore(self.decoder, batch, self.decoded(Z_0, batch).flatten(0, 1))
        in_pixels = self.pixel_loss(restored, batch)
        with torch.no_grad():
            figures = {"latent": in_latents.detach(), "pixel": in_pixels.detach(), "latent_gain": latent_gain(clean, Z, Z_0),
                       **self.figures(restored, batch)}
        return in_pixels + self.whole.latent_weight * in_latents, figures

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        drawn = [self.draw(rng) for _ in range(6)]
        device = next(self.decoder.parameters()).device
        batch = {name: torch.stack([d[name] for d in drawn]).to(device) for name in drawn[0]}
        batch["reference"] = self.references(self.decoder, batch)
        Z_0 = self.guided(*self.latents(batch, batch["reference"]), batch)[1]
        return self.compared(self.restore(self.decoder, batch, self.decoded(Z_0, batch).flatten(0, 1)), batch)
