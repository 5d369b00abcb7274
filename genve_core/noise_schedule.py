"""The noise schedule: the paper's Eq. 1 (forward) and Eq. 2 (backward), for epsilon- and v-prediction.

Every function computes in float32 and returns the dtype of its first argument. Latents may have any shape
whose first axis is the batch. A timestep `t` is an int in [0, T), or a (b,) int64 tensor with one per batch
element (tensors on an accelerator are not read for a range check: that would stall it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .errors import InputError

Kind = Literal["scaled_linear", "linear"]
Prediction = Literal["epsilon", "v_prediction"]
Time = int | Tensor
CLEAN = -1  # the time after the last step: no noise at all


@dataclass(frozen=True)
class NoiseScheduleConfig:
    """Stable Diffusion's schedule. The paper names DDPM's and no numbers."""

    timesteps: int = 1000  # T
    beta_start: float = 0.00085
    beta_end: float = 0.012
    kind: Kind = "scaled_linear"  # linear in sqrt(beta), or in beta
    prediction: Prediction = "v_prediction"  # what the network's output means

    def __post_init__(self) -> None:
        if self.timesteps < 1:
            raise InputError(f"timesteps must be at least 1, got {self.timesteps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise InputError(
                f"need 0 < beta_start <= beta_end < 1, got {self.beta_start} and {self.beta_end}"
            )
        if self.kind not in get_args(Kind):
            raise InputError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        if self.prediction not in get_args(Prediction):
            raise InputError(f"prediction must be one of {get_args(Prediction)}, got {self.prediction!r}")


class NoiseSchedule:
    """alpha_t and sigma_t of Eq. 1 with alpha^2 + sigma^2 = 1, and what follows from them."""

    def __init__(self, config: NoiseScheduleConfig = NoiseScheduleConfig()):
        self.config = config
        root = 0.5 if config.kind == "scaled_linear" else 1.0
        ends = config.beta_start**root, config.beta_end**root
        betas = torch.linspace(*ends, config.timesteps, dtype=torch.float64) ** (1 / root)
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        self.alpha = alpha_bar.sqrt().float()
        self.sigma = (1 - alpha_bar).sqrt().float()

    def add_noise(self, x0: Tensor, noise: Tensor, t: Time) -> Tensor:
        """Eq. 1: x_t = alpha_t x0 + sigma_t noise. At t = 0 the result is nearly clean."""
        _check_alike(noise, "noise", x0, "x0")
        alpha, sigma = self.scales(t, x0)
        return (alpha * x0.float() + sigma * noise.float()).to(x0.dtype)

    def predict_clean(self, x_t: Tensor, output: Tensor, t: Time) -> Tensor:
        """The clean latent x0 that the network's `output` at (x_t, t) stands for."""
        _check_alike(output, "output", x_t, "x_t")
        alpha, sigma = self.scales(t, x_t)
        x, out = x_t.float(), output.float()
        clean = (x - sigma * out) / alpha if self.config.prediction == "epsilon" else alpha * x - sigma * out
        return clean.to(x_t.dtype)

    def predict_noise(self, x_t: Tensor, clean: Tensor, t: Time) -> Tensor:
        """Eq. 1 solved for the noise: what `x_t` holds besides `clean`."""
        _check_alike(clean, "clean", x_t, "x_t")
        return self._noise(x_t, clean, t).to(x_t.dtype)

    def step(self, x_t: Tensor, clean: Tensor, t: Time, s: Time) -> Tensor:
        """Eq. 2 from t to s < t, deterministic (DDIM with eta = 0): same clean part, same noise, less of it.

        `s` = -1 is the end of sampling and returns `clean`. Between neighbours (s = t - 1) this is the
        paper's (x_t - sigma~ eps) / alpha~, alpha~ = alpha_t / alpha_s and sigma~ = sigma_t - alpha~ sigma_s.
        """
        _check_alike(clean, "clean", x_t, "x_t")
        if isinstance(t, int) and isinstance(s, int) and not CLEAN <= s < t:
            raise InputError(f"a step must go down in time to -1 at the lowest, got t={t} to s={s}")
        if isinstance(s, int) and s == CLEAN:
            self.scales(t, x_t)  # refuses a wrong t here as well
            return clean.to(x_t.dtype)
        alpha, sigma = self.scales(s, x_t)
        return (alpha * clean.float() + sigma * self._noise(x_t, clean, t)).to(x_t.dtype)

    def target(self, x_t: Tensor, clean: Tensor, t: Time) -> Tensor:
        """What the network should output at x_t, so that `predict_clean` gives `clean`."""
        _check_alike(clean, "clean", x_t, "x_t")
        noise = self._noise(x_t, clean, t)
        if self.config.prediction == "epsilon":
            return noise.to(x_t.dtype)
        alpha, sigma = self.scales(t, x_t)
        return (alpha * noise - sigma * clean.float()).to(x_t.dtype)

    def restoration_state(self, clean: Tensor, poor: Tensor, noise: Tensor, t: Time, start: Time) -> Tensor:
        """The state at time t of a sampling run that restores `poor` to `clean`. Ours, for training.

        Sampling starts from Eq. 1 of the poor latent, x_T1 = a1 poor + s1 noise with T1 = `start`. A perfect
        network predicts `clean` there, so the noise estimate holds the residual:
        eps' = (x_T1 - a1 clean) / s1 = noise + (a1 / s1) (poor - clean).
        Deterministic steps keep eps', hence at every later t
        x_t = alpha_t clean + sigma_t eps' = alpha_t (clean + lam (poor - clean)) + sigma_t noise,
        lam = (sigma_t / alpha_t) / (s1 / a1), which falls from 1 at T1 towards 0. Above T1 no sampling run
        passes; lam stays 1 there (Eq. 1 of the poor latent).
        """
        _check_alike(poor, "poor", clean, "clean")
        alpha, sigma = self.scales(t, clean)
        alpha_1, sigma_1 = self.scales(start, clean)
        lam = torch.as_tensor((sigma / alpha) / (sigma_1 / alpha_1)).clamp(max=1.0)
        mixed = clean.float() + lam * (poor.float() - clean.float())
        return self.add_noise(mixed, noise, t).to(clean.dtype)

    def scales(self, t: Time, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """alpha_t and sigma_t, shaped to multiply `like`: floats for an int t, (b, 1, ...) for a tensor.

        Raises InputError if t is out of [0, T), ValueError if a tensor t is not (b,) of integers.
        """
        last = self.config.timesteps - 1
        if isinstance(t, int):
            if not 0 <= t <= last:
                raise InputError(f"timestep must be in [0, {last}], got {t}")
            return float(self.alpha[t]), float(self.sigma[t])
        if t.dtype not in (torch.int64, torch.int32) or t.shape != like.shape[:1]:
            wanted = f"({like.shape[0]},) integers, one per batch element" if like.ndim else "an int"
            raise ValueError(f"timesteps must be {wanted}, got {tuple(t.shape)} {t.dtype}")
        if t.device.type == "cpu" and t.numel() and not 0 <= int(t.min()) <= int(t.max()) <= last:
            raise InputError(f"timesteps must be in [0, {last}], got {t.tolist()}")
        shape = (-1,) + (1,) * (like.ndim - 1)
        t = t.to(like.device)
        return self.alpha.to(like.device)[t].view(shape), self.sigma.to(like.device)[t].view(shape)

    def _noise(self, x_t: Tensor, clean: Tensor, t: Time) -> Tensor:  # float32
        alpha, sigma = self.scales(t, x_t)
        return (x_t.float() - alpha * clean.float()) / sigma


def _check_alike(x: Tensor, name: str, like: Tensor, like_name: str) -> None:
    if x.shape != like.shape:
        raise ValueError(f"{name} must be {tuple(like.shape)} like {like_name}, got {tuple(x.shape)}")
    if x.device != like.device:
        raise ValueError(f"{name} must be on {like.device} like {like_name}, got {x.device}")
