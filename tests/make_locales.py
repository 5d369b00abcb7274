"""Makes locales/en/nodeDefs.json, the English words of the nodes, from their schemas:

    python tests/make_locales.py

The other languages beside it are written by hand; tests/test_languages.py says what they lack.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_api_recorder import recorded_pack

FOLDER = Path(__file__).resolve().parent.parent / "locales"
AFTER = "control_after_generate"  # a widget that the front end adds to a seed
FILES = {("GenVELoadBundle", "bundle")}  # options that are names of files


def words(schema: Any) -> dict[str, Any]:
    """What the front end looks up for a node."""
    inputs = {}
    for one in schema.inputs:
        about = inputs[one.id] = {"name": getattr(one, "display_name", None) or one.id, "tooltip": one.tooltip}
        if getattr(one, "options", None) and (schema.node_id, one.id) not in FILES:
            about["options"] = {option: option for option in one.options}
        if getattr(one, AFTER, None):
            inputs[AFTER] = {"name": "control after generate"}
    return {
        "display_name": schema.display_name, "description": schema.description, "inputs": inputs,
        "outputs": {str(i): {"name": one.display_name, "tooltip": one.tooltip} for i, one in enumerate(schema.outputs)},
    }  # fmt: skip


def written(locale: dict[str, Any]) -> str:
    return json.dumps(locale, indent=1, ensure_ascii=False) + "\n"


def english() -> dict[str, Any]:
    """All nodes, by id."""
    with recorded_pack() as nodes:
        return {schema.node_id: words(schema) for schema in (node.GET_SCHEMA() for node in nodes)}


if __name__ == "__main__":
    (FOLDER / "en").mkdir(parents=True, exist_ok=True)
    (FOLDER / "en" / "nodeDefs.json").write_text(written(english()), encoding="utf-8")
