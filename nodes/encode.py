"""Upscale and Encode Video: from poor frames to Z and the up-scaled frames."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..genve_core.sizes import Sizes
from ..genve_core.video_codec import crop
from .clips import ALPHA_LEFT_OUT, CHOOSE, DEHALO, ENLARGEMENT, ONE_SHOT, SIDE, key_frame_of, wanted_size
from .compat import advanced, schema
from .convert import RATE, images_of, latent_of, read_video
from .run import Progress, explained, frames_at_once, retrying_smaller, text_ui, to_host
from .sockets import BundleSocket, as_bundle

if TYPE_CHECKING:
    from ..genve_core.clip import Clip

RESIZE = ("The clip is enlarged {:.3g} times. Unless a picture is given, {:g} is better here, and the finished frames resized "
          "after that; Enhance Video (GenVE) does so by itself.")


class GenVEUpscaleEncode(io.ComfyNode):
    """Section 3.1 of the paper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEUpscaleEncode",
            display_name="Upscale and Encode Video",
            category="GenVE",
            description="Takes a poor clip up to the wanted size (bicubic) and encodes it: the start of the GenVE graph.",
            search_aliases=["genve", "video upscale", "vae encode video", "enhance", "super resolution"],
            inputs=[
                io.MultiType.Input("video", types=[io.Image, io.Video], tooltip=ONE_SHOT),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.Float.Input("scale", default=4.0, min=0.25, max=8.0, step=0.05, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Times the width and the height. genve-mini was trained for 1, 2 and 4; for others, "
                                       "resize the finished frames."),
                advanced(io.Int.Input("width", default=0, min=0, max=16384, tooltip=SIDE)),
                advanced(io.Int.Input("height", default=0, min=0, max=16384, tooltip=SIDE)),
                advanced(io.Float.Input("dehalo", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, optional=True,
                                        display_mode=io.NumberDisplay.slider, tooltip=DEHALO)),
            ],
            outputs=[
                io.Latent.Output("z", display_name="Z", tooltip="Latents of the up-scaled frames, one per frame."),
                io.Image.Output("images", display_name="up-scaled",
                                tooltip="The frames at the wanted size, bicubic; flow and references are made on them."),
                io.Int.Output("key_frame", display_name="key frame",
                              tooltip="A sharp and central frame, counted from 0. Wire it to the key frame of the reference "
                                      "and of the flow."),
                io.Float.Output("frame_rate", display_name="frame rate",
                                tooltip="Frames per second, for Create Video; 25 for an IMAGE, which has none."),
                io.Audio.Output("audio", display_name="audio", tooltip="Of the VIDEO, for Create Video; none for an IMAGE."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, video, bundle, scale: float, width: int, height: int, dehalo: float = 0.0) -> io.NodeOutput:
        from ..genve_core.clip import Clip
        from ..genve_core.dehalo import without_rims
        from ..genve_core.pyramid import worked
        from ..genve_core.steps import encode_clip

        models = as_bundle(bundle)
        progress = Progress({"read": 0.1, "upscale": 0.2, "encode": 0.7})
        source = read_video(video, on_frame=partial(progress, "read"))
        clip = Clip(without_rims(source.frames, dehalo, progress), wanted_size(*source.frames.shape[-2:], scale, width, height))
        key_frame = key_frame_of(CHOOSE, source.frames)
        images = _upscaled(clip, models.device, progress)

        def encode(sizes: Sizes) -> Tensor:
            return encode_clip(models, clip, tiling=sizes.tiling, chunk=frames_at_once(models, clip, sizes), report=progress)

        Z, notes = retrying_smaller(encode, parts=("chunk", "tile"))
        if source.alpha is not None:
            notes += (ALPHA_LEFT_OUT,)
        if (better := worked(clip, given=False)) is not clip:
            notes += (RESIZE.format(clip.enlargement, round(better.enlargement)),)
        latent = latent_of(Z, **{ENLARGEMENT: clip.enlargement})
        return io.NodeOutput(latent, images, key_frame, float(source.rate or RATE), source.audio,
                             ui=text_ui(*source.notes, *notes))


def _upscaled(clip: Clip, device: torch.device, progress: Progress) -> Any:
    """The up-sampled frames as an IMAGE (f, H, W, 3): the very numbers that are encoded."""
    images = to_host(torch.empty(len(clip), *clip.size, 3))
    for i in range(len(clip)):
        up = crop(clip.up_at(i, device), clip.size)
        images[i] = images_of(up)[0]
        progress("upscale", i + 1, len(clip))
        progress.with_frame(up[0])
    return images
