"""LCA Controller: the reference speaks to every frame."""

from __future__ import annotations

from comfy_api.latest import io

from ..genve_core.errors import InputError
from .augmentation import carried_reference, noised_clip
from .clips import channels_of, kept
from .compat import advanced, schema
from .convert import check_same_clip, latents_of
from .run import explained
from .sockets import BundleSocket, GraphGuidance, GuidanceSocket, as_bundle


class GenVELCAController(io.ComfyNode):
    """Section 3.4 of the paper, local-aware cross-attention: once, for all steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVELCAController",
            display_name="LCA Controller",
            category="GenVE",
            description="Finds for every place of every frame what the reference says about it (local-aware "
                        "cross-attention), to steer the video diffuser.",
            search_aliases=["genve", "controlnet", "reference strength", "local attention", "guidance"],
            inputs=[
                io.Latent.Input("z_n", display_name="Z_n", tooltip="Z_n of Noise Augmentation."),
                io.Latent.Input("carried_y_n", display_name="Y_n", tooltip="Y_n of Temporal Augmentation."),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Of the reference, as a share: 0 is exactly as without a reference, 1 is all of it."),
                advanced(io.Float.Input("start", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001,
                                        tooltip="Share of the steps before the controller acts; 0 with one step.")),
                advanced(io.Float.Input("end", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                                        tooltip="Share of the steps after which it no longer acts; not below the start.")),
            ],
            outputs=[GuidanceSocket.Output("guidance", display_name="guidance", tooltip="For Video Diffuser Sampler.")],
        )

    @classmethod
    @explained
    def execute(cls, z_n, carried_y_n, bundle, strength: float, start: float, end: float) -> io.NodeOutput:
        from ..genve_core.steps import match

        models = as_bundle(bundle)
        channels = channels_of(models)
        Z_n, Y_n = latents_of(z_n, channels, "Z_n"), latents_of(carried_y_n, channels, "Y_n")
        noised, carried = noised_clip(z_n), carried_reference(carried_y_n)
        if noised.n != carried.reference.n:
            raise InputError(f"Z_n has noise level {noised.n}, Y_n {carried.reference.n}; "
                             f"wire both from one Noise Augmentation")
        check_same_clip(Z_n, carried.flow.images, ("Z_n", "Y_n's clip"))
        check_same_clip(Y_n, carried.flow.images, ("Y_n", "its clip"))
        guidance = match(models, Z_n, Y_n, noised.n, strength=strength, start=start, end=end)
        return io.NodeOutput(GraphGuidance(kept(guidance), carried.reference.references, carried.flow, strength, models))
