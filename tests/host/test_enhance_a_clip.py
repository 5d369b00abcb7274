"""What the first workflow promises, at the size that people use: 16 frames of 176x112 px to 704x448."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from host.graph import node
from host.server import ROOT
from host.workflow_files import as_prompt
from media_clips import to_bytes, write_clip
from PIL import Image

from genve_core.cli import main

FROM_NOISE = {"GenVENoiseAugmentation", "GenVETemporalAugmentation", "GenVELCAController", "GenVEVideoDiffuserSampler",
              "GenVECompare", "CreateVideo", "SaveVideo", "ProbeSave"}
SECONDS = 90  # for the whole workflow on two cores, once the weights are loaded


@pytest.fixture(scope="module")
def clip(host):
    """An H.264 file of soft texture that moves by 1.5 px a frame."""
    coarse = torch.rand(1, 3, 28, 60, generator=torch.Generator().manual_seed(3))
    wide = torch.nn.functional.interpolate(coarse, size=(224, 480), mode="bicubic").clamp(0, 1)[0] * 2 - 1
    frames = torch.stack([wide[:, :, 3 * i : 3 * i + 352] for i in range(16)])
    frames = torch.nn.functional.avg_pool2d(frames, 2)
    return write_clip(host.input / "poor.mp4", list(to_bytes(frames)), codec="libx264", pixel_format="yuv420p")


@pytest.fixture(scope="module")
def workflow(host, clip):
    """Enhance a clip, on that file; "keep" keeps the frames."""
    file = json.loads((ROOT / "workflows" / "Enhance a clip.json").read_text(encoding="utf-8"))
    prompt = as_prompt(file, host.get("/object_info"))
    prompt[of(prompt, "LoadVideo")]["inputs"]["file"] = clip.name
    return {**prompt, "keep": node("ProbeSave", value=[of(prompt, "GenVEVideoDiffuserSampler"), 1], file="frames.pt")}


def of(prompt, kind):
    (number,) = (part for part in prompt if prompt[part]["class_type"] == kind)
    return number


def done(host, prompt):
    result = host.run(prompt)
    assert result.status == "success", result.errors
    return result


def test_its_frames_are_the_command_lines_and_a_turned_dial_is_cheaper(host, clip, workflow, tmp_path, record_property):
    assert done(host, workflow).executed, "loads the weights"
    os.utime(clip, (1, 1))  # another file for the host
    whole = done(host, workflow)
    assert {*workflow} - {*whole.executed} == {of(workflow, "GenVELoadBundle")}
    assert whole.seconds < SECONDS
    frames = host.saved("frames.pt")

    assert main(["enhance", str(clip), "-o", str(tmp_path / "frames")]) == 0
    wanted = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "frames").glob("*.png"))])
    assert wanted.shape == (16, 448, 704, 3)
    assert np.array_equal((frames.double() * 255).round().byte().numpy(), wanted)

    noise = of(workflow, "GenVENoiseAugmentation")
    turned = {**workflow, noise: node("GenVENoiseAugmentation", **{**workflow[noise]["inputs"], "n": 100})}
    again = done(host, turned)
    assert {workflow[part]["class_type"] for part in again.executed} == FROM_NOISE
    record_property("seconds", f"{whole.seconds:.1f}, with another n {again.seconds:.1f}")
    less = host.saved("frames.pt")
    for _ in range(5):  # the server frees a moment later, on a busy machine after the next prompt
        host.free()
        if executed := done(host, turned).executed:
            break
    assert executed, "nothing was at hand"
    assert torch.equal(host.saved("frames.pt"), less)
