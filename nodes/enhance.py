"""Enhance Video (GenVE): the whole graph in one node."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..genve_core.sizes import Sizes
from .clips import CHOOSE, DEHALO, SIDE, one_picture, wanted_size
from .compat import advanced, schema
from .convert import file_behind, read_video, sound_of, video_of
from .film import enhance_file
from .reference import ALIGN, FIT, FITS
from .run import Progress, explained, retrying_smaller, temporary_file, text_ui
from .sampler import COLOUR, COLOURS, OVERLAP, STEADINESS, WINDOW, collect
from .sockets import BundleSocket, as_bundle

if TYPE_CHECKING:
    from ..genve_core.settings import EnhanceConfig
    from .engine import HostModels

# of the time a clip takes on two CPU cores, as benchmarks/enhance.py finds it, and in that order
SHARES = {"reference": 0.08, "encode": 0.08, "flow": 0.15, "diffuse": 0.18, "decode": 0.51}


class GenVEEnhanceVideo(io.ComfyNode):
    """Does what the graph of single nodes does, with the same result where `pyramid.worked_size` is the wanted size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEEnhanceVideo",
            display_name="Enhance Video (GenVE)",
            category="GenVE",
            description="A poor clip in, a better one out, with the look of one good frame: the whole GenVE graph in one node.",
            search_aliases=["genve", "video upscale", "video restoration", "super resolution", "enhance", "v2v"],
            inputs=[
                io.MultiType.Input("video", types=[io.Image, io.Video],
                                   tooltip="As IMAGE (frames), taken for one shot, or VIDEO: any size from 8 px, any number of "
                                           "frames. The file of a VIDEO is cut into its shots and read piece by piece."),
                io.Float.Input("scale", default=4.0, min=0.25, max=8.0, step=0.05, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Times the width and the height. genve-mini was trained for 1, 2 and 4; others are made "
                                       "at one of these and resized."),
                io.Int.Input("n", default=250, min=0, max=999, display_mode=io.NumberDisplay.slider,
                             tooltip="Noise level, of 1000: 0 keeps the input most, 999 invents most. "
                                     "250 is what genve-mini recommends."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Of the reference, as a share: 0 is exactly as without a reference, 1 is all of it."),
                io.Int.Input("key_frame", default=CHOOSE, min=CHOOSE, max=1_000_000,
                             tooltip="The frame that the reference shows, counted from 0; -1 chooses a sharp and central one."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True,
                             tooltip="The same seed gives the same result."),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Denoising steps; 0 = as many as the bundle recommends (genve-mini: 1)."),
                advanced(io.Int.Input("width", default=0, min=0, max=16384, tooltip=SIDE)),
                advanced(io.Int.Input("height", default=0, min=0, max=16384, tooltip=SIDE)),
                advanced(io.Combo.Input("fit", options=FITS, default="cover", tooltip=FIT)),
                advanced(io.Boolean.Input("match_colour", default=True,
                                          tooltip="Give the reference the key frame's colours; off keeps its own.")),
                advanced(io.Int.Input("window", default=16, min=1, max=256, tooltip=WINDOW)),
                advanced(io.Int.Input("overlap", default=4, min=0, max=255, tooltip=OVERLAP)),
                advanced(io.Combo.Input("colour", options=COLOURS, default="low", tooltip=COLOUR)),
                advanced(io.Float.Input("steadiness", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                                        display_mode=io.NumberDisplay.slider, tooltip=STEADINESS)),
                io.Image.Input("reference", optional=True,
                               tooltip="One good picture of the key frame, any size; without it, one is made from the clip."),
                BundleSocket.Input("bundle", optional=True, tooltip="From Load GenVE Bundle; without it, genve-mini."),
                advanced(io.Boolean.Input("all_frames", default=True, optional=True,
                                          tooltip="Off, for a long VIDEO file: IMAGE is the first frame only, VIDEO is a file "
                                                  "in ComfyUI's temp folder, and memory does not depend on the length.")),
                advanced(io.Float.Input("preclean", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, optional=True,
                                        display_mode=io.NumberDisplay.slider,
                                        tooltip="For clips much poorer than their size, of old cameras and codecs: how much "
                                                "a pass at their own size cleans them before they are enlarged; 0 = none.")),
                advanced(io.Float.Input("dehalo", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, optional=True,
                                        display_mode=io.NumberDisplay.slider, tooltip=DEHALO)),
                advanced(io.Boolean.Input("align", default=True, optional=True, tooltip=ALIGN)),
                advanced(io.Boolean.Input("supersample", default=False, optional=True,
                                          tooltip="Without a reference, work at twice the size wanted, at most at 4 times, and "
                                                  "reduce: crisper, and for a scale of 1 or 2 four times the work.")),
            ],
            outputs=[
                io.Image.Output("frames", display_name="IMAGE", tooltip="The finished frames; an RGBA IMAGE keeps its alpha."),
                io.Video.Output("enhanced_video", display_name="VIDEO",
                                tooltip="The same with the input's frame rate and sound; 25 frames per second for an IMAGE."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, video, scale: float, n: int, strength: float, key_frame: int, seed: int, steps: int, width: int,
                height: int, fit: str, match_colour: bool, window: int, overlap: int, colour: str, steadiness: float,
                reference=None, bundle=None, all_frames: bool = True, preclean: float = 0.0,
                dehalo: float = 0.0, align: bool = True, supersample: bool = False) -> io.NodeOutput:
        from ..genve_core.diffuser.windows import WindowConfig
        from ..genve_core.media import ColourConfig, probe
        from ..genve_core.pipeline import EnhanceConfig, Enhancer

        models = _bundled() if bundle is None else as_bundle(bundle)
        picture = None if reference is None else one_picture(reference, "reference")
        chosen = EnhanceConfig(
            noise_level=n, steps=steps or None, reference_strength=strength, preclean=preclean, dehalo=dehalo,
            seed=seed, supersample=supersample, fit=fit, match_colour=match_colour, align=align,  # type: ignore[arg-type]
            colour=ColourConfig(colour), steadiness=steadiness, window=WindowConfig(window, overlap))  # type: ignore[arg-type]
        key, path = None if key_frame == CHOOSE else key_frame, file_behind(video)
        if path is None:
            return _clip(video, models, chosen, picture, key, (scale, width, height))
        info = probe(path)
        enhancer = Enhancer(models, replace(chosen, size=wanted_size(info.height, info.width, scale, width, height)))
        out = None if all_frames else temporary_file(".mp4")
        progress = Progress(_shares(enhancer.config, info.height, info.width))
        made = enhance_file(path, enhancer, picture, key, progress, out)
        if out is None:
            return io.NodeOutput(made.images, video_of(made.images, sound_of(path, info), info.rate), ui=text_ui(*made.notes))
        return io.NodeOutput(made.images, InputImpl.VideoFromFile(str(out)), ui=text_ui(*made.notes))


def _clip(video: Any, models: HostModels, chosen: EnhanceConfig, picture: Tensor | None, key: int | None,
          wanted: tuple[float, int, int]) -> io.NodeOutput:
    """One shot that is in memory. wanted: scale, width, height."""
    from ..genve_core.pipeline import Enhancer
    from ..genve_core.steps import check_window

    progress = Progress({})
    source = read_video(video, on_frame=partial(progress, "look"))
    check_window(models, chosen.window.length, len(source.frames))
    size = wanted_size(*source.frames.shape[-2:], *wanted)
    chosen = replace(chosen, size=size, key_frame=key)
    progress.shares = _shares(chosen, *source.frames.shape[-2:])

    def enhance(sizes: Sizes) -> tuple[Tensor, tuple[str, ...]]:
        enhancer = Enhancer(models, sizes.into(chosen))
        frames = enhancer.run(source.frames, picture, progress)
        return collect(frames, len(source.frames), size, progress, source.alpha), enhancer.notes

    (images, notes), more = retrying_smaller(enhance, Sizes.of(chosen), ("chunk", "tile", "window"))
    return io.NodeOutput(images, video_of(images, source.audio, source.rate),
                         ui=text_ui(*source.notes, *notes, *more))


def _shares(config: EnhanceConfig, h: int, w: int) -> dict[str, float]:
    """Of each stage in the work on frames of h x w pixels; the first pass of preclean works on those themselves."""
    H, W = config.output_size(h, w)
    first = {"preclean": h * w / (H * W)} if config.preclean else {}
    return {"look": 0.01, **first, **SHARES}


def _bundled() -> HostModels:
    """The bundle that ships with the pack, kept for the next run; the host takes it off the device when it must."""
    from ..genve_core.bundle import DEFAULT_BUNDLE
    from .model_folder import fingerprint

    return _loaded(DEFAULT_BUNDLE, fingerprint(DEFAULT_BUNDLE))


@lru_cache(maxsize=1)
def _loaded(name: str, state: str) -> HostModels:
    """state: of the files, so that replaced weights are loaded anew."""
    from ..genve_core.bundle import load_bundle
    from .engine import HostModels
    from .model_folder import bundle_folder

    return HostModels(load_bundle(bundle_folder(name)))
