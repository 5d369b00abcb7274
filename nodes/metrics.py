"""Metrics: a result judged by numbers, against its input and against the truth where there is one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy_api.latest import io, ui

from ..genve_core.errors import InputError
from .compat import advanced, schema
from .convert import frames_of
from .run import explained, to_host
from .sockets import FlowSocket, GraphFlow, as_flow

if TYPE_CHECKING:
    from ..genve_core.evaluation.metrics import Motion

CURVES = {  # name in the report -> label in the plot
    "input_psnr": "fidelity to the input (dB)", "psnr": "PSNR against the truth (dB)",
    "sharpness": "sharpness (grey levels per pixel)", "warp_error": "change along the motion (squared grey levels)",
    "change": "change from the frame before, result over input",
}


class GenVEMetrics(io.ComfyNode):
    """What eyes see only by looking long."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEMetrics",
            display_name="Metrics",
            category="GenVE",
            description="Measures a result: does it still show the input, is it sharp, is it steady, are window borders seen; "
                        "and, where the true frames are given, how close it comes.",
            search_aliases=["genve", "psnr", "quality", "flicker", "warp error", "sharpness", "seam", "benchmark"],
            is_output_node=True,
            inputs=[
                io.Image.Input("result", tooltip="The enhanced frames."),
                io.Image.Input("source", display_name="input",
                               tooltip="The frames before: the poor ones, or the up-scaled ones of Upscale and Encode Video. "
                                       "As many as the result."),
                io.Int.Input("scale", default=4, min=1, max=16,
                             tooltip="How many times the input was up-scaled. Used only when it has the result's size: both "
                                     "are then reduced by it before they are compared."),
                io.Int.Input("window", default=16, min=1, max=256,
                             tooltip="Frames denoised together, as in Video Diffuser Sampler; for the seam score."),
                io.Int.Input("overlap", default=4, min=0, max=255,
                             tooltip="Frames that neighbouring windows share, as there; less than the window."),
                advanced(io.Int.Input("plot_width", default=640, min=256, max=4096, tooltip="Width of the plot, in pixels.")),
                FlowSocket.Input("flow", optional=True,
                                 tooltip="The motion for the warp ratio, of Optical Flow. Unwired: measured here, by DIS."),
                io.Image.Input("truth", optional=True, tooltip="The true frames, where they are known: as many and as large as "
                                                               "the result."),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="One line for each number, in words."),
                io.String.Output("json", display_name="JSON", tooltip="All numbers, also of every frame, and the settings."),
                io.Image.Output("plot", display_name="plot",
                                tooltip="The numbers of each frame as curves; grey where windows overlap."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, result, source, scale: int, window: int, overlap: int, plot_width: int, flow=None,
                truth=None) -> io.NodeOutput:
        from ..genve_core.diffuser.windows import WindowConfig
        from ..genve_core.evaluation.clip_metrics import measure
        from ..genve_core.evaluation.pictures import metric_plot

        measured = _bytes(result, "result")
        motion = None if flow is None else _motion(as_flow(flow), measured.shape)
        report = measure(measured, _bytes(source, "input"), truth=None if truth is None else _bytes(truth, "truth"),
                         motion=motion, window=WindowConfig(window, overlap), scale=scale)
        curves = {label: report.curves[name] for name, label in CURVES.items() if name in report.curves}
        plot = metric_plot(curves, marked=report.borders, width=plot_width)
        image = to_host(plot.movedim(0, -1).unsqueeze(0).contiguous())
        shown = {**ui.PreviewImage(image, cls=cls).as_dict(), "text": [report.text()]}
        return io.NodeOutput(report.text(), json.dumps(report.plain(), allow_nan=False, indent=1), image, ui=shown)


def _bytes(images: Any, name: str) -> np.ndarray:
    """An IMAGE as it would be saved, (f, h, w, 3) uint8."""
    from ..genve_core.media.eight_bit import as_bytes

    return as_bytes(frames_of(images, name)[0])


def _motion(flow: GraphFlow, shape: tuple[int, ...]) -> list[Motion]:
    """The flow on the result's grid; shape: (f, H, W, 3) of the result."""
    from ..genve_core.clip import MULTIPLE
    from ..genve_core.evaluation.clip_metrics import motion_of_flow
    from ..genve_core.video_codec import padded_size

    frames, h, w = flow.images.shape[:3]
    if (frames, h, w) != shape[:3]:
        raise InputError(f"the flow is of {frames} frames of {w}x{h} px, the result has {shape[0]} of {shape[2]}x{shape[1]}; "
                         f"wire the flow of this result's own graph, or none")
    return motion_of_flow(flow.flow, padded_size((h, w), MULTIPLE), (h, w))
