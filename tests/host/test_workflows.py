"""The example workflows in the real host: nothing in them is unknown to it, and each runs from file to file."""

from __future__ import annotations

import json

import av
import pytest
import torch
from host.graph import node
from host.server import ROOT
from host.tiny_models import write_checkpoint
from host.workflow_files import AFTER, UPLOAD, as_prompt, inputs_of, widget_names
from media_clips import to_bytes, write_clip
from PIL import Image
from workflow_builder import CORE, kinds

from genve_core.media import VideoReader

FOLDER = ROOT / "workflows"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))
FRAMES, KEY_FRAME = 8, 4
WITH_CHECKPOINT = "Make the reference with any checkpoint"
# what makes a run short, or fits the shortened clip: class -> input -> value
SHORTER = {"KSampler": {"steps": 2}, "ImageScaleToTotalPixels": {"megapixels": 0.05}, "PrimitiveInt": {"value": KEY_FRAME}}


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_there_is_one_for_every_task():
    assert set(NAMES) == {"Enhance a clip", "Enhance a clip in one node", "Bring your own reference", WITH_CHECKPOINT,
                          "Noise sweep and pick", "The full paper graph"}


@pytest.fixture(scope="module")
def known(host):
    return host.get("/object_info")


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_the_builder_knows_nodes_as_the_host_does(known, kind):
    ours, wanted = kinds()[kind], inputs_of(known[kind])
    names = {one["id"]: one["type"] for one in ours.inputs}
    if kind in CORE:  # only what the workflows use is written there
        assert all(wanted[name][0] == kind_of for name, kind_of in names.items())
        required = {name for name, (_, _, needed) in wanted.items() if needed}
        assert required <= set(names)
    else:
        assert names == {name: kind_of for name, (kind_of, _, _) in wanted.items()}
    assert [name for name in widget_names(wanted) if name in {*names, AFTER, UPLOAD}] == ours.widgets()
    assert tuple(io_type for _, io_type in ours.outputs) == tuple(known[kind]["output"])


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_loads_without_a_warning(known, name):
    prompt = as_prompt(read(name), known)
    assert len(prompt) >= 5
    assert any(known[part["class_type"]]["output_node"] for part in prompt.values())


@pytest.mark.parametrize("spoil, message", [
    (lambda w: of(w, "GenVEUpscaleEncode").update(type="GenVEGone"), "GenVEGone is not installed"),
    (lambda w: of(w, "GenVEUpscaleEncode")["widgets_values"].pop(), "3 widget values for"),
    (lambda w: of(w, "GenVEOpticalFlow")["widgets_values"].__setitem__(-1, "best"), "estimator is 'best', offered are"),
    (lambda w: w["links"].pop(0), "leads nowhere"),
    (lambda w: of(w, "GenVESemanticReference")["inputs"][0].update(link=None), "z has no value"),
    (lambda w: of(w, "GenVECompare")["inputs"][0].update(name="first"), "has no input first"),
    (lambda w: to(w, "GenVENoiseAugmentation", "z").__setitem__(2, 1), "output 1 of GenVEUpscaleEncode .* is no LATENT"),
])  # fmt: skip
def test_what_is_wrong_in_a_workflow_is_found(known, spoil, message):
    workflow = read("Enhance a clip")
    spoil(workflow)
    with pytest.raises(ValueError, match=message):
        as_prompt(workflow, known)


def of(workflow, kind):
    return next(part for part in workflow["nodes"] if part["type"] == kind)


def to(workflow, kind, name):
    link = next(slot["link"] for slot in of(workflow, kind)["inputs"] if slot["name"] == name)
    return next(one for one in workflow["links"] if one[0] == link)


def part_of(prompt, kind):
    (number,) = (part for part in prompt if prompt[part]["class_type"] == kind)
    return number


@pytest.fixture(scope="module")
def inputs(host):
    """The files that the workflows name: the sample's first frames under its own name, and the picture beside it."""
    with VideoReader(FOLDER / "sample.mp4") as video:
        frames = torch.stack([frame.rgb for _, frame in zip(range(FRAMES), video)])
    write_clip(host.input / "sample.mp4", list(to_bytes(frames)), codec="libx264", pixel_format="yuv420p", sound="aac")
    (host.input / "key_frame.png").write_bytes((FOLDER / "key_frame.png").read_bytes())
    return tuple(frames.shape[-2:])


@pytest.fixture
def checkpoint(host, pack):
    """A tiny one, under the name that the workflow has; of SD 1.5, the smallest kind."""
    folder = host.models / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / of(read(WITH_CHECKPOINT), "CheckpointLoaderSimple")["widgets_values"][0]
    write_checkpoint(file)
    yield
    host.free()
    file.unlink()


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_runs_from_file_to_file(host, known, inputs, name, request):
    if name == WITH_CHECKPOINT:
        request.getfixturevalue("checkpoint")
    if name == "The full paper graph":
        pytest.importorskip("scenedetect")
    prompt = as_prompt(read(name), known)
    for part in prompt.values():
        part["inputs"].update(SHORTER.get(part["class_type"], {}))
    result = host.run(prompt)
    assert result.status == "success", result.errors
    assert {*result.executed, *result.cached} == set(prompt) and part_of(prompt, "SaveVideo") in result.executed
    shown = {part for part in prompt if known[prompt[part]["class_type"]]["output_node"]}
    assert shown == {part for part in result.outputs if part in shown}, "an output node showed nothing"
    saved = result.outputs[part_of(prompt, "SaveVideo")]["images"][0]
    with av.open(str(host.output / saved["subfolder"] / saved["filename"])) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    h, w = inputs
    assert len(frames) == FRAMES and frames[0].shape == (4 * h, 4 * w, 3)
    assert min(frame.std() for frame in frames) > 10, "a frame without a picture"


# At 2 n counts for more: a graph that did not know of it would be 2.5e-3 apart. What is left (4e-5 where it was seen) was there
# before, with any n; rounding, it seems.
@pytest.mark.parametrize("scale, apart", [(4.0, 0), (2.0, 3e-4)])
def test_the_graph_and_the_one_node_give_the_same_clip(host, known, inputs, scale, apart):
    found = []
    for name, last in (("Enhance a clip", "GenVEVideoDiffuserSampler"), ("Enhance a clip in one node", "GenVEEnhanceVideo")):
        prompt = as_prompt(read(name), known)
        output = 1 if last == "GenVEVideoDiffuserSampler" else 0
        for part in prompt.values():
            part["inputs"] |= {"scale": scale} if "scale" in part["inputs"] else {}
        keep = node("ProbeSave", value=[part_of(prompt, last), output], file="frames.pt")
        assert host.run({**prompt, "keep": keep}).status == "success"
        found.append(host.saved("frames.pt"))
    assert found[0].shape[1:] == (*(scale * side for side in inputs), 3)
    assert (found[0] - found[1]).abs().mean() <= apart


def test_the_picture_beside_them_shows_the_clip(inputs):
    with Image.open(FOLDER / "key_frame.png") as picture:
        assert picture.size == (4 * inputs[1], 4 * inputs[0])
