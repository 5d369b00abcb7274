"""One run at a time on one output: a lock of the operating system, free again when its process ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

SUFFIX = ".genve-lock"


@contextmanager
def only_run_on(output: str | Path) -> Iterator[None]:
    """Hold the lock of an output. Raises InputError if another run holds it.

    A folder that does not exist or cannot be written to is not locked: whoever writes there is told.
    """
    from filelock import FileLock, Timeout

    path = Path(output).absolute()
    file = path.with_name(f".{path.name}{SUFFIX}")
    lock = FileLock(file, blocking=False)
    held = False
    try:
        if path.parent.is_dir():
            with suppress(PermissionError):
                lock.acquire()
                held = True
    except Timeout:
        raise InputError(f"another run is making {output} at this moment; let it end, or give another output") from None
    try:
        yield
    finally:
        if held:
            with suppress(OSError):  # Windows keeps a file that is open; there filelock removes it when it is free
                file.unlink()
            lock.release()
