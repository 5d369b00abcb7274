"""Stands in for ComfyUI's own `comfy_api` where no host is installed, and writes down what our schemas say.

Only what defining a schema needs, with the keywords that ComfyUI 0.3.64 takes; tests/host compares the same snapshot
with the real thing. After nodes or inputs were added, renew the snapshot with

    python tests/comfy_api_recorder.py

It refuses changes that break saved workflows, which hold widget values by position and links by name.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = Path(__file__).resolve().parent / "node_schemas.json"
PACK = "genve_pack_recorded"

_SOCKET = {"display_name", "optional", "tooltip", "lazy", "extra_dict"}
_WIDGET = {"display_name", "optional", "tooltip", "lazy", "default", "socketless", "force_input"}
_KEYWORDS = {
    "BOOLEAN": _WIDGET | {"label_on", "label_off"},
    "INT": _WIDGET | {"min", "max", "step", "control_after_generate", "display_mode"},
    "FLOAT": _WIDGET | {"min", "max", "step", "round", "display_mode"},
    "STRING": _WIDGET | {"multiline", "placeholder", "dynamic_prompts"},
    "COMBO": _WIDGET - {"force_input"} | {"options", "control_after_generate", "upload", "image_folder", "remote"},
}
_SOCKETS = {
    "Image": "IMAGE", "Mask": "MASK", "Latent": "LATENT", "Conditioning": "CONDITIONING", "Sampler": "SAMPLER",
    "Sigmas": "SIGMAS", "Noise": "NOISE", "Guider": "GUIDER", "Clip": "CLIP", "Model": "MODEL", "Vae": "VAE",
    "Video": "VIDEO", "Audio": "AUDIO", "AnyType": "*",
}


class _Input:
    io_type = ""

    def __init__(self, id: str, *more: Any, **options: Any):  # noqa: A002
        self.extra_dict = options.pop("extra_dict", None) or {}
        if more:  # the only second positional argument in use
            options["options" if self.io_type == "COMBO" else "types"], = more
        self.id, self.optional, self.tooltip = id, options.pop("optional", False), options.pop("tooltip", None)
        known = _KEYWORDS.get(self.io_type, _SOCKET | {"types"})
        if unknown := options.keys() - known:
            raise TypeError(f"{self.io_type} input {id!r} got unexpected keywords {sorted(unknown)}")
        for name, value in options.items():
            setattr(self, name, value.value if isinstance(value, Enum) else value)

    def get_io_type(self) -> str:
        types = getattr(self, "types", None)
        return self.io_type if types is None else ",".join(dict.fromkeys(t.Input.io_type for t in types))


class _Output:
    io_type = ""

    def __init__(self, id: str | None = None, display_name: str | None = None, tooltip: str | None = None,  # noqa: A002
                 is_output_list: bool = False):
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list


def _type(io_type: str) -> type:
    members = {"io_type": io_type}
    return type(io_type, (), {"Input": type("Input", (_Input,), members), "Output": type("Output", (_Output,), members)})


@dataclass
class _Schema:
    node_id: str
    display_name: str = ""
    category: str = "sd"
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False


class _Node:
    @classmethod
    def GET_SCHEMA(cls) -> _Schema:  # noqa: N802 (the host's name)
        return cls.define_schema()


def _comfy_api() -> ModuleType:
    io = SimpleNamespace(
        Schema=_Schema, ComfyNode=_Node, NodeOutput=tuple, Custom=_type, MultiType=_type("MULTI"),
        Boolean=_type("BOOLEAN"), Int=_type("INT"), Float=_type("FLOAT"), String=_type("STRING"), Combo=_type("COMBO"),
        NumberDisplay=Enum("NumberDisplay", {"number": "number", "slider": "slider"}),
        FolderType=Enum("FolderType", {"input": "input", "output": "output", "temp": "temp"}),
        UploadType=Enum("UploadType", {"image": "image_upload", "audio": "audio_upload", "video": "video_upload",
                                       "model": "file_upload"}),
        Hidden=Enum("Hidden", {name: name.upper() for name in ("unique_id", "prompt", "extra_pnginfo", "dynprompt")}),
        **{name: _type(io_type) for name, io_type in _SOCKETS.items()},
    )
    latest = ModuleType("comfy_api.latest")
    latest.io, latest.ComfyExtension = io, type("ComfyExtension", (), {})
    for name in ("ui", "Input", "InputImpl", "Types"):
        setattr(latest, name, SimpleNamespace())  # used by execute, never by a schema
    return latest


def _folder_paths() -> ModuleType:
    """A host without any model folder."""
    folders: dict[str, tuple[list[str], set[str]]] = {}
    module = ModuleType("folder_paths")
    module.folder_names_and_paths, module.models_dir = folders, "models"
    module.add_model_folder_path = lambda name, path, is_default=False: folders.setdefault(name, ([path], set()))
    module.get_folder_paths = lambda name: folders[name][0]
    return module


@contextmanager
def recorded_pack() -> Iterator[list[type]]:
    """The node classes of the pack, imported as ComfyUI does, on the stand-in. The host's own modules are not to be had."""
    standing_in = {"comfy_api": ModuleType("comfy_api"), "comfy_api.latest": _comfy_api(), "folder_paths": _folder_paths(),
                   "comfy": None, "comfy_execution": None, "execution": None, "server": None, "nodes": None}
    hidden = {name: sys.modules[name] for name in standing_in if name in sys.modules}
    sys.modules.update(standing_in)  # type: ignore[arg-type]  # None: importing it fails
    try:
        yield load_nodes(load_pack(PACK))
    finally:
        for name in [n for n in sys.modules if n in standing_in or n.partition(".")[0] == PACK]:
            del sys.modules[name]
        sys.modules.update(hidden)


