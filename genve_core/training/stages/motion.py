"""Stage `motion`: the motion modules that turn the image diffuser into the video diffuser; the 2D UNet is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.unets.unet_motion_model import MotionAdapter, UNetMotionModel
from torch import Tensor

from ...diffuser.backbone import MotionDiffuser, from_image_unet, motion_adapter_of
from ...diffuser.sampler import sample, timesteps
from ...noise_schedule import NoiseSchedule
from ...vae import MiniVAE
from ..clip_store import CLIP_FRAMES, ClipStore
from ..losses import Figures
from ..pictures import grid_picture
from .latents import TimeConfig, diffusion_loss, draw_times, encode_frames


@dataclass(frozen=True)
class MotionConfig:
    """What the motion modules are trained on."""

    frames: int = CLIP_FRAMES
    crop: int = 160  # pixels
    times: TimeConfig = field(default_factory=TimeConfig)


class MotionStage:
    name = "motion"

    def __init__(self, store: ClipStore, config: MotionConfig, vae: MiniVAE, unet: UNet2DConditionModel,
                 schedule: NoiseSchedule, motion: MotionAdapter | None = None):
        self.store, self.config, self.vae, self.schedule = store, config, vae, schedule
        video_unet = from_image_unet(unet) if motion is None else UNetMotionModel.from_unet2d(unet, motion)
        self.diffuser = MotionDiffuser(video_unet)  # type: ignore[arg-type]
        self.diffuser.unet.freeze_unet2d_params()
        self.trained = nn.ModuleDict({"motion": motion_adapter_of(self.diffuser.unet)})

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        crop = self.store.crop(rng, self.config.crop, self.config.frames)
        shape = (self.config.frames, self.vae.latent_channels, *(self.config.crop // 8,) * 2)
        return {"hq": crop["hq"][1:], "up": crop["up"][1:], **draw_times(self.config.times, shape, rng)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        return diffusion_loss(self.diffuser, self.vae, self.schedule, batch)

    def finish(self) -> None:
        """Nothing to calibrate."""

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        drawn = [self.draw(rng) for _ in range(6)]
        batch = {name: torch.stack([d[name] for d in drawn]).to(self.diffuser.unet.device) for name in drawn[0]}
        start = self.config.times.start
        x = self.schedule.add_noise(encode_frames(self.vae, batch["up"]), batch["noise"], start)
        z = sample(self.diffuser, x, self.schedule, timesteps(start, 2))
        return grid_picture([batch["up"][:, 0], self.vae.decode(z[:, 0]), self.vae.decode(z[:, -1]), batch["hq"][:, -1]])
