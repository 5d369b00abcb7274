"""What a long-running node needs: progress with previews, Interrupt, smaller steps when memory runs out, clear errors."""

from __future__ import annotations

import functools
import logging
import math
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..genve_core.errors import InputError
from ..genve_core.settings import at_once
from ..genve_core.sizes import Part, Retrying, Sizes
from .compat import is_oom

if TYPE_CHECKING:
    from ..genve_core.clip import Clip
    from ..genve_core.fit import Free
    from .engine import HostModels

log = logging.getLogger("GenVE")
P, R = ParamSpec("P"), TypeVar("R")

STEPS = 1000  # of a progress bar
PREVIEW_SIDE = 512  # px, at most
PREVIEW_SECONDS = 0.5  # between two previews, at least
PREVIEW_SHARE = 0.01  # of a node's time, at most


def explained(execute: Callable[P, R]) -> Callable[P, R]:
    """Decorator for `execute`: a mistake in what the user gave is shown on the node by its message alone.

    `@classmethod` stands above it.
    """

    @functools.wraps(execute)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return execute(*args, **kwargs)
        except InputError as error:
            message = str(error)
        # a builtin error: its name is shown too, and ours would carry the pack's whole path
        raise ValueError(message) from None

    return wrapped


class Progress:
    """A node's progress bar: an `OnProgress` for genve_core that also stops the node on Interrupt.

    shares: stage -> its share of the work, in the order of work; stages not named count nothing.
    preview: (stage, done) -> frame (3, h, w) in [-1, 1] to show, or None; asked only when a preview is due.
    `with_frame` shows a frame that the node has at hand.
    """

    def __init__(self, shares: dict[str, float], preview: Callable[[str, int], Tensor | None] | None = None):
        import comfy.utils

        self.shares, self.preview = shares, preview
        self.bar = comfy.utils.ProgressBar(STEPS)
        self.shown, self.pause = 0.0, 0.0  # when the last preview was made, and the seconds until the next
        self.value = 0
        self.part = (0, 1)  # of how many equal parts of the work, the one under way

    def piece(self, index: int, total: int) -> None:
        """What follows is piece `index` of `total`."""
        self.part = (index, total)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` frames of a stage. Raises the host's InterruptProcessingException after Interrupt."""
        whole = sum(self.shares.values()) or 1.0
        before = 0.0
        index, parts = self.part
        for name, share in self.shares.items():
            if name == stage:
                self.value = round(STEPS * (index + (before + share * done / max(total, 1)) / whole) / parts)
                break
            before += share
        frame = self.preview(stage, done) if self.preview is not None and self._due() else None
        self._update(frame)

    def with_frame(self, frame: Tensor) -> None:
        """Show a frame (3, h, w) in [-1, 1] that was just made."""
        self._update(frame if self._due() else None)

    def _due(self) -> bool:
        return time.monotonic() - self.shown >= self.pause

    def _update(self, frame: Tensor | None) -> None:
        import comfy.model_management as management

        management.throw_exception_if_processing_interrupted()
        shown = None
        if frame is not None:
            begin = time.monotonic()
            shown = ("JPEG", _thumbnail(frame), PREVIEW_SIDE)
            self.shown = time.monotonic()
            self.pause = max(PREVIEW_SECONDS, (self.shown - begin) / PREVIEW_SHARE)
        self.bar.update_absolute(self.value, STEPS, shown)


def _thumbnail(frame: Tensor) -> Any:
    """A PIL image of a frame (3, h, w) in [-1, 1], made small on its device."""
    from PIL import Image

    # by a whole number: reducing by other factors takes longer on a CPU
    by = math.ceil(max(frame.shape[-2:]) / PREVIEW_SIDE)
    small = F.avg_pool2d(frame.float(), (min(by, frame.shape[-2]), min(by, frame.shape[-1])))
    return Image.fromarray(((small.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())


def retrying_smaller(work: Callable[[Sizes], R], sizes: Sizes = Sizes(),
                     parts: tuple[Part, ...] = ("window", "tile", "chunk")) -> tuple[R, tuple[str, ...]]:
    """Run `work(sizes)`; when memory runs out, again with the next of `parts` halved, until none can be.

    work: does all of its computing before it returns (no generator).   parts: those that change its memory.
    Returns its result, and one note per retry for the user (see `text_ui`). Interrupt and all other errors pass.
    """
    retry = retrying(sizes, parts)
    return retry.call(work), tuple(retry.notes)


def retrying(sizes: Sizes, parts: tuple[Part, ...], last: tuple[Part, ...] = ()) -> Retrying:
    """The core's retries, with the host's knowledge of what running out of memory looks like."""
    return Retrying(sizes, parts, last, oom=is_oom, free=_free_cache, tell=lambda note: log.warning("[GenVE] %s", note))


def frames_at_once(models: HostModels, clip: Clip, sizes: Sizes) -> int:
    """How many frames of `clip` are worked on together: more than `sizes` says where a GPU would wait for its orders.

    On a CPU no more, however small they are: a host gives freed memory back, and more at once is the slower one.
    """
    return at_once(clip.size, sizes.chunk, accelerated=True) if models.device.type == "cuda" else sizes.chunk


def _free_cache() -> None:
    import comfy.model_management as management

    management.soft_empty_cache()


def free_memory(device: torch.device) -> Free:
    """What may still be used, as the host sees it."""
    import comfy.model_management as management

    from ..genve_core.fit import Free
    from ..genve_core.memory import free_ram

    return Free(free_ram(), int(management.get_free_memory(device)) if device.type == "cuda" else None)


def temporary_file(suffix: str) -> Path:
    """A name in the host's temp folder, which it empties when it starts."""
    import folder_paths

    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"genve-{uuid.uuid4().hex}{suffix}"


def text_ui(*notes: str) -> dict[str, list[str]] | None:
    """For `io.NodeOutput(..., ui=text_ui(*notes))`: sentences shown on the node now, and kept in the history.

    None if there are none.
    """
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if notes and server is not None and hasattr(server, "send_progress_text"):
        from comfy_execution.utils import get_executing_context

        context = get_executing_context()
        if context is not None:
            server.send_progress_text("\n".join(notes), context.node_id, server.client_id)
    return {"text": list(notes)} if notes else None


def to_host(tensor: Tensor) -> Tensor:
    """A result as the host wants it on a wire: float32, on its device for intermediates."""
    import comfy.model_management as management

    return tensor.to(management.intermediate_device(), torch.float32)
