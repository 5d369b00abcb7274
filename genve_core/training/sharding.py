"""What the loop needs where FSDP shards the parameters over the processes; elsewhere these functions change nothing.

`stage.trained` then holds shares (DTensors), and only a forward pass of the whole model gathers them. Pictures,
calibration and the bundle's files want whole parameters; gathering is the work of all processes together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a share. Every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_of(full: Tensor, like: Tensor) -> Tensor:
    """The part of a full tensor that this process holds of `like`. Every process must call it."""
    return distribute_tensor(full, like.device_mesh, like.placements) if isinstance(like, DTensor) else full


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Inside, the model's parameters are whole in every process. Every process must enter it."""
    gather = getattr(model, "unshard", None)
    if gather is None:
        yield
        return
    gather()
    try:
        yield
    finally:
        model.reshard()  # type: ignore[operator]


@torch.no_grad()
def gather_into(target: nn.Module, source: nn.Module) -> nn.Module:
    """Copy whole parameters and buffers of `source` into its unsharded twin `target`. Every process must call it."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        mine.copy_(whole(theirs))
    for mine, theirs in zip(target.buffers(), source.buffers(), strict=True):
        mine.copy_(theirs)
    return target
