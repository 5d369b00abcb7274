"""The backward process (paper 3.1, Eq. 2): a plain, deterministic function over any callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from ..errors import InputError
from ..noise_schedule import CLEAN, NoiseSchedule

Denoiser = Callable[[Tensor, int], Tensor]  # (x_t, t) -> the network's output, shaped like x_t
Refine = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]  # (x_s, clean, noise, t, s) -> x_s
OnStep = Callable[[int, Tensor], None]  # (index of the step, its estimate of the clean latent)


def timesteps(start: int, steps: int) -> list[int]:
    """The times at which the network is asked: `steps` of them, evenly from `start` towards -1 (clean).

    `timesteps(999, 4)` is [999, 749, 499, 249]. Raises InputError if `start` < 0, or `steps` is not in
    [1, start + 1]: there are no more distinct times than that.
    """
    if start < 0:
        raise InputError(f"start time must be at least 0, got {start}")
    if not 1 <= steps <= start + 1:
        raise InputError(f"steps must be in [1, {start + 1}] for start time {start}, got {steps}")
    return [start - i * (start + 1) // steps for i in range(steps)]


def sample(
    model: Denoiser,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int],
    *,
    refine: Refine | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise `x`, the state at `times[0]`, to the clean latent.

    model: any callable `(x_t, t) -> output`; what the output means, the schedule knows.
    times: descending, in [0, T), see `timesteps`.
    refine: called after every step with the new state x_s, the step's estimates of the clean latent and of
        the noise, and both times; what it returns takes the place of x_s. After the last step s is -1 and
        x_s is the result.
    on_step: called after every step, for progress and previews.
    Gradients flow; for inference the caller wraps the call in `torch.inference_mode()`.
    Raises InputError if `times` is empty or does not descend.
    """
    if not times or any(t <= s for t, s in pairwise([*times, CLEAN])):
        raise InputError(f"times must be one or more, descending, none below 0, got {list(times)}")
    for i, (t, s) in enumerate(pairwise([*times, CLEAN])):
        clean = schedule.predict_clean(x, model(x, t), t)
        x_s = schedule.step(x, clean, t, s)
        if refine is not None:
            x_s = refine(x_s, clean, schedule.predict_noise(x, clean, t), t, s)
        x = x_s
        if on_step is not None:
            on_step(i, clean)
    return x
