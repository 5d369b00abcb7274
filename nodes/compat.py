"""Differences between ComfyUI versions, in one place. Works from 0.3.64 on."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from comfy_api.latest import io

Widget = TypeVar("Widget")


def schema(**fields: Any) -> io.Schema:
    """An `io.Schema` of those fields that this host knows; newer ones, such as `search_aliases`, are left out on an older."""
    known = inspect.signature(io.Schema).parameters
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def advanced(widget: Widget) -> Widget:
    """The input, shown only under "advanced inputs" where the front end knows them."""
    widget.extra_dict = {**(widget.extra_dict or {}), "advanced": True}  # type: ignore[attr-defined]
    return widget


def is_oom(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on the accelerator or on the CPU."""
    import comfy.model_management as management

    from ..genve_core.sizes import is_oom as is_oom_in_core

    if is_oom_in_core(error):
        return True
    if not hasattr(management, "raise_non_oom"):
        return isinstance(error, management.OOM_EXCEPTION)
    try:
        management.raise_non_oom(error)  # newer hosts: silent for every kind of out-of-memory error
    except BaseException:
        return False
    return True
