"""Stage `vae`: the 2D VAE on single frames, sharp and poor alike (it has to encode both)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ...vae import MiniVAE
from ..clip_store import ClipStore
from ..losses import Figures, gradient_loss, psnr
from ..pictures import grid_picture


@dataclass(frozen=True)
class VaeConfig:
    """Size of the VAE and weights of its loss."""

    latent_channels: int = 16
    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 2
    crop: int = 128  # pixels
    edge: float = 0.5
    kl: float = 1e-6  # only keeps the latents bounded
    noise: float = 0.05  # latents are disturbed by this share of their spread: the diffuser is never exact
    poor_share: float = 0.3


class VaeStage:
    name = "vae"

    def __init__(self, store: ClipStore, config: VaeConfig, vae: MiniVAE | None = None):
        self.store, self.config = store, config
        self.vae = vae or MiniVAE(config.latent_channels, config.channels, config.depth)
        self.trained = nn.ModuleDict({"vae": self.vae})

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        crop = self.store.crop(rng, self.config.crop, 1)
        frame = crop["up" if rng.random() < self.config.poor_share else "hq"][1]
        c, side = self.vae.latent_channels, self.config.crop // 8
        return {"frame": frame, "noise": torch.from_numpy(rng.standard_normal((2, c, side, side), dtype=np.float32))}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        frame = batch["frame"]
        mean, log_variance = self.vae.posterior(frame)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean().float()
        spread = mean.detach().std((0, 2, 3), keepdim=True)
        drawn = mean + (0.5 * log_variance).exp() * batch["noise"][:, 0]
        result = self.vae.decoder(drawn + self.config.noise * spread * batch["noise"][:, 1]).float()
        pixel = (result - frame).abs().mean()
        loss = pixel + self.config.edge * gradient_loss(result, frame) + self.config.kl * kl
        return loss, {"pixel": pixel.detach(), "kl": kl.detach(), "psnr": psnr(result.detach(), frame).mean()}

    @torch.no_grad()
    def finish(self) -> None:
        rng = np.random.default_rng(1)
        frames = torch.stack([self.draw(rng)["frame"] for _ in range(64)]).to(self.vae.shift.device)
        self.vae.calibrate(frames)

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(2)
        frames = torch.stack([self.draw(rng)["frame"] for _ in range(8)]).to(self.vae.shift.device)
        result = self.vae.decoder(self.vae.posterior(frames)[0])
        return grid_picture([frames, result])
