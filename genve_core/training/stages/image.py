"""Stage `image`: the image diffuser (2D UNet) on latents of single frames (paper, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ...diffuser.backbone import ImageDiffuser, build_image_unet
from ...diffuser.sampler import sample, timesteps
from ...noise_schedule import NoiseSchedule
from ...vae import MiniVAE
from ..clip_store import ClipStore
from ..losses import Figures
from ..pictures import grid_picture
from .latents import TimeConfig, diffusion_loss, draw_times, encode_frames


@dataclass(frozen=True)
class ImageConfig:
    """Size of the 2D UNet and what it is trained on."""

    channels: tuple[int, ...] = (48, 96, 144)
    layers: int = 1
    crop: int = 192  # pixels
    times: TimeConfig = field(default_factory=TimeConfig)


class ImageStage:
    name = "image"

    def __init__(self, store: ClipStore, config: ImageConfig, vae: MiniVAE, schedule: NoiseSchedule,
                 unet: UNet2DConditionModel | None = None):
        self.store, self.config, self.vae, self.schedule = store, config, vae, schedule
        self.unet = unet or build_image_unet(vae.latent_channels, config.channels, config.layers)
        self.diffuser = ImageDiffuser(self.unet)
        self.trained = nn.ModuleDict({"unet": self.unet})

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        crop = self.store.crop(rng, self.config.crop, 1)
        shape = (self.vae.latent_channels, *(self.config.crop // 8,) * 2)
        return {"hq": crop["hq"][1], "up": crop["up"][1], **draw_times(self.config.times, shape, rng)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        return diffusion_loss(self.diffuser, self.vae, self.schedule, batch)

    def finish(self) -> None:
        """Nothing to calibrate."""

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        drawn = [self.draw(rng) for _ in range(8)]
        batch = {name: torch.stack([d[name] for d in drawn]).to(self.unet.device) for name in drawn[0]}
        start = self.config.times.start
        x = self.schedule.add_noise(encode_frames(self.vae, batch["up"]), batch["noise"], start)
        z = sample(self.diffuser, x, self.schedule, timesteps(start, 4))
        return grid_picture([batch["up"], self.vae.decode(z), self.vae.decode(self.vae.encode(batch["hq"])), batch["hq"]])
