"""Noise Sweep: some frames at several noise levels and with several references, in one labelled sheet."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..genve_core.errors import InputError
from ..genve_core.sizes import Sizes
from .clips import channels_of, check_shows, moved, upscaled_clip
from .compat import advanced, schema
from .convert import check_same_clip, images_of, latents_of
from .run import Progress, explained, retrying_smaller, text_ui, to_host
from .sampler import OVERLAP, WINDOW
from .sockets import BundleSocket, FlowSocket, ReferenceSocket, as_bundle, as_flow, as_reference


class GenVENoiseSweep(io.ComfyNode):
    """The dial of section 3.3 of the paper, seen at several settings side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVENoiseSweep",
            display_name="Noise Sweep",
            category="GenVE",
            description="Enhances a few frames at several noise levels, with up to three references, and shows them in one "
                        "labelled sheet: pick the level to use. Only what these frames need is computed.",
            search_aliases=["genve", "xy plot", "grid", "contact sheet", "compare settings", "noise level", "n"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("z", display_name="Z", tooltip="Z of Upscale and Encode Video."),
                ReferenceSocket.Input("reference", tooltip="From Semantic-Aligning Reference or Reference from Image."),
                FlowSocket.Input("flow", tooltip="From Optical Flow, with the key frames of all references."),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.String.Input("levels", default="0, 100, 250, 400",
                                tooltip="Noise levels n, of 1000 each, separated by commas: one column each."),
                io.String.Input("frames", default="",
                                tooltip="Frames counted from 0, separated by commas: one row each. Empty: as many as below, "
                                        "evenly apart."),
                io.Int.Input("frame_count", default=2, min=1, max=50, tooltip="Number of frames, if none are named above."),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Denoising steps; 0 = as many as the bundle recommends (genve-mini: 1)."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=False,
                             tooltip="Of all noise; the same seed in Noise Augmentation and Video Diffuser Sampler gives "
                                     "the same frames."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="Of the references, as a share: 0 is exactly as without any, 1 is all of it."),
                advanced(io.Int.Input("window", default=16, min=1, max=256, tooltip=WINDOW)),
                advanced(io.Int.Input("overlap", default=4, min=0, max=255, tooltip=OVERLAP)),
                advanced(io.Int.Input("cell_width", default=320, min=64, max=4096,
                                      tooltip="Width of a picture in the sheet, in pixels; smaller ones stay as they are.")),
                ReferenceSocket.Input("reference_b", optional=True, tooltip="Another reference, tried at every level (B)."),
                ReferenceSocket.Input("reference_c", optional=True, tooltip="One more, tried at every level (C)."),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet",
                                tooltip="One picture: a row for each frame, a column for the input and for each setting."),
                io.Image.Output("pictures", display_name="IMAGE",
                                tooltip="The enhanced frames at full size, in the order of the sheet: row by row, without "
                                        "the input's column."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, z, reference, flow, bundle, levels: str, frames: str, frame_count: int, steps: int, seed: int,
                strength: float, window: int, overlap: int, cell_width: int, reference_b=None,
                reference_c=None) -> io.NodeOutput:
        from ..genve_core.diffuser.windows import WindowConfig
        from ..genve_core.reference.key_frame import parse_numbers
        from ..genve_core.steps import check_window
        from ..genve_core.sweep import SweepConfig, spread, sweep

        models, motion = as_bundle(bundle), as_flow(flow)
        clip = upscaled_clip(motion.images, z=z)
        Z = latents_of(z, channels_of(models), "Z")
        check_same_clip(Z, motion.images, ("Z", "the flow's clip"))
        check_shows(models, Z, clip, len(clip) // 2, "the flow's clip")
        check_window(models, window, len(clip))
        chosen = tuple(parse_numbers(frames, "frames")) or spread(frame_count, len(clip))
        tried = moved(_references({"A": reference, "B": reference_b, "C": reference_c}, Z), models.device)
        known = moved(motion.flow, models.device)
        progress = Progress({"sweep": 1.0})

        def make(sizes: Sizes) -> list[tuple[str, list[torch.Tensor]]]:
            config = SweepConfig(tuple(parse_numbers(levels, "levels")), chosen, steps or None, seed, strength, sizes.window)
            # no preview of frames: front ends would go on showing it in place of the sheet
            return list(sweep(models, clip, Z, tried, known, config, report=progress))

        columns, notes = retrying_smaller(make, Sizes(WindowConfig(window, overlap)), ("window",))
        sheet = _sheet(motion.images, chosen, columns, cell_width)
        pictures = images_of(torch.stack([column[row] for row in range(len(chosen)) for _, column in columns]))
        text = text_ui(*notes) or {}
        return io.NodeOutput(sheet, pictures, ui={**ui.PreviewImage(sheet, cls=cls).as_dict(), **text})


def _references(given: dict[str, Any], Z: torch.Tensor) -> dict[str, Any]:
    """Label -> references used together; the label of the only one is empty. Raises InputError for those of another clip."""
    tried = {label: as_reference(value, f"reference {label}") for label, value in given.items() if value is not None}
    for label, one in tried.items():
        if one.n is not None:
            raise InputError(f"reference {label} is y_n of Noise Augmentation, wanted one without noise; "
                             f"wire Semantic-Aligning Reference or Reference from Image to it")
        for picture in one.references:
            if picture.y.shape != Z.shape[2:]:
                raise InputError(f"reference {label} has {tuple(picture.y.shape)} latents (channels, height, width), Z has "
                                 f"{tuple(Z.shape[2:])}: they are of different clips; wire both from one Upscale and Encode "
                                 f"Video")
    return {label if len(tried) > 1 else "": one.references for label, one in tried.items()}


def _sheet(images: torch.Tensor, chosen: tuple[int, ...], columns: list[tuple[str, list[torch.Tensor]]],
           cell_width: int) -> torch.Tensor:
    """The labelled sheet as an IMAGE of one picture."""
    from ..genve_core.evaluation.pictures import contact_sheet

    cells = [[images[frame, ..., :3].movedim(-1, 0), *((column[row] + 1) / 2 for _, column in columns)]
             for row, frame in enumerate(chosen)]
    labels = ["input, up-scaled", *(label for label, _ in columns)]
    sheet = contact_sheet(cells, [f"frame {frame}" for frame in chosen], labels, cell_width=cell_width)
    return to_host(sheet.movedim(0, -1).unsqueeze(0).contiguous())
