"""Semantic alignment (paper, section 3.2, Eq. 3): pulls the reference to its frame while it is denoised."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor

from ..diffuser.sampler import Refine
from ..diffuser.windows import frame_noise
from ..errors import InputError
from ..noise_schedule import NoiseSchedule

AlignmentNoise = Literal["same", "literal"]


def gamma(t: float, timesteps: float = 1000, gamma_max: float = 0.5) -> float:
    """Weight of the original frame at time t: half a cosine wave, `gamma_max` at t = T, 0 at t = 0 and below.

    t, timesteps: the time and T in one unit: a model's integer timesteps, or a share of its range and 1.

    The paper says "a cosine function on t, decreasing from 0.5 to 0"; that it is half a wave is our reading.
    """
    return gamma_max * 0.5 * (1 - math.cos(math.pi * max(t, 0) / timesteps))


def align(
    z: Tensor,
    schedule: NoiseSchedule,
    *,
    gamma_max: float = 0.5,
    noise: AlignmentNoise = "same",
    seed: int = 0,
) -> Refine:
    """Eq. 3 as the `refine` hook of `sampler.sample`.

    After the step to time s: x_s <- (1 - gamma_s) x_s + gamma_s (alpha_s z + sigma_s eps).
    z: clean latent of the key frame, (b, c, h, w), like the state that is sampled.
    noise: where eps comes from. "literal" draws it anew in every step, from (seed, s): two independent noises
        blended keep only sqrt((1-g)^2 + g^2) of the standard deviation, so the state holds less noise than
        its time says and the result is smoother. "same" re-uses the step's predicted noise: the state stays
        on the schedule, and Eq. 3 becomes a blend of the clean estimate with z.
    Raises InputError if `gamma_max` is not in [0, 1] or `noise` is unknown.
    """
    check_alignment(gamma_max, noise)

    def refine(x_s: Tensor, clean: Tensor, predicted_noise: Tensor, t: int, s: int) -> Tensor:
        g = gamma(s, schedule.config.timesteps, gamma_max)
        if g == 0:
            return x_s
        eps = predicted_noise
        if noise == "literal":
            eps = frame_noise(z.shape[1:], range(z.shape[0]), seed, f"semantic alignment {s}").to(z)
        original = schedule.add_noise(z, eps, s)
        return ((1 - g) * x_s.float() + g * original.float()).to(x_s.dtype)

    return refine


def check_alignment(gamma_max: float, noise: str) -> None:
    """Raises InputError if `gamma_max` is not in [0, 1] or `noise` is unknown."""
    if not 0 <= gamma_max <= 1:
        raise InputError(f"gamma_max must be in [0, 1], got {gamma_max}")
    if noise not in get_args(AlignmentNoise):
        raise InputError(f"alignment noise must be one of {get_args(AlignmentNoise)}, got {noise!r}")
