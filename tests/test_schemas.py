"""The nodes' schemas without a host: what saved workflows rely on stays as the committed snapshot says."""

import inspect
import re

import pytest
from comfy_api_recorder import breaking, describe, is_snake_case, read_snapshot, recorded_pack

RENEW = "renew it with `python tests/comfy_api_recorder.py`"


@pytest.fixture(scope="module")
def nodes():
    with recorded_pack() as found:
        yield found


def test_saved_workflows_still_fit(nodes):
    problems = breaking(read_snapshot(), [describe(node) for node in nodes])
    assert not problems, "inputs and outputs may only be appended:\n" + "\n".join(problems)


def test_snapshot_is_current(nodes):
    now = sorted((describe(node) for node in nodes), key=lambda node: node["node_id"])
    assert now == read_snapshot(), f"tests/node_schemas.json is out of date; {RENEW}"


def test_ids_are_ours_and_unique(nodes):
    ids = [node.GET_SCHEMA().node_id for node in nodes]
    assert len(set(ids)) == len(ids)
    for node, node_id in zip(nodes, ids, strict=True):
        assert node_id.startswith("GenVE") and node.__name__ == node_id
        assert node.GET_SCHEMA().category == "GenVE"


def test_every_input_and_output_is_explained_and_named_apart(nodes):
    for node in nodes:
        schema = node.GET_SCHEMA()
        assert schema.description.endswith("."), schema.node_id
        inputs, outputs = ([part.id for part in parts] for parts in (schema.inputs, schema.outputs))
        assert not set(inputs) & set(outputs), f"{schema.node_id}: host 0.3.64 refuses an id used on both sides"
        for part in (*schema.inputs, *schema.outputs):
            assert part.id and is_snake_case(part.id), f"{schema.node_id}: {part.id}"
            assert part.tooltip, f"{schema.node_id}: {part.id} has no tooltip"
        assert all(output.display_name for output in schema.outputs), schema.node_id


def test_execute_takes_the_inputs_of_the_schema(nodes):
    for node in nodes:
        inputs = node.GET_SCHEMA().inputs
        parameters = inspect.signature(node.execute).parameters
        assert list(parameters) == [i.id for i in inputs], node.__name__
        for i in inputs:
            has_default = parameters[i.id].default is not inspect.Parameter.empty
            assert has_default or not i.optional, f"{node.__name__}.execute: optional {i.id} needs a default"


OLD = {"node_id": "GenVEX", "inputs": [{"id": "mode", "type": "COMBO", "optional": False, "options": ["a", "b"]},
                                       {"id": "n", "type": "INT", "optional": False, "default": 1}],
       "outputs": [{"id": "out", "type": "IMAGE", "name": "image"}]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"node_id": "GenVEY"}, "GenVEX is gone"),
        ({"inputs": OLD["inputs"][::-1]}, "only be appended"),
        ({"inputs": OLD["inputs"][:1]}, "only be appended"),
        ({"inputs": [OLD["inputs"][0], {**OLD["inputs"][1], "type": "FLOAT"}]}, "only be appended"),
        ({"inputs": [{**OLD["inputs"][0], "options": ["a", "c"]}, OLD["inputs"][1]]}, r"no longer offers \['b'\]"),
        ({"inputs": [*OLD["inputs"], {"id": "new", "type": "IMAGE", "optional": False}]}, "are required"),
        ({"outputs": []}, "only be appended"),
    ],
)
def test_what_breaks_saved_workflows_is_found(change, message):
    (problem,) = breaking([OLD], [{**OLD, **change}])
    assert re.search(message, problem)


def test_appending_breaks_nothing():
    more = {"inputs": [*OLD["inputs"], {"id": "new", "type": "INT", "optional": False, "default": 0}],
            "outputs": [*OLD["outputs"], {"id": "mask", "type": "MASK", "name": "mask"}]}
    assert breaking([OLD], [{**OLD, **more}, {**OLD, "node_id": "GenVENew"}]) == []
