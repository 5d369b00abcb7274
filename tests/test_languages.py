"""Labels, locales/: English is what the schemas say, every other language has the same keys and leaves nothing out."""

import json
from pathlib import Path

import pytest
from make_locales import FOLDER, english, written

LANGUAGES = sorted(path.name for path in FOLDER.iterdir())
OTHERS = [language for language in LANGUAGES if language != "en"]


def read(language: str) -> dict:
    return json.loads((FOLDER / language / "nodeDefs.json").read_text(encoding="utf-8"))


def keys(tree, path=()):
    """Every path to a text in a tree of dictionaries."""
    if isinstance(tree, dict):
        return {found for key, value in tree.items() for found in keys(value, (*path, key))}
    assert isinstance(tree, str) and tree.strip(), f"{path} has no text"
    return {path}


def test_english_is_what_the_schemas_say():
    now = (FOLDER / "en" / "nodeDefs.json").read_text(encoding="utf-8")
    assert now == written(english()), "renew it with `python tests/make_locales.py`"


def test_chinese_is_there():
    assert "zh" in OTHERS


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_is_complete(language):
    wanted, found = keys(read("en")), keys(read(language))
    assert not wanted - found, "not translated"
    assert not found - wanted, "of nodes or inputs that are gone"


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_translated(language):
    same = {path for path in keys(read(language)) if path[-1] in ("tooltip", "description", "display_name")
            and at(read(language), path) == at(read("en"), path)}
    assert not same


def at(tree: dict, path: tuple) -> str:
    for key in path:
        tree = tree[key]
    return tree  # type: ignore[return-value]


def test_files_lie_where_the_host_looks():
    assert {path.relative_to(FOLDER) for path in FOLDER.rglob("*.json")} == {Path(x) / "nodeDefs.json" for x in LANGUAGES}
