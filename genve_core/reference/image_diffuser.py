"""The semantics-aligning image diffuser (paper, section 3.2): one key frame becomes the image reference."""

from __future__ import annotations

from torch import Tensor

from ..diffuser.sampler import Denoiser, OnStep, sample, timesteps
from ..diffuser.windows import frame_noise
from ..noise_schedule import NoiseSchedule
from .semantic_alignment import AlignmentNoise, align


def make_reference(
    image_model: Denoiser,
    z: Tensor,
    schedule: NoiseSchedule,
    *,
    start: int,
    steps: int,
    gamma_max: float = 0.5,
    noise: AlignmentNoise = "same",
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Noise the key frame's latent to T0 (Eq. 1) and denoise it, pulled back to it by Eq. 3 in every step.

    image_model: callable (x_t (b, c, h, w), t) -> output.   z: (b, c, h, w) latent of the key frame(s).
    start: T0, in [0, T); higher invents more.   steps: in [1, T0 + 1].   gamma_max, noise: see `align`.
    Returns y, shaped and typed like z; the same seed gives the same y.
    Raises InputError for a start, step count or gamma_max out of range, ValueError if z has other axes.
    """
    if z.ndim != 4:
        raise ValueError(f"z must be (b, c, h, w), got {tuple(z.shape)}")
    times = timesteps(start, steps)
    refine = align(z, schedule, gamma_max=gamma_max, noise=noise, seed=seed)
    eps = frame_noise(z.shape[1:], range(z.shape[0]), seed, "image reference").to(z)
    x = schedule.add_noise(z, eps, start)
    return sample(image_model, x, schedule, times, refine=refine, on_step=on_step)