def load_pack(name: str) -> ModuleType:
    """The repository's root as a package, the way ComfyUI imports a custom node."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_nodes(pack: ModuleType) -> list[type]:
    return asyncio.run(pack.comfy_entrypoint().get_node_list())


def describe(node: type) -> dict[str, Any]:
    """What saved workflows and prompts rely on, and the defaults that new ones start with."""
    schema = node.GET_SCHEMA()
    fields = ("default", "min", "max", "step", "options", "control_after_generate")
    return {
        "node_id": schema.node_id, "display_name": schema.display_name, "category": schema.category,
        "output_node": bool(schema.is_output_node),
        "inputs": [
            {"id": i.id, "type": str(i.get_io_type()), "optional": bool(i.optional),
             **{name: getattr(i, name) for name in fields if getattr(i, name, None) is not None}}
            for i in schema.inputs or []
        ],
        "outputs": [{"id": o.id, "type": str(o.io_type), "name": o.display_name} for o in schema.outputs or []],
    }


def breaking(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[str]:
    """What in `new` would break workflows saved with `old`, a sentence each."""
    found, by_id = [], {node["node_id"]: node for node in new}
    for node in old:
        name, now = node["node_id"], by_id.get(node["node_id"])
        if now is None:
            found.append(f"{name} is gone; ids are permanent, keep the class with is_deprecated=True")
            continue
        for kind in ("inputs", "outputs"):
            was, have = ([(part["id"], part["type"]) for part in n[kind]] for n in (node, now))
            if have[: len(was)] != was:
                found.append(f"{name}: {kind} were {was}, are {have}; new ones may only be appended, none renamed or removed")
        options = {part["id"]: part.get("options", []) for part in now["inputs"]}
        for part in node["inputs"]:
            if gone := [o for o in part.get("options", []) if o not in options.get(part["id"], part["options"])]:
                found.append(f"{name}: {part['id']} no longer offers {gone}; saved workflows hold these words")
        needed = [p["id"] for p in now["inputs"][len(node["inputs"]) :] if not p["optional"] and "default" not in p]
        if needed:
            found.append(f"{name}: the new inputs {needed} are required; make them optional")
    return found


def is_snake_case(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) is not None


def read_snapshot() -> list[dict[str, Any]]:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.is_file() else []


def main() -> int:
    with recorded_pack() as nodes:
        new = sorted((describe(node) for node in nodes), key=lambda node: node["node_id"])
    problems = breaking(read_snapshot(), new)
    if problems and "--break" not in sys.argv:
        sys.stderr.write("\n".join([*problems, "Not written. For what was never released: --break"]) + "\n")
        return 1
    SNAPSHOT.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
