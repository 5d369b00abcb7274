"""For node_overhead.py: custom nodes that let ComfyUI's own process call `genve_core` directly."""

from __future__ import annotations

import os
import sys
import time

import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io

sys.path.insert(0, os.environ["GENVE_ROOT"])

MODELS = {}  # kept from run to run, as the host keeps the bundle's


class GenVEBenchmarkDirect(io.ComfyNode):
    """A video file in the input folder -> its enhanced frames; shows its own seconds, of the clock and of the CPU."""

    @classmethod
    def define_schema(cls):
        return io.Schema("GenVEBenchmarkDirect", is_output_node=True, outputs=[io.Image.Output("frames")], inputs=[
            io.String.Input("file"), io.Float.Input("scale"), io.Int.Input("run", max=2**31)])

    @classmethod
    def execute(cls, file, scale, run):
        from genve_core.bundle import load_bundle
        from genve_core.media import VideoReader
        from genve_core.models import Models
        from genve_core.pipeline import EnhanceConfig, Enhancer

        if not MODELS:
            MODELS["mini"] = Models(load_bundle("genve-mini"))
        clock, cpu = time.perf_counter(), time.process_time()
        with VideoReader(os.path.join(folder_paths.get_input_directory(), file)) as video:
            frames = torch.stack([frame.rgb for frame in video])
        enhanced = torch.cat(list(Enhancer(MODELS["mini"], EnhanceConfig(scale=scale)).run(frames)))
        seconds = [time.perf_counter() - clock, time.process_time() - cpu]
        return io.NodeOutput((enhanced.movedim(1, -1) + 1) / 2, ui={"seconds": seconds})


class GenVEBenchmarkEnd(io.ComfyNode):
    """Makes the host compute what is wired to it."""

    @classmethod
    def define_schema(cls):
        return io.Schema("GenVEBenchmarkEnd", is_output_node=True, inputs=[io.Image.Input("images")])

    @classmethod
    def execute(cls, images):
        return io.NodeOutput()


class BenchmarkExtension(ComfyExtension):
    async def get_node_list(self):
        return [GenVEBenchmarkDirect, GenVEBenchmarkEnd]


def comfy_entrypoint():
    return BenchmarkExtension()
