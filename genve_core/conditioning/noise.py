"""Noise augmentation (paper, section 3.3): the video latent and the reference are noised to the same level n.

n is the fidelity dial: low n keeps the input's appearance, high n leaves room for invented detail.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffuser.windows import frame_noise
from ..errors import InputError
from ..noise_schedule import NoiseSchedule


def augment(latent: Tensor, n: int | Tensor, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Eq. 1 with n steps: (b, ...) latent and noise -> the noisy condition, same shape and dtype.

    n: int, or (b,) int64 with one per batch element, in [0, T). n = 0 means no augmentation: the latent is
    returned unchanged, bit for bit (Eq. 1 at t = 0 would still add a little). Raises InputError out of range.
    """
    if isinstance(n, int):
        if not 0 <= n < schedule.config.timesteps:
            raise InputError(f"noise level must be in [0, {schedule.config.timesteps - 1}], got {n}")
        return latent if n == 0 else schedule.add_noise(latent, noise, n)
    noisy = schedule.add_noise(latent, noise, n)
    none = (n == 0).to(latent.device).view((-1,) + (1,) * (latent.ndim - 1))
    return torch.where(none, latent, noisy)


def augment_conditions(
    Z: Tensor, y: Tensor, n: int, schedule: NoiseSchedule, *, seed: int, first_frame: int = 0
) -> tuple[Tensor, Tensor]:
    """Both conditions at one level: Z (b, f, c, h, w), y (b, c, h, w) -> (Z_n, y_n).

    Z's noise is fixed per absolute frame, counted from `first_frame` of the clip; y's by the seed alone, so
    that every window of a shot sees the same y_n. All batch elements share the noise.
    """
    frames = range(first_frame, first_frame + Z.shape[1])
    noise_z = frame_noise(Z.shape[2:], frames, seed, "augment video").to(Z)
    noise_y = frame_noise(y.shape[1:], range(1), seed, "augment reference").to(y)
    return augment(Z, n, noise_z.expand_as(Z), schedule), augment(y, n, noise_y.expand_as(y), schedule)
