"""What the front end asks the host for: the examples with their pictures, help pages, labels."""

import json
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from comfy_api_recorder import read_snapshot
from host.server import ROOT
from make_workflows import FOLDER, WORKFLOWS

PACK = "ComfyUI-GenVE"  # the name of its folder in custom_nodes
NODES = [node["node_id"] for node in read_snapshot()]


def served(host, path):
    try:
        with urllib.request.urlopen(host.address + quote(path), timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            pytest.fail(f"{path}: {error.code}")


def test_every_example_is_listed_and_served_with_its_picture(host):
    assert set(host.get("/workflow_templates")[PACK]) == set(WORKFLOWS)
    for name in WORKFLOWS:
        for kind in ("json", "jpg"):
            file = f"{name}.{kind}"
            assert served(host, f"/api/workflow_templates/{PACK}/{file}") == (FOLDER / file).read_bytes()


def test_every_help_page_is_served_with_its_picture(host):
    for node in NODES:
        for file in (f"{node}.md", f"{node}/zh.md", f"pictures/{node}.jpg"):
            assert served(host, f"/extensions/{PACK}/docs/{file}") == (ROOT / "web" / "docs" / file).read_bytes()


def test_the_labels_are_served_in_both_languages(host):
    labels = host.get("/i18n")
    for language in ("en", "zh"):
        ours = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node: labels[language]["nodeDefs"].get(node) for node in NODES} == ours
