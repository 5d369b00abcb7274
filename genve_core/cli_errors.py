"""Any error as one line that a person understands, and the exit code that belongs to it."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path

from .ctrl_c import is_ctrl_c
from .errors import InputError

FAILURE, USAGE, STOPPED = 1, 2, 130


def told(args: argparse.Namespace, error: BaseException) -> tuple[str, int]:
    """The line and the exit code. Of `args`, `job` is the folder of finished pieces, `stopped` what to say on Ctrl-C."""
    kept = _kept(args)
    if is_ctrl_c(error):
        return (f"stopped by Ctrl-C{kept}" if kept else getattr(args, "stopped", "stopped by Ctrl-C")), STOPPED
    if isinstance(error, InputError):
        return one_line(f"error: {error}{kept}"), USAGE
    return one_line(f"failed: {_reason(error)}{kept}"), FAILURE


def one_line(text: str) -> str:
    return " ".join(text.split())


def _kept(args: argparse.Namespace) -> str:
    """What a job still holds, for the end of the line."""
    folder: Path | None = getattr(args, "job", None)
    return f"; finished pieces are kept in {folder}, the same command goes on" if folder and folder.is_dir() else ""


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "there is not enough memory; give a smaller --size or --scale, or enhance fewer --frames at a time"
    if isinstance(error, OSError) and error.strerror:
        file = f" ({error.filename})" if error.filename else ""
        remedy = "; free some space" if error.errno == errno.ENOSPC and "space" not in error.strerror else ""
        return f"{error.strerror}{file}{remedy}"
    first = text.splitlines()[0] if text else "no reason was given"
    return f"{type(error).__name__}: {first}; -v shows where"
