"""A custom node file for the tests' server: makes inputs without files and keeps what comes out, to the bit.

It lies in custom_nodes beside the pack.
"""

import os
import sys
from fractions import Fraction

import folder_paths
import torch
from comfy_api.latest import ComfyExtension, InputImpl, Types, io


class ProbeImages(io.ComfyNode):
    """Soft moving colours of 8 bit, the same for the same seed."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeImages", inputs=[
            io.Int.Input("frames", default=4, min=0), io.Int.Input("width", default=48), io.Int.Input("height", default=32),
            io.Int.Input("channels", default=3), io.Int.Input("seed", default=0),
        ], outputs=[io.Image.Output("made"), io.Video.Output("made_video")])

    @classmethod
    def execute(cls, frames, width, height, channels, seed):
        coarse = torch.rand(1, channels, 7, 9, generator=torch.Generator().manual_seed(seed))
        wide = torch.nn.functional.interpolate(coarse, size=(height, width + 2 * frames), mode="bicubic").clamp(0, 1)
        wide = (wide[0] * 255).round().movedim(0, -1) / 255
        made = torch.stack([wide[:, 2 * i : 2 * i + width] for i in range(frames)]) if frames else wide[None][:0]
        parts = Types.VideoComponents(images=made[..., :3], audio=None, frame_rate=Fraction(25))
        return io.NodeOutput(made, InputImpl.VideoFromComponents(parts))


class ProbeLoad(io.ComfyNode):
    """Anything that was put into the input folder with `torch.save`, on a socket that fits everywhere."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeLoad", inputs=[io.String.Input("file")], outputs=[io.AnyType.Output("loaded")])

    @classmethod
    def execute(cls, file):
        return io.NodeOutput(torch.load(os.path.join(folder_paths.get_input_directory(), file), weights_only=True))


class ProbeAny(io.ComfyNode):
    """Passes a value on through a wildcard socket, so that it can be wired where its type does not fit."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeAny", inputs=[io.AnyType.Input("value")], outputs=[io.AnyType.Output("same")])

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(value)


class ProbeSave(io.ComfyNode):
    """Keeps a tensor, or what tensors and numbers a dictionary holds, in the output folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeSave", is_output_node=True, inputs=[io.AnyType.Input("value"), io.String.Input("file")])

    @classmethod
    def execute(cls, value, file):
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if isinstance(v, (torch.Tensor, int, float, str))}
        elif not isinstance(value, torch.Tensor):
            value = str(type(value))
        torch.save(value, os.path.join(folder_paths.get_output_directory(), file))
        return io.NodeOutput()


class ProbeSlow(io.ComfyNode):
    """Takes a while, in steps of 50 ms with a preview each."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeSlow", is_output_node=True, inputs=[io.Int.Input("steps", default=10)])

    @classmethod
    def execute(cls, steps):
        import time

        import comfy.utils
        from PIL import Image

        bar = comfy.utils.ProgressBar(steps)
        for i in range(steps):
            time.sleep(0.05)
            bar.update_absolute(i + 1, steps, ("JPEG", Image.new("RGB", (8, 8), (i, 0, 0)), 8))
        return io.NodeOutput()


class ProbeNotes(io.ComfyNode):
    """Shows a note through the pack's own `text_ui`."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeNotes", is_output_node=True, inputs=[io.String.Input("note")])

    @classmethod
    def execute(cls, note):
        (run,) = (module for name, module in sys.modules.items() if name.endswith("ComfyUI-GenVE.nodes.run"))
        return io.NodeOutput(ui=run.text_ui(note))


class ProbeMemory(io.ComfyNode):
    """What the host holds: the networks it has loaded, and this process's memory in bytes."""

    @classmethod
    def define_schema(cls):
        return io.Schema("ProbeMemory", is_output_node=True, inputs=[io.AnyType.Input("after", optional=True)])

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return float("nan")  # always anew

    @classmethod
    def execute(cls, after=None):
        import gc

        import comfy.model_management as management
        import psutil

        gc.collect()
        loaded = [type(m.model.model).__name__ for m in management.current_loaded_models if m.model is not None]
        return io.NodeOutput(ui={"loaded": loaded, "bytes": [psutil.Process().memory_info().rss]})


class ProbeExtension(ComfyExtension):
    async def get_node_list(self):
        return [ProbeImages, ProbeLoad, ProbeAny, ProbeSave, ProbeSlow, ProbeNotes, ProbeMemory]


def comfy_entrypoint():
    return ProbeExtension()
