"""A workflow file as the prompt that the front end would queue, with everything in it held against the host's own schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from host.server import Prompt

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}  # of the front end alone
AFTER, UPLOAD = "control_after_generate", "upload"  # widgets that the front end adds; no node sees them
Inputs = dict[str, tuple[str, dict[str, Any], bool]]  # name -> (type, options, whether it must be given)


def as_prompt(workflow: dict[str, Any], known: dict[str, Any]) -> Prompt:
    """The prompt of a workflow file. known: /object_info.

    Raises ValueError, a line per fault, for all that the front end warns of or silently changes: unknown nodes, widgets
    too many or too few, choices that are not offered, links that lead nowhere or between different types, inputs without
    a value.
    """
    links = {link[0]: link for link in workflow["links"]}
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in NOTES}
    faults = [f"{node['id']}: {node['type']} is not installed" for node in nodes.values() if node["type"] not in known]
    prompt = {}
    for number, node in nodes.items():
        if node["type"] not in known:
            continue
        about = f"{number} ({node['type']})"
        wanted = inputs_of(known[node["type"]])
        values = _widget_values(node, wanted, about, faults)
        for name, link in _wires(node, wanted, about, faults):
            values[name] = _source(links.get(link), number, nodes, known, wanted[name][0], f"{about}.{name}", faults)
        faults += [f"{about}: {name} has no value" for name, (_, _, needed) in wanted.items() if needed and name not in values]
        prompt[str(number)] = {"class_type": node["type"], "inputs": values}
    if faults:
        raise ValueError("\n".join(faults))
    return prompt


def inputs_of(about: dict[str, Any]) -> Inputs:
    """The inputs of a node class, from its entry in /object_info, in order."""
    found = {}
    for section in ("required", "optional"):
        for name in about["input_order"].get(section, ()):
            kind, *more = about["input"][section][name]
            options = dict(more[0]) if more else {}
            if isinstance(kind, list):  # a choice, as V1 nodes say it
                options, kind = {**options, "options": kind}, "COMBO"
            found[name] = (kind, options, section == "required")
    return found


def widget_names(inputs: Inputs) -> list[str]:
    """What `widgets_values` holds, in order."""
    names = []
    for name, (kind, options, _) in inputs.items():
        if kind not in WIDGETS or options.get("forceInput"):
            continue
        names.append(name)
        if options.get(AFTER, kind == "INT" and name in ("seed", "noise_seed")):
            names.append(AFTER)
        if any(options.get(f"{media}_upload") for media in ("image", "video", "audio")):
            names.append(UPLOAD)
    return names


def _widget_values(node: dict[str, Any], wanted: Inputs, about: str, faults: list[str]) -> dict[str, Any]:
    names, values = widget_names(wanted), node.get("widgets_values") or []
    if len(names) != len(values):
        faults.append(f"{about}: {len(values)} widget values for {names}")
        return {}
    found = {name: value for name, value in zip(names, values, strict=True) if name not in (AFTER, UPLOAD)}
    for name, value in found.items():
        options = wanted[name][1]
        # files are the user's own, and are not there yet
        file = any(key.endswith(("_upload", "folder")) for key in options) or name == "ckpt_name"
        if "options" in options and value not in options["options"] and not file:
            faults.append(f"{about}: {name} is {value!r}, offered are {options['options']}")
    return found


def _wires(node: dict[str, Any], wanted: Inputs, about: str, faults: list[str]) -> Iterator[tuple[str, int]]:
    for slot in node["inputs"]:
        if slot["name"] not in wanted:
            faults.append(f"{about} has no input {slot['name']}")
        elif slot["link"] is not None:
            yield slot["name"], slot["link"]


def _source(link: list[Any] | None, number: int, nodes: dict[int, Any], known: dict[str, Any], wanted: str, about: str,
            faults: list[str]) -> list[Any]:
    """[node id, output] where a link comes from."""
    if link is None or link[1] not in nodes or link[3] != number:
        faults.append(f"{about}: its link {link} leads nowhere")
        return []
    _, source, output = link[:3]
    given = known.get(nodes[source]["type"], {}).get("output", [])
    if output >= len(given) or not _fits(str(given[output]), wanted):
        faults.append(f"{about}: output {output} of {nodes[source]['type']} ({given}) is no {wanted}")
    return [str(source), output]


def _fits(given: str, wanted: str) -> bool:
    return "*" in (given, wanted) or bool(set(given.split(",")) & set(wanted.split(",")))
