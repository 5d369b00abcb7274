"""Compare: before and after under one draggable split, frame by frame, with the reference as an inset."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..genve_core.errors import InputError
from .compat import advanced, schema
from .convert import frames_of
from .run import Progress, explained

RESIZE = ["bicubic", "nearest"]
STRETCH = 1.1  # before and after may differ in aspect by this factor: sizes are often rounded to whole blocks
QUALITY = 95  # of the JPEGs, at full colour resolution: blocks and blur of the clips themselves must stay visible


class GenVECompare(io.ComfyNode):
    """Shows two clips of the same frames on top of each other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVECompare",
            display_name="Compare",
            category="GenVE",
            description="Shows a clip before and after under one draggable split, frame by frame, with the reference "
                        "as an inset.",
            search_aliases=["before after", "image compare", "video compare", "slider", "difference", "wipe"],
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="The poor frames, at any size: they are shown at the size of after."),
                io.Image.Input("after", tooltip="The enhanced frames: as many as before."),
                io.Int.Input("key_frame", default=-1, min=-1, max=99999,
                             tooltip="The frame that the reference depicts, counted from 0; marked below the picture. "
                                     "-1: not known."),
                io.Float.Input("frames_per_second", default=24.0, min=0.1, max=240.0, step=0.1, round=0.001,
                               tooltip="Speed of playback, in frames per second."),
                io.Combo.Input("resize", options=RESIZE, default="bicubic",
                               tooltip="How before is brought to the size of after: bicubic, as a player shows it; "
                                       "nearest, to see its pixels."),
                advanced(io.Int.Input("most_frames", default=240, min=1, max=2000,
                                      tooltip="How many frames are kept for the view. Of a longer clip every 2nd, 3rd, "
                                              "... frame is shown.")),
                io.Image.Input("reference", optional=True,
                               tooltip="The picture that guided the enhancement, shown as an inset. One picture."),
            ],
            outputs=[
                io.Image.Output("frames", display_name="after",
                                tooltip="The frames of after, unchanged, so that the node can sit in the middle of a wire."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, before: Tensor, after: Tensor, key_frame: int, frames_per_second: float, resize: str,
                most_frames: int = 240, reference: Tensor | None = None) -> io.NodeOutput:
        size = check_pair(before, after)
        check_widgets(frames_per_second, resize, most_frames)
        check_reference(reference, key_frame, len(after))
        shown = range(0, len(after), -(-len(after) // most_frames))
        saved = save_all({"a": before, "b": after}, shown, size, resize)
        info = {
            "frames": list(shown), "of": len(after), "key_frame": key_frame, "frames_per_second": frames_per_second,
            "before": [before.shape[2], before.shape[1]], "after": [size[1], size[0]],
        }
        view: dict[str, Any] = {"a_images": saved["a"], "b_images": saved["b"], "genve_compare": [info]}
        if reference is not None:
            view["reference_images"] = save_all({"r": reference}, range(1), None, resize)["r"]
        return io.NodeOutput(after, ui=view)


def check_widgets(frames_per_second: float, resize: str, most_frames: int) -> None:
    """Raises InputError for values that only a wire or another program can bring: hosts do not check all of them."""
    if not frames_per_second > 0:
        raise InputError(f"frames_per_second must be above 0, got {frames_per_second:g}; 24 is a usual rate")
    if resize not in RESIZE:
        raise InputError(f"resize must be one of {', '.join(RESIZE)}, got {resize!r}")
    if most_frames < 1:
        raise InputError(f"most_frames must be at least 1, got {most_frames}; 240 is the default")


def check_pair(before: Tensor, after: Tensor) -> tuple[int, int]:
    """The size (h, w) in pixels at which both are shown. Raises InputError if they cannot be of the same frames."""
    for name, images in (("before", before), ("after", after)):
        check_images(images, name)
    if len(before) != len(after):
        raise InputError(f"before has {len(before)} frames and after {len(after)}, wanted as many; wire the frames that "
                         f"went into the enhancement and those that came out")
    (h0, w0), (h, w) = before.shape[1:3], after.shape[1:3]
    if max(w0 * h, w * h0) > STRETCH * min(w0 * h, w * h0):
        raise InputError(f"before is {w0}x{h0} px and after {w}x{h} px, wanted the same aspect; crop or rotate one of "
                         f"them to the shape of the other")
    return h, w


def check_images(images: Tensor, name: str) -> None:
    """Raises InputError for what is no IMAGE, or empty; without converting a long clip as a whole."""
    frames_of(images[:1] if isinstance(images, Tensor) else images, name)


def check_reference(reference: Tensor | None, key_frame: int, frames: int) -> None:
    """Raises InputError unless `reference` is one picture or None, and `key_frame` one of `frames` frames or -1."""
    from ..genve_core.reference.key_frame import check_key_frame

    if key_frame != -1:
        check_key_frame(key_frame, frames)
    if reference is None:
        return
    check_images(reference, "reference")
    if len(reference) > 1:
        raise InputError(f"reference holds {len(reference)} pictures, wanted one; pick it with Image From Batch")


def save_all(clips: dict[str, Tensor], shown: range, size: tuple[int, int] | None,
             resize: str) -> dict[str, list[dict[str, str]]]:
    """Write frames of IMAGEs to the temp folder; name of the clip -> its files as the front end wants them.

    size: (h, w) in pixels, None leaves them as they are.   The names are new in every run, so that no browser shows
    an old file. Stops at Interrupt.
    """
    import folder_paths

    folder, name, _, subfolder, _ = folder_paths.get_save_image_path(
        f"genve_compare/{secrets.token_hex(4)}", folder_paths.get_temp_directory()
    )
    progress = Progress(dict.fromkeys(clips, 1.0))
    saved: dict[str, list[dict[str, str]]] = {}
    for clip, images in clips.items():
        saved[clip] = []
        for done, i in enumerate(shown):
            progress(clip, done, len(shown))
            file = f"{name}_{clip}_{i:05}.jpg"
            _save(images[i : i + 1], size, RESIZERS[resize], os.path.join(folder, file))
            saved[clip].append({"filename": file, "subfolder": subfolder, "type": "temp"})
    return saved


def _save(images: Tensor, size: tuple[int, int] | None, resized: Callable[[Tensor, tuple[int, int]], Tensor],
          path: str) -> None:
    """One frame of an IMAGE (1, h, w, 3 or 4) as a JPEG; alpha is not shown."""
    from PIL import Image

    from ..genve_core.media.pixels import to_rgb_frame

    frames, _ = frames_of(images)
    if size is not None and frames.shape[-2:] != size:
        frames = resized(frames, size)
    picture = to_rgb_frame(frames[0].cpu(), "rgb24").to_ndarray()
    Image.fromarray(picture).save(path, quality=QUALITY, subsampling=0)


def _bicubic(frames: Tensor, size: tuple[int, int]) -> Tensor:
    from ..genve_core.video_codec import upsample

    return upsample(frames.unsqueeze(0), size)[0]


def _nearest(frames: Tensor, size: tuple[int, int]) -> Tensor:
    import comfy.utils

    return comfy.utils.common_upscale(frames, size[1], size[0], "nearest-exact", "disabled")


RESIZERS = {"bicubic": _bicubic, "nearest": _nearest}
