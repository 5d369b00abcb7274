"""Video Diffuser Sampler: the backward process under guidance, and the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io
from torch import Tensor

from ..genve_core.sizes import Sizes
from .clips import channels_of, check_shows, moved, upscaled_clip
from .compat import advanced, schema
from .convert import check_same_clip, images_of, latent_of, latents_of
from .run import Progress, explained, frames_at_once, retrying_smaller, text_ui, to_host
from .sockets import GraphGuidance, GuidanceSocket, as_guidance

if TYPE_CHECKING:
    from ..genve_core.clip import Clip
    from ..genve_core.media import ColourConfig

COLOURS = ["low", "adain", "none"]
COLOUR = ("What the output takes from the input's colours: low (its low frequencies), adain (mean and contrast over the clip), "
          "or none.")
STEADINESS = "How much neighbouring frames are fused against flicker, as a share: 0 not at all."
WINDOW = "Frames denoised together; longer clips are cut into such windows. 16 is what genve-mini was trained with."
OVERLAP = "Frames that neighbouring windows share and cross-fade; less than the window."


class GenVEVideoDiffuserSampler(io.ComfyNode):
    """Section 3.4 of the paper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEVideoDiffuserSampler",
            display_name="Video Diffuser Sampler",
            category="GenVE",
            description="Denoises the clip under the controller's guidance, then decodes it with the reference's detail: the "
                        "finished frames.",
            search_aliases=["genve", "ksampler", "video sampler", "video diffusion", "decode"],
            inputs=[
                io.Latent.Input("z", display_name="Z", tooltip="Z of Upscale and Encode Video."),
                GuidanceSocket.Input("guidance", tooltip="From LCA Controller."),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Denoising steps; 0 = as many as the bundle recommends (genve-mini: 1)."),
                io.Int.Input("t1", display_name="T1", default=0, min=0, max=999,
                             tooltip="Start time of the denoising, of 1000; higher keeps less of Z. "
                                     "0 = what the bundle recommends (genve-mini: 30)."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True,
                             tooltip="Of the noise; the same seed gives the same frames."),
                advanced(io.Int.Input("window", default=16, min=1, max=256, tooltip=WINDOW)),
                advanced(io.Int.Input("overlap", default=4, min=0, max=255, tooltip=OVERLAP)),
                advanced(io.Combo.Input("colour", options=COLOURS, default="low", tooltip=COLOUR)),
                advanced(io.Float.Input("steadiness", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                                        display_mode=io.NumberDisplay.slider, tooltip=STEADINESS)),
            ],
            outputs=[
                io.Latent.Output("z_0", display_name="Z_0", tooltip="The denoised latents."),
                io.Image.Output("frames", display_name="IMAGE", tooltip="The finished frames, as large as the up-scaled."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, z, guidance, steps: int, t1: int, seed: int, window: int, overlap: int, colour: str,
                steadiness: float) -> io.NodeOutput:
        from ..genve_core.diffuser.windows import WindowConfig
        from ..genve_core.media import ColourConfig
        from ..genve_core.steps import check_window, diffuse

        steering = as_guidance(guidance)
        models, defaults = steering.models, steering.models.defaults
        Z = latents_of(z, channels_of(models), "Z")
        check_same_clip(Z, steering.flow.images, ("Z", "the guidance's clip"))
        clip = upscaled_clip(steering.flow.images, z=z)
        check_shows(models, Z, clip, len(clip) // 2, "the guidance's clip")
        check_window(models, window, Z.shape[1])
        times = defaults.video_times(steps or None, t1 or None)
        known = moved(steering.guidance, models.device)
        progress = Progress({"diffuse": 0.2 * len(times), "decode": 1.0})

        def denoise(sizes: Sizes) -> Tensor:
            return diffuse(models, Z, known, times, seed=seed, window=sizes.window, report=progress)

        Z_0, notes = retrying_smaller(denoise, Sizes(WindowConfig(window, overlap)), ("window",))
        frames, more = _decode(steering, clip, Z_0, ColourConfig(colour), steadiness, progress)  # type: ignore[arg-type]
        return io.NodeOutput(latent_of(Z_0), frames, ui=text_ui(*notes, *more))


def collect(frames: Iterator[Tensor], count: int, size: tuple[int, int], progress: Progress,
            alpha: Tensor | None = None) -> Tensor:
    """Finished frames (1, 3, H, W) in [-1, 1] as an IMAGE (count, H, W, 3 or 4), each shown as it comes.

    alpha: (count, h, w) in [0, 1], of the input.
    """
    images = to_host(torch.empty(count, *size, 3 if alpha is None else 4))
    for i, frame in enumerate(frames):
        images[i] = images_of(frame, None if alpha is None else alpha[i : i + 1])[0]
        progress.with_frame(frame[0])
    return images


def _decode(steering: GraphGuidance, clip: Clip, Z_0: Tensor, colour: ColourConfig, steadiness: float,
            progress: Progress) -> tuple[Tensor, tuple[str, ...]]:
    from ..genve_core.decode import decode_clip

    models = steering.models
    flow, references = moved(steering.flow.flow, models.device), moved(steering.references, models.device)

    def decode(sizes: Sizes) -> Tensor:
        frames = decode_clip(models, clip, Z_0, flow, references, n=steering.guidance.n,
                             strength=steering.strength, colour=colour,
                             steadiness=steadiness, chunk=frames_at_once(models, clip, sizes), tiling=sizes.tiling,
                             memory=steering.flow.memory, report=progress)
        return collect((frame.unsqueeze(0) for frame in frames), len(clip), clip.size, progress)

    return retrying_smaller(decode, parts=("chunk", "tile"))
