"""Help pages, web/docs: every node has one in both languages, which names every input as the front end labels it."""

import json
import re
from pathlib import Path

import pytest
from comfy_api_recorder import read_snapshot
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
NODES = [node["node_id"] for node in read_snapshot()]
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
LARGEST = 100_000  # bytes of a picture


def page(node: str, locale: str) -> str:
    file = DOCS / f"{node}.md" if locale == "en" else DOCS / node / f"{locale}.md"
    return file.read_text(encoding="utf-8")


def labels(locale: str) -> dict:
    return json.loads((ROOT / "locales" / locale / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("locale", ["en", "zh"])
@pytest.mark.parametrize("node", NODES)
def test_a_page_has_the_nodes_title_and_names_every_input(node, locale):
    text, shown = page(node, locale), labels(locale)[node]
    assert text.startswith(f"# {shown['display_name']}\n")
    after = {"control_after_generate"}  # the front end's own
    missing = [one["name"] for name, one in shown["inputs"].items() if name not in after and f"**{one['name']}**" not in text]
    assert not missing, f"{node} in {locale} does not name {missing}"


@pytest.mark.parametrize("node", NODES)
def test_both_languages_have_the_same_sections_and_errors(node):
    english, chinese = page(node, "en"), page(node, "zh")
    sections = [len(re.findall(r"^## ", text, re.M)) for text in (english, chinese)]
    assert sections[0] == sections[1] >= 3
    messages = re.compile(r"^(?:- \*|\| )([a-zA-Z'][^*|]+)(?:\*| \|)", re.M)
    quoted = [messages.findall(text.split("\n## ")[-1]) for text in (english, chinese)]
    assert [q for q in quoted[0] if q != "message"] == quoted[1], "the messages, as the nodes write them"


@pytest.mark.parametrize("node", NODES)
def test_the_picture_is_there_and_small(node):
    # both front ends look for it from web/docs, also for a page in another language
    (english,), (chinese,) = (PICTURE.findall(page(node, locale)) for locale in ("en", "zh"))
    assert english[1] == chinese[1] == f"pictures/{node}.jpg"
    file = DOCS / english[1]
    assert file.stat().st_size <= LARGEST
    with Image.open(file) as picture:
        assert picture.format == "JPEG" and picture.width >= 300


def test_no_page_is_left_of_a_node_that_is_gone():
    files = {path.relative_to(DOCS).parts[0].removesuffix(".md").removesuffix(".jpg") for path in DOCS.rglob("*.md")}
    assert files == set(NODES)
    assert {path.stem for path in (DOCS / "pictures").iterdir()} == set(NODES)
