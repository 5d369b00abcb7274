"""The pack in the real host: it loads without a word of complaint, registers its folder, and its schemas are as recorded."""

import subprocess
import sys
import time
import warnings

import pytest
import torch
from comfy_api_recorder import describe, read_snapshot
from host.server import COMFYUI, ROOT


def test_the_hosts_own_schemas_are_as_in_the_snapshot(node_classes):
    now = sorted((describe(node) for node in node_classes.values()), key=lambda node: node["node_id"])
    assert now == read_snapshot()


def test_importing_the_pack_imports_nothing_slow_and_makes_nothing():
    # in a fresh process: here everything is imported already
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from comfy.cli_args import args; args.cpu = True\n"
            "sys.path.append(sys.argv[2] + '/tests')\n"
            "from comfy_api_recorder import load_pack, load_nodes\n"
            "import comfy_api.latest, comfy.sd, os, torch; before = set(sys.modules); made = []\n"
            "def hook(event, args):\n"
            "    written = event == 'open' and isinstance(args[1], str) and set('wax+') & set(args[1])\n"
            "    if written or event in ('os.mkdir', 'socket.connect', 'subprocess.Popen'): made.append((event, args))\n"
            "sys.addaudithook(hook)\n"
            "sys.dont_write_bytecode = True\n"
            "nodes = load_nodes(load_pack('genve_pack')); [n.GET_SCHEMA() for n in nodes]\n"
            "slow = {'diffusers', 'cv2', 'torchvision', 'av'} & (set(sys.modules) - before)\n"
            "sys.exit(f'imported {slow}, made {made}' if slow or made or torch.cuda.is_initialized() else 0)")
    done = subprocess.run([sys.executable, "-c", code, str(COMFYUI), str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_server_loads_the_pack_without_complaint(host, node_classes):
    text = host.log_text().partition("To see the GUI go to")[0]  # what follows is of the tests, which make errors too
    assert text, "the server never came up"
    assert "IMPORT FAILED" not in text and "Traceback" not in text
    assert not [line for line in text.splitlines() if "GenVE" in line and ("WARN" in line.upper() or "rror" in line)]
    known = host.get("/object_info")
    assert {name for name in known if name.startswith("GenVE")} == set(node_classes)
    assert known["GenVELoadBundle"]["input"]["required"]["bundle"][1]["options"] == ["genve-mini"]


def test_the_model_folder_is_registered_and_the_users_own_paths_come_first(pack):
    import folder_paths

    before = dict(folder_paths.folder_names_and_paths)
    try:
        folder_paths.folder_names_and_paths.pop("genve", None)
        folder_paths.add_model_folder_path("genve", "/mine/genve")  # as extra_model_paths.yaml does
        pack.comfy_entrypoint()
        pack.comfy_entrypoint()  # once more changes nothing
        paths, kinds = folder_paths.folder_names_and_paths["genve"]
        assert paths[0] == "/mine/genve" and len(paths) == 2 and paths[1].endswith("genve")
        assert kinds == {".safetensors"}
    finally:
        folder_paths.folder_names_and_paths.clear()
        folder_paths.folder_names_and_paths.update(before)


def test_an_error_while_loading_is_logged_with_its_place(pack, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "genve_pack.nodes.model_folder", None)
    with pytest.raises(ImportError):
        pack.comfy_entrypoint()
    assert "GenVE" in caplog.text and "comfy_entrypoint" in caplog.text


def test_caching_progress_and_outputs_are_reported(host):
    prompt = {"1": {"class_type": "ProbeImages", "inputs": {"frames": 3, "width": 24, "height": 16, "channels": 3, "seed": 1}},
              "2": {"class_type": "ProbeSave", "inputs": {"value": ["1", 0], "file": "a.pt"}}}
    first = host.run(prompt)
    assert first.status == "success" and first.executed == ["1", "2"] and not first.cached
    assert host.saved("a.pt").shape == (3, 16, 24, 3)
    again = host.run(prompt)
    assert again.executed == [] and sorted(again.cached) == ["1", "2"]
    prompt["2"]["inputs"]["file"] = "b.pt"
    assert host.run(prompt).executed == ["2"]
    assert torch.equal(host.saved("a.pt"), host.saved("b.pt"))


def test_previews_and_interrupt_are_reported(host):
    def slow(steps):
        return {"1": {"class_type": "ProbeSlow", "inputs": {"steps": steps}}}

    whole = host.run(slow(3))
    assert whole.status == "success" and [value for _, value, _ in whole.progress] == [1, 2, 3]
    assert len(whole.previews) == 3 and all(picture.startswith(b"\xff\xd8") for picture in whole.previews)
    future, growing = host.start(slow(2000))
    until = time.monotonic() + 30
    while not growing.progress and time.monotonic() < until:
        time.sleep(0.05)
    host.interrupt()
    assert future.result(timeout=30).status == "interrupted"
    assert len(growing.progress) < 1000


def test_a_prompt_of_unknown_nodes_is_reported(host):
    result = host.run({"1": {"class_type": "NoSuchNode", "inputs": {}}})
    assert result.status == "invalid" and "NoSuchNode" in result.errors["prompt"]


def test_the_packs_own_warnings_are_errors_here_and_the_hosts_are_not():
    def warn_in(module):
        warnings.warn_explicit("old", UserWarning, "some.py", 1, module)

    warn_in("comfy.sd")
    with pytest.raises(UserWarning, match="old"):
        warn_in("genve_pack.nodes.run")


def test_pytest_does_not_import_the_root_as_a_package():
    root = str(ROOT / "__init__.py")
    names = [name for name, module in list(sys.modules.items()) if getattr(module, "__file__", None) == root]
    assert set(names) <= {"genve_pack", "genve_pack_recorded"}
