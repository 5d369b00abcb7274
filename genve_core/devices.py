"""Which device and which precision to compute in."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from .errors import InputError


def pick_device(name: str = "auto") -> torch.device:
    """'auto' takes CUDA, then Apple's MPS, then the CPU. Raises InputError for a device that is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here ({reason}); use auto or cpu") from error
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes faster in bf16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_gains_by_bf16(_cpu_maker(), _cpu_has("avx512_bf16"), _cpu_has("amx_tile"))


def cpu_gains_by_bf16(maker: str, avx512_bf16: bool, amx: bool) -> bool:
    """Whether a CPU convolves faster in bf16. Intel's without AMX can, but take twice as long as in float32, where AMD's take
    less (`docs/model-design/speed.md`).

    maker: a text in which the CPU names it.
    """
    return avx512_bf16 and (amx or "GenuineIntel" not in maker)


def _cpu_maker() -> str:
    linux = Path("/proc/cpuinfo")
    return linux.read_text() if linux.exists() else platform.processor()


def _cpu_has(feature: str) -> bool:
    asked = getattr(torch.cpu, f"_is_{feature}_supported", None)  # older releases of torch cannot say
    return asked is not None and asked()


def device_name(device: torch.device) -> str:
    """A name that a reader of a report or training record understands."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
