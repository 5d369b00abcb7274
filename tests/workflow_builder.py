"""Builds graphs as ComfyUI's front end saves them: nodes placed in stages from left to right, their links and groups.

Our nodes are taken from node_schemas.json, those of ComfyUI from CORE; tests/host compares both with the real host.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import Any

from comfy_api_recorder import read_snapshot

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
AFTER = "control_after_generate"
TITLE, GAP, PADDING, HEAD = 30, 40, 20, 50  # px: of a node's title bar, between nodes, inside a group, its headline
SLOT, WIDGET = 20, 24  # px of height in the classic front end
ROOMY = 1.15  # nodes of the Vue front end are taller by this factor


@dataclass(frozen=True)
class Kind:
    """A node class: its inputs in the order of its schema, its outputs, and the size of what it shows below its widgets."""

    inputs: tuple[dict[str, Any], ...]  # "id", "type" and perhaps "default", "optional", "control_after_generate", "upload"
    outputs: tuple[tuple[str, str], ...]  # (name, type)
    view: int = 0  # px of height
    width: int = 270  # px

    def widgets(self) -> list[str]:
        """Names of `widgets_values`, in order."""
        names = []
        for one in filter(is_widget, self.inputs):
            names += [one["id"], *([AFTER] if one.get(AFTER) else []), *(["upload"] if one.get("upload") else [])]
        return names


def is_widget(one: dict[str, Any]) -> bool:
    return one["type"] in WIDGETS


def _input(text: str) -> dict[str, Any]:
    """"name TYPE more more": the words that follow are flags."""
    name, io_type, *flags = text.split()
    return {"id": name, "type": io_type, **dict.fromkeys(flags, True)}


def _core(inputs: str, outputs: str, view: int = 0, width: int = 270) -> Kind:
    """inputs, outputs: separated by commas; an output is "NAME" or "name TYPE"."""
    found = [part.split() for part in outputs.split(", ") if part]
    return Kind(tuple(_input(part) for part in inputs.split(", ") if part), tuple((p[0], p[-1]) for p in found), view, width)


CORE = {
    "LoadVideo": _core("file COMBO upload", "VIDEO", view=210),
    "GetVideoComponents": _core("video VIDEO", "images IMAGE, audio AUDIO, fps FLOAT"),
    "CreateVideo": _core("images IMAGE, fps FLOAT, audio AUDIO optional", "VIDEO"),
    "SaveVideo": _core("video VIDEO, filename_prefix STRING, format COMBO, codec COMBO", "", view=190),
    "LoadImage": _core("image COMBO upload", "IMAGE, MASK", view=190),
    "SaveImage": _core("images IMAGE, filename_prefix STRING", "", view=190),
    "PreviewImage": _core("images IMAGE", "", view=190),
    "PreviewAny": _core("source *", "", view=150),
    "MaskToImage": _core("mask MASK", "IMAGE"),
    "ImageFromBatch": _core("image IMAGE, batch_index INT, length INT", "IMAGE"),
    "ImageScaleToTotalPixels": _core("image IMAGE, upscale_method COMBO, megapixels FLOAT", "IMAGE"),
    "PrimitiveInt": _core(f"value INT {AFTER}", "INT"),
    "CheckpointLoaderSimple": _core("ckpt_name COMBO", "MODEL, CLIP, VAE", width=300),
    "CLIPTextEncode": _core("text STRING, clip CLIP", "CONDITIONING", view=70, width=300),
    "VAEEncode": _core("pixels IMAGE, vae VAE", "LATENT"),
    "VAEDecode": _core("samples LATENT, vae VAE", "IMAGE"),
    "KSampler": _core(f"model MODEL, seed INT {AFTER}, steps INT, cfg FLOAT, sampler_name COMBO, scheduler COMBO, "
                      "positive CONDITIONING, negative CONDITIONING, latent_image LATENT, denoise FLOAT", "LATENT"),
}  # fmt: skip
VIEWS = {"GenVECompare": 430, "GenVENoiseSweep": 330, "GenVEFindShots": 170, "GenVEAttentionPreview": 190, "GenVEMetrics": 300}
WIDTHS = {"GenVECompare": 520, "GenVENoiseSweep": 560, "GenVEFindShots": 320, "GenVEAttentionPreview": 340,
          "GenVEMetrics": 420}
# px of height without the title bar, of nodes that grow by the picture or text they show while or after they run: the most
# of all front ends, for frames of 4:3. tests/browser/checks.mjs finds what is too little.
GROWN = {"LoadVideo": 310, "LoadImage": 350, "SaveVideo": 390, "SaveImage": 340, "PreviewImage": 310,
         "GenVEUpscaleEncode": 505, "GenVENoiseAugmentation": 200, "GenVEVideoDiffuserSampler": 470, "GenVEEnhanceVideo": 760,
         "GenVEReferenceFromImage": 365, "GenVEFindShots": 560, "GenVEAttentionPreview": 430, "GenVENoiseSweep": 720}
NOTE = "MarkdownNote"  # of the front end alone


def kinds() -> dict[str, Kind]:
    """All node classes that the workflows may use."""
    ours = {
        node["node_id"]: Kind(tuple(node["inputs"]), tuple((o["name"], o["type"]) for o in node["outputs"]),
                              VIEWS.get(node["node_id"], 0), WIDTHS.get(node["node_id"], 300))
        for node in read_snapshot()
    }
    return {**CORE, **ours}


@dataclass
class Node:
    """A node on the canvas."""

    type: str
    kind: Kind
    values: dict[str, Any] = field(default_factory=dict)  # widget -> value
    wires: dict[str, tuple[Node, int]] = field(default_factory=dict)  # input -> node and number of the output
    title: str = ""
    size: list[float] = field(default_factory=list)
    pos: list[float] = field(default_factory=list)

    def __getitem__(self, output: str) -> tuple[Node, int]:
        """The output of that name, to be wired."""
        return self, [name for name, _ in self.kind.outputs].index(output)

    @property
    def roomy(self) -> float:
        """Height without the title bar, in px, after a run and in the front end that needs most."""
        if self.type == NOTE:
            return self.size[1]
        return max(GROWN.get(self.type, 0), self.kind.view + (self.size[1] - self.kind.view) * ROOMY)


@dataclass
class Stage:
    """A titled group: columns of nodes, side by side."""

    title: str
    columns: list[list[Node]]
    colour: str = "#3f789e"


class Graph:
    """Nodes and the stages they stand in."""

    def __init__(self, name: str):
        self.name, self.nodes, self.known = name, [], kinds()

    def add(self, node_type: str, title: str = "", **given: Any) -> Node:
        """A node; `given` are its wires (an output) and the values of its widgets where they are not the default."""
        kind = self.known[node_type]
        wires = {name: value for name, value in given.items() if isinstance(value, tuple)}
        values = {one["id"]: one["default"] for one in kind.inputs if "default" in one}
        values |= {name: value for name, value in given.items() if name not in wires}
        unknown = given.keys() - {one["id"] for one in kind.inputs}
        unset = [n for n in kind.widgets() if n not in values and n not in wires and n not in (AFTER, "upload")]
        if unknown or unset:
            raise ValueError(f"{node_type} has no input {sorted(unknown)}, or its widgets {unset} have no value")
        sockets = [one for one in kind.inputs if not is_widget(one)]
        height = SLOT * max(len(sockets), len(kind.outputs)) + WIDGET * len(kind.widgets()) + kind.view + 14
        node = Node(node_type, kind, values, wires, title, [kind.width, height])
        self.nodes.append(node)
        return node

    def note(self, title: str, text: str, width: int = 320) -> Node:
        """A text for the reader, Markdown."""
        lines = sum(max(1, math.ceil(len(line) * 6.6 / (width - 30))) for line in text.strip().split("\n"))
        node = Node(NOTE, Kind((), ()), {"text": text.strip()}, title=title, size=[width, 18 * lines + 40])
        self.nodes.append(node)
        return node

    def saved(self, layout: list[list[Stage]]) -> dict[str, Any]:
        """The graph as a file's content. layout: stages from left to right, each entry a stack from the top down."""
        groups = _place(layout)
        placed = [node for stack in layout for stage in stack for column in stage.columns for node in column]
        if {id(node) for node in placed} != {id(node) for node in self.nodes} or len(placed) != len(self.nodes):
            raise ValueError(f"{self.name}: every node must stand in one stage")
        ids = {id(node): number for number, node in enumerate(placed, 1)}
        links = _links(placed, ids)
        right, bottom = (max(group["bounding"][i] + group["bounding"][i + 2] for group in groups) for i in (0, 1))
        scale = round(min(1, 1500 / right, 820 / bottom), 3)
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"genve/{self.name}")), "revision": 0,
            "last_node_id": len(placed), "last_link_id": len(links),
            "nodes": [_saved_node(node, ids[id(node)], links) for node in placed],
            "links": links, "groups": groups, "config": {},
            "extra": {"ds": {"scale": scale, "offset": [90 / scale, 60 / scale]}}, "version": 0.4,
        }  # fmt: skip


