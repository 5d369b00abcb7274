"""Optical Flow: the motion of the clip, along which the reference is carried."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..genve_core.sizes import Sizes
from .clips import CHOOSE, kept, key_frame_of, upscaled_clip
from .compat import schema
from .run import Progress, explained, frames_at_once, retrying_smaller, text_ui, to_host
from .sockets import BundleSocket, FlowSocket, GraphFlow, ReferenceSocket, as_bundle, as_reference


class GenVEOpticalFlow(io.ComfyNode):
    """Section 3.3 of the paper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEOpticalFlow",
            display_name="Optical Flow",
            category="GenVE",
            description="Measures how every frame moves to its neighbours and to the key frame of each reference.",
            search_aliases=["genve", "motion", "optical flow", "raft", "dis"],
            inputs=[
                io.Image.Input("images", tooltip="The up-scaled frames of Upscale and Encode Video."),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle; it may bring an estimator of its own."),
                io.Int.Input("key_frame", default=CHOOSE, min=CHOOSE, max=1_000_000,
                             tooltip="The frame that the reference shows, from 0; -1 chooses as the reference nodes do."),
                io.Combo.Input("estimator", options=["auto", "dis", "raft"], default="auto",
                               tooltip="auto: the bundle's, else DIS. dis: OpenCV's, on the CPU. raft: the bundle's RAFT."),
                ReferenceSocket.Input("reference", optional=True,
                                      tooltip="Only for several references: measures to their key frames, in place of the one "
                                              "above. Leave it unwired for one reference: else a changed picture would measure "
                                              "the flow anew."),
            ],
            outputs=[
                FlowSocket.Output("flow", display_name="flow", tooltip="For Temporal Augmentation."),
                io.Image.Output("flow_preview", display_name="preview",
                                tooltip="Motion to the (first) key frame: the hue is the direction, the saturation the length; "
                                        "hatched where the key frame does not show the place."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, images, bundle, key_frame: int, estimator: str, reference=None) -> io.NodeOutput:
        from ..genve_core.clip import ClipFlow
        from ..genve_core.conditioning.flow import FlowConfig
        from ..genve_core.decoder.memory import DecoderMemory
        from ..genve_core.steps import find_flow

        models, config = as_bundle(bundle), FlowConfig(estimator)  # type: ignore[arg-type]
        clip = upscaled_clip(images)
        if reference is None:
            keys = [key_frame_of(key_frame, clip)]
        else:
            keys = [key_frame_of(one.key, clip) for one in as_reference(reference).references]
        progress = Progress({"flow": 1.0})

        def measure(sizes: Sizes) -> ClipFlow:
            return find_flow(models, clip, keys, config, chunk=frames_at_once(models, clip, sizes), report=progress)

        flow, notes = retrying_smaller(measure, parts=("chunk",))
        flow = kept(flow)
        shown = _preview(flow.to_key[keys[0]], flow.valid[keys[0]], images)
        return io.NodeOutput(GraphFlow(flow, images, DecoderMemory()), shown, ui=text_ui(*notes))


def _preview(flow: Tensor, valid: Tensor, images: Tensor) -> Tensor:
    """The flow as colours, an IMAGE (f, H/2, W/2, 3) of the frames without what they were padded by."""
    from ..genve_core.clip import MULTIPLE
    from ..genve_core.evaluation.pictures import flow_picture
    from ..genve_core.video_codec import padded_size

    size = images.shape[1:3]
    h, w = (round(side * grid / padded)
            for side, grid, padded in zip(size, flow.shape[-2:], padded_size(size, MULTIPLE), strict=True))
    return to_host(flow_picture(flow, valid)[..., :h, :w].movedim(1, -1).contiguous())
