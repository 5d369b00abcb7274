"""Attention Preview: which part of the reference one patch of a frame looks at."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .augmentation import carried_reference, noised_clip
from .clips import channels_of
from .compat import schema
from .convert import check_same_clip, frames_of, latents_of
from .run import explained, to_host
from .sockets import BundleSocket, as_bundle


class GenVEAttentionPreview(io.ComfyNode):
    """Section 3.4 of the paper, Fig. 3, for one patch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEAttentionPreview",
            display_name="Attention Preview",
            category="GenVE",
            description="Shows which part of the reference one patch of a frame attends to: the frame with the patch framed, "
                        "beside the reference under a heat map.",
            search_aliases=["genve", "attention map", "heat map", "lca", "correspondence", "debug"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("z_n", display_name="Z_n", tooltip="Z_n of Noise Augmentation."),
                io.Latent.Input("carried_y_n", display_name="Y_n", tooltip="Y_n of Temporal Augmentation."),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.Int.Input("frame", default=0, min=0, max=1_000_000, tooltip="The frame that looks, counted from 0."),
                io.Float.Input("x", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Place of the patch from the left, as a share of the frame's width: 0 to 1."),
                io.Float.Input("y", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Place of the patch from the top, as a share of the frame's height: 0 to 1."),
            ],
            outputs=[
                io.Image.Output("attention", display_name="IMAGE",
                                tooltip="Left the up-scaled frame, right the carried reference: red little, yellow most; "
                                        "hatched where the reference does not reach."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, z_n, carried_y_n, bundle, frame: int, x: float, y: float) -> io.NodeOutput:
        from ..genve_core.evaluation.attention import carried_picture, look
        from ..genve_core.evaluation.pictures import attention_picture, hatched

        models = as_bundle(bundle)
        Z_n, Y_n = (latents_of(z, channels_of(models), name) for z, name in ((z_n, "Z_n"), (carried_y_n, "Y_n")))
        noised_clip(z_n)
        known = carried_reference(carried_y_n)
        check_same_clip(Z_n, known.flow.images, ("Z_n", "Y_n's clip"))
        h, w = known.flow.images.shape[1:3]
        seen = look(models, Z_n, Y_n, frame, (x, y), (h, w))
        shown = frames_of(known.flow.images[frame : frame + 1])[0][0]
        carried, reach = carried_picture(known.reference.references, known.flow.flow, frame)
        reference = hatched((carried + 1) / 2, reach)[:, :h, :w]
        picture = attention_picture((shown + 1) / 2, reference, seen.attention, seen.query, seen.token)
        image = to_host(picture.movedim(0, -1).unsqueeze(0).contiguous())
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