def _place(layout: list[list[Stage]]) -> list[dict[str, Any]]:
    """Gives every node its place; the groups."""
    groups, x = [], 0.0
    for stack in layout:
        y, right = 0.0, x
        for stage in stack:
            left, bottom = x + PADDING, y
            for column in stage.columns:
                top, wide = y + HEAD + TITLE, max(node.size[0] for node in column)
                for node in column:
                    node.size[0] = wide
                    node.pos = [left, round(top)]
                    top += node.roomy + TITLE + GAP
                bottom, left = max(bottom, top - TITLE - GAP + PADDING), left + wide + GAP
            width = left - GAP + PADDING - x
            groups.append({"id": len(groups) + 1, "title": stage.title, "bounding": [x, y, width, round(bottom - y)],
                           "color": stage.colour, "font_size": 24, "flags": {}})
            y, right = round(bottom) + GAP, max(right, x + width)
        for group in groups[-len(stack) :]:
            group["bounding"][2] = right - x
        x = right + GAP
    return groups


def _links(placed: list[Node], ids: dict[int, int]) -> list[list[Any]]:
    """[link, from node, from output, to node, to input, type], in the order of the nodes."""
    links: list[list[Any]] = []
    for node in placed:
        for slot, one in enumerate(_sockets_first(node.kind)):
            if one["id"] in node.wires:
                source, output = node.wires[one["id"]]
                io_type = source.kind.outputs[output][1]
                links.append([len(links) + 1, ids[id(source)], output, ids[id(node)], slot, io_type])
    return links


