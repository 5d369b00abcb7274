"""Ctrl-C, also where it comes out as another error.

C code that calls back into Python may put an error of its own in the place of KeyboardInterrupt: torch does while it loads
weights ("could not determine the shape of object type ...").
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pressed = threading.Event()


@contextmanager
def noticing_ctrl_c() -> Iterator[None]:
    """Within it `is_ctrl_c` knows of every press; not off the main thread, nor where another handler is set already."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _noticed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _pressed.clear()


def is_ctrl_c(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, whatever became of it on the way."""
    return isinstance(error, KeyboardInterrupt) or _pressed.is_set()


def _noticed(number: int, frame: FrameType | None) -> None:
    _pressed.set()
    signal.default_int_handler(number, frame)
