"""Weights in 8 bits: half the file of fp16, for what follows another network and has no room of its own.

Every row of a tensor (an output channel of a convolution) becomes whole numbers from -127 to 127 times one scale, which is
kept beside it as `NAME.scale`. Symmetric, per channel and without calibration, as in Krishnamoorthi 2018, *Quantizing deep
convolutional networks for efficient inference*, but for the file alone: networks compute with what `unpacked` gives.
What it costs: `docs/model-design/depth.md`, *Weights in 8 bits*.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import InputError

SCALE = ".scale"


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors, those of two dimensions and more in int8 with their scales (rows,) in float32, the rest in fp16."""
    stored = {}
    for name, tensor in state.items():
        if tensor.ndim < 2:
            stored[name] = tensor.half()
        else:
            scale = tensor.float().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
            stored[name] = (tensor.float() / _beside(scale, tensor)).round().to(torch.int8)
            stored[name + SCALE] = scale
    return stored


def unpacked(stored: dict[str, Tensor], where: object) -> dict[str, Tensor]:
    """Tensors in float32, whether they were `packed` or not.   where: what an error names, the file.

    Raises InputError if a tensor in int8 has no scale, or one of another size.
    """
    state = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            scale = stored.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                got = "none" if scale is None else str(tuple(scale.shape))
                raise InputError(f"{where}: tensor {name} of 8 bits has scales {got}, wanted {tuple(tensor.shape[:1])}; "
                                 f"fetch the bundle again")
            state[name] = tensor.float() * _beside(scale.float(), tensor)
        elif not _is_scale(name, stored):
            state[name] = tensor.float()
    return state


def _beside(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (tensor.ndim - 1))


def _is_scale(name: str, stored: dict[str, Tensor]) -> bool:
    owner = stored.get(name.removesuffix(SCALE)) if name.endswith(SCALE) else None
    return owner is not None and owner.dtype == torch.int8
