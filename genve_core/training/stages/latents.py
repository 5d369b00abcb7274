"""What the diffusion stages share: drawing times and noise, and the loss in latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...noise_schedule import NoiseSchedule
from ...vae import MiniVAE
from ..losses import Figures


@torch.no_grad()
def encode_frames(vae: MiniVAE, frames: Tensor) -> Tensor:
    """Latents (..., c, h/8, w/8) in float32 of frames (..., 3, h, w); the VAE follows the frames to their device."""
    nn.Module.to(vae, frames.device)
    latents = vae.encode(frames.flatten(0, -4)).float()
    return latents.unflatten(0, frames.shape[:-3])


@dataclass(frozen=True)
class TimeConfig:
    """Which times are trained. Sampling starts low (T0, T1), so low times get most of the training."""

    start: int = 250  # T0 or T1 that the bundle recommends
    start_jitter: int = 100  # starts are drawn from start +- this
    at_start: float = 0.4  # share of samples exactly at their start: few-step sampling lives there
    below: float = 0.45  # share below their start; the rest is anywhere in [0, T)
    prior: float = 0.15  # share that starts from the sharp latent: plain denoising, the image prior


def draw_times(config: TimeConfig, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Tensor]:
    """t, start, prior (0 or 1) and noise of one sample."""
    start = config.start + int(rng.integers(-config.start_jitter, config.start_jitter + 1))
    kind = rng.random()
    if kind < config.at_start:
        t = start
    elif kind < config.at_start + config.below:
        t = int(rng.integers(start))
    else:
        t = int(rng.integers(1000))
    return {"t": torch.tensor(t), "t_start": torch.tensor(start), "prior": torch.tensor(float(rng.random() < config.prior)),
            "noise": torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))}


def noisy_state(schedule: NoiseSchedule, clean: Tensor, poor: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The state that sampling passes through at each sample's time (`NoiseSchedule.restoration_state`)."""
    prior = batch["prior"].view(-1, *[1] * (clean.ndim - 1))
    poor = torch.where(prior > 0, clean, poor)
    return schedule.restoration_state(clean, poor, batch["noise"], batch["t"], batch["t_start"])


def latent_loss(schedule: NoiseSchedule, x_t: Tensor, output: Tensor, clean: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error of the network's output, and the clean latent it stands for."""
    loss = F.mse_loss(output.float(), schedule.target(x_t, clean, t).float())
    return loss, schedule.predict_clean(x_t, output.float(), t)


@torch.no_grad()
def latent_gain(clean: Tensor, poor: Tensor, restored: Tensor) -> Tensor:
    """How many times smaller the squared error of the restored latents is than that of the poor ones: ()."""
    return (poor - clean).square().mean() / (restored - clean).square().mean()


def diffusion_loss(
    diffuser: nn.Module, vae: MiniVAE, schedule: NoiseSchedule, batch: dict[str, Tensor]
) -> tuple[Tensor, Figures]:
    """Loss of a diffuser without guidance, for frames or videos alike.

    batch: hq and up (b, [f,] 3, h, w), and what `draw_times` draws. Logs the `latent_gain`.
    """
    clean, poor = encode_frames(vae, batch["hq"]), encode_frames(vae, batch["up"])
    x_t = noisy_state(schedule, clean, poor, batch)
    output = diffuser.to(x_t.device)(x_t, batch["t"])
    loss, restored = latent_loss(schedule, x_t, output, clean, batch["t"])
    return loss, {"latent_gain": latent_gain(clean, poor, restored)}
