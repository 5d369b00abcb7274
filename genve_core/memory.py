"""How much memory may still be used: the system's, less where a container or the process itself is limited."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")


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
