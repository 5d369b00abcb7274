"""Preclean Video: a first pass at the clip's own size, for the graph of single nodes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from ..genve_core.sizes import Sizes, window_of
from .clips import ALPHA_LEFT_OUT, ONE_SHOT
from .compat import schema
from .convert import images_of, read_video, video_of
from .run import Progress, explained, retrying_smaller, text_ui
from .sockets import BundleSocket, as_bundle

if TYPE_CHECKING:
    from ..genve_core.models import Models


class GenVEPreclean(io.ComfyNode):
    """What `preclean` of Enhance Video does before it enlarges."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEPreclean",
            display_name="Preclean Video",
            category="GenVE",
            description="Cleans a clip at its own size, before Upscale and Encode Video: for clips much poorer than their "
                        "size, as of old cameras and codecs.",
            search_aliases=["genve", "clean video", "deblock", "restore", "denoise video", "preclean"],
            inputs=[
                io.MultiType.Input("video", types=[io.Image, io.Video], tooltip=ONE_SHOT),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.Float.Input("preclean", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="How much of what this pass changes is let in, and how far the decoder that was trained "
                                       "for such frames takes the place of the other; 0 = the clip as it is."),
            ],
            outputs=[
                io.Video.Output("cleaned", display_name="VIDEO", tooltip="The cleaned clip, with the sound of the one before."),
                BundleSocket.Output("cleaned_bundle", display_name="bundle",
                                    tooltip="With the decoder for such frames: wire it to the nodes that follow."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, video, bundle, preclean: float) -> io.NodeOutput:
        from ..genve_core.pipeline import Enhancer
        from ..genve_core.segments import InMemory
        from ..genve_core.settings import EnhanceConfig
        from ..genve_core.steps import longest_window

        models, chosen = as_bundle(bundle), EnhanceConfig(preclean=preclean)
        # no widget says how long windows are, so none has to be set right
        chosen = replace(chosen, window=window_of(min(chosen.window.length, longest_window(models))))
        progress = Progress({"read": 0.1, "preclean": 0.9})
        source = read_video(video, on_frame=partial(progress, "read"))

        def clean(sizes: Sizes) -> tuple[Tensor, Models]:
            enhancer = Enhancer(models, sizes.into(chosen))
            shot = enhancer.prepared(InMemory(source.frames), progress)
            return shot.read(range(len(shot))), enhancer.models

        (frames, cleaning), notes = retrying_smaller(clean, Sizes.of(chosen), ("chunk", "tile", "window"))
        if source.alpha is not None:
            notes += (ALPHA_LEFT_OUT,)
        return io.NodeOutput(video_of(images_of(frames), source.audio, source.rate), cleaning,
                             ui=text_ui(*source.notes, *notes))
