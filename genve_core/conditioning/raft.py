"""RAFT (Teed and Deng, 2020) as a flow estimator: torchvision's network behind a small adapter.

The adapter does range, padding and precision; the arithmetic is torchvision's. The weights come from stage
`flow` (a bundle's component `flow`) or from a file of the user's; nothing is ever downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .flow import FlowEstimator

STRIDE = 8  # RAFT's features lie on 1 / 8 of the frame
SMALLEST = 128  # pixels: with less, the last level of the correlation pyramid is a single value
VOLUME = 1 << 27  # values in the correlation volumes of one call (0.5 GB as float32)


class Raft(nn.Module):
    """Flow a -> b by `iterations` recurrent updates. `config` is what `build_raft` needs to make it again."""

    def __init__(self, architecture: Literal["small", "large"] = "small", iterations: int = 12):
        super().__init__()
        if architecture not in ("small", "large"):
            raise InputError(f"RAFT architecture must be 'small' or 'large', got {architecture!r}")
        if iterations < 1:
            raise InputError(f"RAFT iterations must be 1 or more, got {iterations}")
        models = _torchvision()
        self.config: dict[str, Any] = {"architecture": architecture, "iterations": iterations}
        self.net = (models.raft_small if architecture == "small" else models.raft_large)(weights=None)

    def forward(self, a: Tensor, b: Tensor, iterations: int | None = None) -> list[Tensor]:
        """Flow a -> b after every update, the last one best: a list of (n, 2, h, w), float32, pixels.

        a, b: (n, 3, h, w) in [-1, 1], any size. Raises ValueError if their shapes differ.
        """
        if a.shape != b.shape:
            raise ValueError(f"RAFT compares frames of one size, got {tuple(a.shape)} and {tuple(b.shape)}")
        h, w = a.shape[-2:]
        pad = (0, padded_side(w) - w, 0, padded_side(h) - h)  # right and below: positions stay what they are
        a, b = (F.pad(x.float(), pad, mode="replicate") for x in (a, b))
        # positions of hundreds of pixels have no sub-pixel digits in bf16
        with torch.autocast(a.device.type, enabled=False):
            flows = self.net(a, b, num_flow_updates=iterations or self.config["iterations"])
        return [flow[..., :h, :w] for flow in flows]


def padded_side(side: int) -> int:
    """The length to which RAFT pads a side: a multiple of 8, at least 128 pixels."""
    return max(SMALLEST, -(-side // STRIDE) * STRIDE)


def _torchvision() -> Any:
    try:
        from torchvision.models import optical_flow
    except ImportError as error:
        raise InputError('RAFT needs torchvision, which is not installed; run pip install "genve[flow]", '
                         'or use the estimator dis') from error
    return optical_flow


def build_raft(architecture: Literal["small", "large"] = "small", iterations: int = 12) -> Raft:
    """An untrained RAFT. `iterations`: how many updates `raft_flow` makes. Raises InputError."""
    return Raft(architecture, iterations)


def load_raft(file: Path, iterations: int = 12) -> Raft:
    """RAFT with torchvision's own weights, as the user has them (.pth or .safetensors); small or large is told apart.

    Raises InputError if the file is missing or holds anything else.
    """
    if not file.is_file():
        raise InputError(f"RAFT weights {file} were not found; give a file of torchvision's RAFT, or use dis")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:  # weights_only: tensors, never code
            state = torch.load(file, map_location="cpu", weights_only=True)
        # only the large network predicts a mask for its up-sampling
        large = any(name.startswith("mask_predictor") for name in state)
        module = build_raft("large" if large else "small", iterations)
        module.net.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:  # torch.load and safetensors fail in many ways on a foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} does not hold the weights of torchvision's RAFT ({reason}); "
                         f"give raft_small or raft_large, or use dis") from error
    return module.eval().requires_grad_(False)


def raft_flow(module: nn.Module, iterations: int | None = None) -> FlowEstimator:
    """A `FlowEstimator` of `module` (`Raft`), which runs where its weights are; flow comes back to the frames' device.

    iterations: updates, None = the module's own. Pairs go in groups whose correlation volumes fit `VOLUME`.
    """
    if not isinstance(module, Raft):
        raise InputError(f"the flow component must be a RAFT, got {type(module).__name__}; use another bundle or dis")
    device = next(module.parameters()).device

    @torch.no_grad()
    def estimate(a: Tensor, b: Tensor) -> Tensor:
        tokens = (padded_side(a.shape[-2]) // STRIDE) * (padded_side(a.shape[-1]) // STRIDE)
        group = max(1, int(VOLUME / (1.34 * tokens**2)))  # the pyramid adds a third
        parts = [module(x.to(device), y.to(device), iterations)[-1]
                 for x, y in zip(a.split(group), b.split(group), strict=True)]
        return torch.cat(parts).to(a.device)

    return estimate
