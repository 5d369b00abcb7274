"""What the Comfy Registry takes of the pack: the version it reads, the requirements it installs, the files it uploads."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import genve_core

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# of ComfyUI 0.3.64's requirements.txt: whatever a pack says of these can only break the host
OF_THE_HOST = {"torch", "torchvision", "torchaudio", "numpy", "einops", "transformers", "safetensors", "aiohttp", "pyyaml",
               "pillow", "scipy", "tqdm", "psutil", "av", "kornia", "spandrel", "pydantic",
               "filelock"}  # filelock: torch brings it
SHIPPED = {"__init__.py", "LICENSE", "README.md", "pyproject.toml", "requirements.txt", "nodes", "genve_core", "bundles", "web",
           "locales", "workflows"}
KEPT_BACK = {".ci", "benchmarks", "configs", "demo", "docs", "tests", "Makefile"}


def requirement(line):
    name, bound = re.fullmatch(r"([A-Za-z0-9-]+)(.*)", line.replace(" ", "")).groups()
    return name.lower(), bound


def test_the_version_is_read_from_the_file_that_it_names():
    assert "version" in PROJECT["project"]["dynamic"]
    text = (ROOT / PROJECT["tool"]["comfy"]["version"]["path"]).read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.M)
    assert found == genve_core.__version__


def test_the_name_can_stay_for_good():
    name = PROJECT["project"]["name"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", name) and "comfyui" not in name


def test_requirements_are_what_the_host_lacks_with_lower_bounds_as_in_the_project():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = dict(requirement(line) for line in lines if line and not line.startswith("#"))
    project = PROJECT["project"]
    known = dict(map(requirement, project["dependencies"]))
    assert wanted == {name: bound for name, bound in known.items() if name not in OF_THE_HOST}
    assert all(bound.startswith(">=") for bound in wanted.values())


def test_the_upload_holds_what_the_nodes_need_and_no_more():
    def tracked(*options):
        done = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip("not a git checkout")
        return {line.strip('"') for line in done.stdout.splitlines()}

    left_out = tracked("-c", "-i", "--exclude-from=.comfyignore")
    uploaded = tracked() - left_out
    assert {name.split("/")[0] for name in uploaded} - {".comfyignore", ".gitignore"} == SHIPPED
    assert {name.split("/")[0] for name in left_out} == KEPT_BACK
    assert any(name.startswith("web/docs/pictures/") for name in uploaded)
