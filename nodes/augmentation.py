"""Noise Augmentation, Temporal Augmentation: what the controller is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from comfy_api.latest import io

from ..genve_core.errors import InputError
from .clips import channels_of, kept, moved
from .compat import schema
from .convert import check_same_clip, latent_of, latents_of
from .run import explained, text_ui, to_host
from .sockets import Carried, FlowSocket, GraphFlow, GraphReference, ReferenceSocket, as_flow, as_reference

Known = TypeVar("Known", bound=Carried)

KEY = "genve"  # of a LATENT: what is known of Z_n and Y_n besides their samples


@dataclass(frozen=True)
class Noised(Carried):
    """What is known of Z_n."""

    n: int  # noise level, in [0, 999]
    seed: int


@dataclass(frozen=True)
class CarriedReference(Carried):
    """What is known of Y_n; the decoder needs it as well."""

    reference: GraphReference  # with y_n
    flow: GraphFlow


class GenVENoiseAugmentation(io.ComfyNode):
    """Section 3.3 of the paper: the dial between fidelity and invented detail."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVENoiseAugmentation",
            display_name="Noise Augmentation",
            category="GenVE",
            description="Adds noise of level n to the clip and to the reference before the controller sees them: low n keeps "
                        "the input, high n leaves room for invented detail. A changed n runs only what follows.",
            search_aliases=["genve", "noise level", "noise dial", "fidelity", "creativity", "denoise"],
            inputs=[
                io.Latent.Input("z", display_name="Z", tooltip="Z of Upscale and Encode Video."),
                ReferenceSocket.Input("reference", tooltip="From Semantic-Aligning Reference or Reference from Image."),
                io.Int.Input("n", default=250, min=0, max=999, display_mode=io.NumberDisplay.slider,
                             tooltip="Noise level, of 1000: 0 keeps the input most, 999 invents most. "
                                     "250 is what genve-mini recommends."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True,
                             tooltip="Of the noise; the same seed gives the same result."),
            ],
            outputs=[
                io.Latent.Output("z_n", display_name="Z_n", tooltip="The noised clip, for LCA Controller."),
                ReferenceSocket.Output("y_n", display_name="y_n", tooltip="The noised reference, for Temporal Augmentation."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, z, reference, n: int, seed: int) -> io.NodeOutput:
        from ..genve_core.dial import creativity_of
        from ..genve_core.steps import augment

        given = as_reference(reference)
        if given.n is not None:
            raise InputError("reference is y_n of another Noise Augmentation, wanted one without noise; "
                             "wire Semantic-Aligning Reference or Reference from Image to it")
        Z = latents_of(z, channels_of(given.models), "Z")
        _check_size(Z, given, "Z")
        Z_n, noised = augment(given.models, Z, given.references, n, seed=seed)
        creativity = creativity_of(given.models.bundle.dial, n)
        told = () if creativity is None else (f"creativity {creativity:.2f} of 1",)
        return io.NodeOutput(latent_of(Z_n, **{KEY: Noised(n, seed)}), GraphReference(kept(tuple(noised)), given.models, n),
                             ui=text_ui(*told))


class GenVETemporalAugmentation(io.ComfyNode):
    """Section 3.3 of the paper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVETemporalAugmentation",
            display_name="Temporal Augmentation",
            category="GenVE",
            description="Carries the reference along the motion to every frame of the clip.",
            search_aliases=["genve", "warp", "propagate", "reference to all frames"],
            inputs=[
                ReferenceSocket.Input("y_n", display_name="y_n", tooltip="y_n of Noise Augmentation."),
                FlowSocket.Input("flow", tooltip="From Optical Flow, with the key frame of the reference."),
            ],
            outputs=[
                io.Latent.Output("carried_y_n", display_name="Y_n", tooltip="The reference in every frame; for LCA Controller"),
                io.Mask.Output("validity", display_name="validity",
                               tooltip="1 where the reference reaches a frame, 0 where the frame shows what it does not."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, y_n, flow) -> io.NodeOutput:
        from ..genve_core.conditioning.temporal import carry

        noised, motion = as_reference(y_n, "y_n"), as_flow(flow)
        if noised.n is None:
            raise InputError("y_n is a reference without noise, wanted y_n of Noise Augmentation; put that node in between")
        _check_flow(noised, motion)
        device = noised.models.device
        Y_n, valid = carry(moved(noised.references, device), moved(motion.flow, device))
        h, w = motion.images.shape[1:3]
        padded = F.interpolate(valid, size=tuple(8 * side for side in Y_n.shape[-2:]), mode="nearest")
        return io.NodeOutput(latent_of(Y_n, **{KEY: CarriedReference(noised, motion)}),
                             to_host(padded[:, 0, :h, :w].contiguous()))


def noised_clip(latent: Any) -> Noised:
    """What Noise Augmentation knows of Z_n. Raises InputError for a LATENT from elsewhere."""
    return _known(latent, Noised, "Z_n", "Noise Augmentation", "its noise level is not known")


def carried_reference(latent: Any) -> CarriedReference:
    """What Temporal Augmentation knows of Y_n. Raises InputError for a LATENT from elsewhere."""
    return _known(latent, CarriedReference, "Y_n", "Temporal Augmentation", "its reference and flow are not known")


def _known(latent: Any, kind: type[Known], name: str, node: str, lack: str) -> Known:
    known = latent.get(KEY) if isinstance(latent, dict) else None
    if not isinstance(known, kind):
        raise InputError(f"{name} does not come from {node}, so {lack}; wire {name} of {node} to it")
    return known


def _check_size(Z: torch.Tensor, reference: GraphReference, name: str) -> None:
    for one in reference.references:
        if one.y.shape[-2:] != Z.shape[-2:] or one.key >= Z.shape[1]:
            raise InputError(f"{name} has {Z.shape[1]} frames of {Z.shape[-1]}x{Z.shape[-2]} latents, the reference is "
                             f"of frame {one.key} and {one.y.shape[-1]}x{one.y.shape[-2]}: they are of different clips; "
                             f"wire both from one Upscale and Encode Video")


def _check_flow(reference: GraphReference, flow: GraphFlow) -> None:
    for one in reference.references:
        everywhere = one.y[None, None].expand(1, len(flow.images), -1, -1, -1)
        check_same_clip(everywhere, flow.images, ("y_n", "the flow's clip"))