def _sockets_first(kind: Kind) -> list[dict[str, Any]]:
    """The order in which the front end saves inputs."""
    return sorted(kind.inputs, key=is_widget)


def _saved_node(node: Node, number: int, links: list[list[Any]]) -> dict[str, Any]:
    to_slot = {link[4]: link[0] for link in links if link[3] == number}
    inputs = [
        {"name": one["id"], "type": one["type"], "link": to_slot.get(slot),
         **({"widget": {"name": one["id"]}} if is_widget(one) else {}),
         **({"shape": 7} if one.get("optional") else {})}
        for slot, one in enumerate(_sockets_first(node.kind))
    ]  # fmt: skip
    outputs = [
        {"name": name, "type": io_type, "links": [a[0] for a in links if a[1:3] == [number, slot]] or None}
        for slot, (name, io_type) in enumerate(node.kind.outputs)
    ]
    if node.type == NOTE:
        values, properties = [node.values["text"]], {}
    else:
        values = [_value(node, name) for name in node.kind.widgets()]
        properties = {"cnr_id": "genve" if node.type.startswith("GenVE") else "comfy-core", "Node name for S&R": node.type}
    return {
        "id": number, "type": node.type, **({"title": node.title} if node.title else {}), "pos": node.pos,
        "size": node.size, "flags": {}, "order": number - 1, "mode": 0, "inputs": inputs, "outputs": outputs,
        "properties": properties, "widgets_values": values,
        **({"color": "#432", "bgcolor": "#653"} if node.type == NOTE else {}),
    }  # fmt: skip


def _value(node: Node, name: str) -> Any:
    """Of a widget; a wired one of ComfyUI's keeps a value that is never used."""
    fixed = {AFTER: "fixed", "upload": "image"}
    unused = {one["id"]: {"INT": 0, "FLOAT": 25.0}.get(one["type"]) for one in node.kind.inputs}
    return fixed[name] if name in fixed else node.values.get(name, unused[name])
