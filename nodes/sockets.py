"""The pack's own socket types and what travels on them.

Everything on a wire is shared between nodes and kept in the host's cache: it is never changed in place.
A value of another kind (through a wildcard socket of another pack, say) is met by the accessors below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from comfy_api.latest import io
from torch import Tensor

from ..genve_core.errors import InputError

if TYPE_CHECKING:
    from ..genve_core.clip import ClipFlow, Guidance, Reference
    from ..genve_core.decoder.memory import DecoderMemory
    from ..genve_core.media.shots import Shot
    from .engine import HostModels

BundleSocket = io.Custom("GENVE_BUNDLE")
ReferenceSocket = io.Custom("GENVE_REFERENCE")
FlowSocket = io.Custom("GENVE_FLOW")
GuidanceSocket = io.Custom("GENVE_GUIDANCE")
ShotsSocket = io.Custom("GENVE_SHOTS")


class Carried:
    """Base of what travels on the pack's sockets."""

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """What a host that evicts cached results by size counts."""
        return list(tensors_in(self))


@dataclass(frozen=True)
class GraphShots(Carried):
    """On GENVE_SHOTS: the shots of a clip, in order, without gaps."""

    shots: tuple[Shot, ...]
    frames: int  # of the clip


@dataclass(frozen=True)
class GraphReference(Carried):
    """On GENVE_REFERENCE: one or more image references of one clip."""

    references: tuple[Reference, ...]
    models: HostModels  # of the bundle whose latents they hold
    n: int | None = None  # noise level of their y, after Noise Augmentation


@dataclass(frozen=True)
class GraphFlow(Carried):
    """On GENVE_FLOW: the motion of a clip, and the frames it was measured on."""

    flow: ClipFlow
    images: Tensor  # (f, H, W, 3) in [0, 1]: the up-scaled frames, the very tensor that came in
    memory: DecoderMemory | None = None  # what a changed n can use again; filled by Video Diffuser Sampler

    def _comfy_cache_tensors(self) -> list[Tensor]:
        return [*tensors_in(self), *(self.memory.tensors() if self.memory else ())]


@dataclass(frozen=True)
class GraphGuidance(Carried):
    """On GENVE_GUIDANCE: what steers the video diffuser, and what the decoder needs after it."""

    guidance: Guidance
    references: tuple[Reference, ...]  # with y_n
    flow: GraphFlow
    strength: float  # of the references, in [0, 1]
    models: HostModels  # of the bundle that made it


Value = TypeVar("Value", bound=Carried)


def as_bundle(value: Any, name: str = "bundle") -> HostModels:
    """The value of a GENVE_BUNDLE input. Raises InputError for anything else."""
    from .engine import HostModels

    if not isinstance(value, HostModels):
        raise wrong(name, value, "a GenVE bundle", "the bundle output of Load GenVE Bundle")
    return value


def as_reference(value: Any, name: str = "reference") -> GraphReference:
    """The value of a GENVE_REFERENCE input. Raises InputError for anything else."""
    return _of_kind(GraphReference, value, name, "a GenVE reference",
                    "Semantic-Aligning Reference or Reference from Image")


def as_flow(value: Any, name: str = "flow") -> GraphFlow:
    """The value of a GENVE_FLOW input. Raises InputError for anything else."""
    return _of_kind(GraphFlow, value, name, "GenVE's optical flow", "the flow output of Optical Flow")


def as_guidance(value: Any, name: str = "guidance") -> GraphGuidance:
    """The value of a GENVE_GUIDANCE input. Raises InputError for anything else."""
    return _of_kind(GraphGuidance, value, name, "GenVE guidance", "the guidance output of LCA Controller")


def as_shots(value: Any, name: str = "shots") -> GraphShots:
    """The value of a GENVE_SHOTS input. Raises InputError for anything else."""
    return _of_kind(GraphShots, value, name, "GenVE shots", "the shots output of Find Shots and Key Frames")


def kind_of(value: Any) -> str:
    """What came, in words for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dictionary with {', '.join(map(str, value)) or 'no keys'}"
    return f"a {type(value).__name__}"


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in a value of dataclasses, dictionaries, tuples and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif is_dataclass(value):
        for part in fields(value):
            yield from tensors_in(getattr(value, part.name))


def _of_kind(kind: type[Value], value: Any, name: str, wanted: str, wire: str) -> Value:
    if not isinstance(value, kind):
        raise wrong(name, value, wanted, wire)
    return value


def wrong(name: str, value: Any, wanted: str, wire: str) -> InputError:
    """The error for a value of another kind on the input `name`."""
    return InputError(f"{name} is {kind_of(value)}, wanted {wanted}; wire {wire} to it")
