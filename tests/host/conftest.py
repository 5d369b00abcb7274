"""Tests in the real ComfyUI, on the CPU: in this process (`genve`, `run_node`) and over HTTP (`host`).

Found through COMFYUI_PATH, else ~/comfy/ComfyUI; without one, everything here is skipped. Test modules import nothing
of the host or the pack at their top: only fixtures do.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from host.server import COMFYUI, Host, why_not

HERE = Path(__file__).resolve().parent
PACK = "genve_pack"


def pytest_collection_modifyitems(items):
    reason = why_not()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # the host's; ours are errors
            item.add_marker(pytest.mark.filterwarnings(f"error:::{PACK}"))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    """The pack as ComfyUI loads it, in this process; the host's folders are in a temporary one."""
    sys.path.insert(0, str(COMFYUI))  # first: `import nodes` inside of comfy means the host's
    from comfy.cli_args import args

    args.cpu = True  # before anything else of comfy
    args.base_directory = str(tmp_path_factory.mktemp("base"))
    import folder_paths
    from comfy_api_recorder import load_pack

    folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("temp")))
    return load_pack(PACK)


@pytest.fixture(scope="session")
def node_classes(pack):
    """Node id -> class, of the pack's own list."""
    from comfy_api_recorder import load_nodes

    return {node.GET_SCHEMA().node_id: node for node in load_nodes(pack)}


@pytest.fixture(scope="session")
def run_node(node_classes):
    """`run_node("GenVEX", images=..., n=250)` -> the tuple of its outputs; widgets left out take their defaults."""

    def run(node_id: str, **inputs):
        node = node_classes[node_id]
        widgets = {i.id: i.default for i in node.GET_SCHEMA().inputs if getattr(i, "default", None) is not None}
        with torch.inference_mode():  # as the host does
            return node.PREPARE_CLASS_CLONE(None).execute(**{**widgets, **inputs}).result

    return run


@pytest.fixture(scope="session")
def genve(pack):
    """`genve("nodes.convert")`: a module of the pack as the host has it, other than the tests' own `genve_core`."""

    def module(name: str):
        return importlib.import_module(f"{PACK}.{name}")

    return module


@pytest.fixture(scope="session")
def mini(run_node):
    """The bundle that ships with the pack: the outputs of Load GenVE Bundle, (bundle, VAE)."""
    return run_node("GenVELoadBundle")


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """A running ComfyUI with the pack in it; see `server.Host`. One for all tests.

    Its extra_model_paths.yaml names the folder elsewhere/bundles for the pack's bundles.
    """
    where = tmp_path_factory.mktemp("host")
    paths = where / "extra_model_paths.yaml"
    paths.write_text(f"mine:\n  base_path: {where / 'elsewhere'}\n  genve: bundles\n", encoding="utf-8")
    with Host(COMFYUI, where, "--extra-model-paths-config", str(paths)) as running:
        yield running
