"""The pack in real front ends: tests/browser/run.mjs, once per front end, with two workflows. Slow: minutes each.

All workflows: `node tests/browser/run.mjs`, see its README.

Needs node, playwright-core (PLAYWRIGHT_CORE: its folder, else node finds it) and Chromium (GENVE_CHROMIUM). The newest
front end is used where GENVE_NEW_FRONT_END names its static folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from host.server import COMFYUI, ROOT, _free_port

HARNESS = ROOT / "tests" / "browser"
FRONT_ENDS = ["bundled", "newest", "newest-vue"]
WORKFLOWS = "compare_clip,Enhance a clip in one node"


def why_not(front_end: str) -> str:
    """Why the browser test cannot run here; empty if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    chromium = os.environ.get("GENVE_CHROMIUM", "/usr/bin/chromium")
    if not Path(chromium).is_file():
        return f"no Chromium at {chromium}; set GENVE_CHROMIUM"
    look = "import('./host.mjs').then((host) => host.chromium()).catch(() => process.exit(1))"
    if subprocess.run(["node", "-e", look], cwd=HARNESS, capture_output=True, check=False).returncode:
        return "playwright-core is not installed; set PLAYWRIGHT_CORE to its folder"
    if front_end != "bundled" and not os.environ.get("GENVE_NEW_FRONT_END"):
        return "GENVE_NEW_FRONT_END is not set"
    return ""


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_workflows_comparer_help_and_chinese_in(front_end, tmp_path):
    if reason := why_not(front_end):
        pytest.skip(reason)
    command = ["node", str(HARNESS / "run.mjs"), "--front-end", front_end, "--workflow", WORKFLOWS,
               "--port", str(_free_port()), "--host", str(tmp_path / "host"), "--shots", str(tmp_path / "shots")]
    environment = {**os.environ, "COMFYUI_PATH": str(COMFYUI), "GENVE_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nscreenshots: {tmp_path / 'shots'}"
    assert "all passed" in done.stdout
