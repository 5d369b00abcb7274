"""Which device and which precision to compute in."""

from __future__ import annotations

import ctypes

import torch

from .errors import InputError

# glibc's names for mallopt(3), from its <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 1 << 30  # bytes


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
    """Whether `device` computes bf16 natively; elsewhere it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def device_name(device: torch.device) -> str:
    """A name that a reader of a report or training record understands."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


def keep_freed_memory() -> bool:
    """Let this process keep large freed blocks for the next ones. True if the C library can (glibc), else nothing happens.

    By default blocks of more than 32 MiB go back to the kernel at once, which has to clear every page when the next one is
    asked for: at 1408x896 px a third of the decoder's time on a CPU. It concerns the whole process, so it is for a process
    of our own, never for a host's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return all([mallopt(parameter, KEPT) == 1 for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)])
