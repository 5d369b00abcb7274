"""How much memory may still be used: the system's, less where a container or the process itself is limited. And what a
process of our own does with memory that it has freed."""

from __future__ import annotations

import ctypes
from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
# glibc's names for mallopt(3), from its <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 1 << 30  # bytes


def free_ram() -> int:
    """Bytes."""
    return int(max(0, min(psutil.virtual_memory().available, _free_in_process(), *_free_in_cgroups())))


def free_vram(device: torch.device) -> int | None:
    """Bytes on an accelerator with memory of its own, with what torch holds there unused; None for all others."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _free_in_process() -> float:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit - psutil.Process().memory_info().vms


def _free_in_cgroups(root: Path = CGROUPS, told: Path = Path("/proc/self/cgroup")) -> list[float]:
    """What each control group that this process is in, and each above it, leaves; both versions of Linux's control groups."""
    try:
        lines = told.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.strip("/")
        # in a container the path may be one of the machine outside: then only the top is there
        for folder in (group, *group.parents):
            if folder == top or top in folder.parents:
                found.append(_left(folder, limit, used))
    return found


def _left(group: Path, limit: str, used: str) -> float:
    try:
        most = (group / limit).read_text().strip()
        if most == "max":
            return float("inf")
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # pages of files that were read count as used, but are given up when memory is needed
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        return int(most) - int((group / used).read_text()) + cache
    except (OSError, ValueError):
        return float("inf")


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
