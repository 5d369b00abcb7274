"""workflows/ without a host: as their maker writes them, whole, with a picture, and where the host finds them."""

import json

import make_sample
import numpy as np
import pytest
import torch
from make_workflows import CLIP, FOLDER, KEY_FRAME, PICTURE, WORKFLOWS, written
from PIL import Image
from workflow_builder import NOTE, is_widget, kinds

from genve_core.media import VideoReader

HOSTS_FOLDERS = ["example_workflows", "example", "examples", "workflow", "workflows"]  # app/custom_node_manager.py
LARGEST = 100_000  # bytes of a picture


@pytest.fixture(params=WORKFLOWS)
def graph(request):
    return json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_file_is_as_its_maker_writes_it(name):
    now = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert now == written(name), "renew them with `python tests/make_workflows.py`"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_template_browser_has_a_small_square_picture(name):
    file = FOLDER / f"{name}.jpg"  # the one name that the front end looks for
    assert file.stat().st_size <= LARGEST
    with Image.open(file) as picture:
        assert picture.format == "JPEG" and picture.width == picture.height >= 300


def test_nothing_else_lies_there():
    names = {f"{name}.{kind}" for name in WORKFLOWS for kind in ("json", "jpg")}
    assert {path.name for path in FOLDER.iterdir()} == names | {CLIP, PICTURE}


def test_no_other_folder_hides_them():
    """The host serves all of these under one address, and the first answers 404 for what lies in the others."""
    assert [name for name in HOSTS_FOLDERS if (FOLDER.parent / name).exists()] == [FOLDER.name]


def test_the_sample_that_ships_is_that_of_make_demo(tmp_path):
    make_sample.make_sample(tmp_path)
    frames = []
    for folder in (FOLDER, tmp_path):
        with VideoReader(folder / CLIP) as video:
            frames.append(torch.stack([frame.rgb for frame in video]))
    assert frames[0].shape == frames[1].shape
    assert (frames[0] - frames[1]).abs().mean() < 0.01, "another x264 may code a little differently, the frames are the same"
    with Image.open(FOLDER / PICTURE) as ours, Image.open(tmp_path / "truth" / f"{KEY_FRAME:03d}.png") as truth:
        assert np.array_equal(np.asarray(ours), np.asarray(truth))


def test_every_node_is_known_and_has_a_value_for_each_widget(graph):
    known = kinds()
    for node in graph["nodes"]:
        if node["type"] != NOTE:
            assert len(node["widgets_values"]) == len(known[node["type"]].widgets()), node["type"]


def test_links_join_what_exists_and_fits(graph):
    nodes = {node["id"]: node for node in graph["nodes"]}
    for number, source, output, target, slot, io_type in graph["links"]:
        out, into = nodes[source]["outputs"][output], nodes[target]["inputs"][slot]
        assert number in out["links"] and into["link"] == number
        assert io_type == out["type"] and (into["type"] == "*" or io_type in into["type"].split(","))
    ids = [link[0] for link in graph["links"]]
    assert len(set(ids)) == len(ids)


def test_everything_that_must_be_wired_is(graph):
    known = kinds()
    for node in graph["nodes"]:
        for one in known[node["type"]].inputs if node["type"] != NOTE else ():
            linked = any(i["name"] == one["id"] and i["link"] is not None for i in node["inputs"])
            assert linked or is_widget(one) or one.get("optional"), f"{node['type']}: {one['id']}"


def test_nodes_lie_within_one_group_and_apart(graph):
    groups = [box(*group["bounding"]) for group in graph["groups"]]
    nodes = [box(*node["pos"], *node["size"]) for node in graph["nodes"]]
    for i, (left, top, right, bottom) in enumerate(nodes):
        inside = [g for g in groups if g[0] <= left and g[1] <= top and right <= g[2] and bottom <= g[3]]
        assert len(inside) == 1, graph["nodes"][i]["type"]
    for boxes in (groups, nodes):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
                       for i, a in enumerate(boxes) for b in boxes[:i])


def box(x, y, w, h):
    return x, y, x + w, y + h


def test_they_use_core_nodes_for_files_and_our_comparer(graph):
    types = {node["type"] for node in graph["nodes"]}
    assert {"LoadVideo", "SaveVideo", "GenVECompare"} <= types
    assert all(kind == NOTE or kind in kinds() for kind in types)
