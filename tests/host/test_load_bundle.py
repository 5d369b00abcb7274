"""Load GenVE Bundle in the real host: what it takes, what it refuses, when it runs anew."""

import json
import re
import shutil

import pytest


def prompt(bundle: str) -> dict:
    return {"1": {"class_type": "GenVELoadBundle", "inputs": {"bundle": bundle}},
            "2": {"class_type": "ProbeSave", "inputs": {"value": ["1", 0], "file": "bundle.pt"}}}


@pytest.fixture
def installed(host, tiny_bundle):
    """A bundle named "tiny" in the server's models/genve, gone after the test."""
    folder = host.models / "genve" / "tiny"
    shutil.copytree(tiny_bundle, folder)
    yield folder
    shutil.rmtree(folder)


def test_the_bundle_that_ships_loads_and_is_reused(host):
    first = host.run(prompt("genve-mini"))
    assert first.status == "success", first.errors
    assert "HostModels" in host.saved("bundle.pt")
    assert host.run(prompt("genve-mini")).executed == []


def test_a_bundle_in_the_models_folder_is_offered_and_loads(host, installed):
    offered = host.get("/object_info/GenVELoadBundle")["GenVELoadBundle"]["input"]["required"]["bundle"][1]["options"]
    assert sorted(offered) == ["genve-mini", "tiny"]
    assert host.run(prompt("tiny")).status == "success"


def test_a_bundle_in_a_folder_of_extra_model_paths_is_offered_and_loads(host, tiny_bundle):
    folder = host.where / "elsewhere" / "bundles" / "far"
    shutil.copytree(tiny_bundle, folder)
    try:
        offered = host.get("/object_info/GenVELoadBundle")["GenVELoadBundle"]["input"]["required"]["bundle"][1]["options"]
        assert offered == ["far", "genve-mini"]
        assert host.run(prompt("far")).status == "success"
    finally:
        shutil.rmtree(folder)


def test_a_replaced_bundle_is_loaded_anew(host, installed):
    assert host.run(prompt("tiny")).status == "success"
    about = json.loads((installed / "bundle.json").read_text())
    about["defaults"]["noise_level"] = 100
    (installed / "bundle.json").write_text(json.dumps(about))
    assert host.run(prompt("tiny")).executed == ["1", "2"]
    assert host.run(prompt("tiny")).executed == []


PATHS = ["../../../../etc", "../genve/tiny", "..", ".", "", "/etc", "tiny/../tiny", "no such", "tiny\\x"]


@pytest.mark.parametrize("name", PATHS)
def test_a_name_that_is_no_installed_bundle_is_refused_before_anything_runs(host, installed, name):
    result = host.run(prompt(name))
    assert result.status == "invalid" and not result.executed
    assert f"bundle {name!r} is not installed, only tiny, genve-mini; put its folder" in result.errors["1"]


def test_a_path_is_refused_by_execute_too(run_node, tiny_bundle):
    with pytest.raises(ValueError, match="is not installed"):
        run_node("GenVELoadBundle", bundle=str(tiny_bundle))


def spoil_weights(folder):
    data = bytearray((folder / "controller.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "controller.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "vae.safetensors").unlink(), r"vae\.safetensors is missing; fetch the bundle again"),
        (spoil_weights, r"controller\.safetensors has sha256 .* it was changed or damaged, fetch the bundle again"),
        (lambda folder: (folder / "bundle.json").write_text("{"), r"bundle\.json is damaged .* fetch the bundle again"),
        (lambda folder: (folder / "bundle.json").write_text('{"format": 9}'),
         "has format 9, this version reads 1; update the pack"),
    ],
)
def test_a_damaged_bundle_is_told_on_the_node(host, installed, spoil, message):
    spoil(installed)
    result = host.run(prompt("tiny"))
    assert result.status == "error" and list(result.errors) == ["1"]
    assert re.search(message, result.errors["1"]) and "\n" not in result.errors["1"], result.errors


def test_a_whole_bundle_runs_again_after_a_damaged_one(host, installed):
    file = installed / "vae.safetensors"
    whole = file.read_bytes()
    file.unlink()
    assert host.run(prompt("tiny")).status == "error"
    file.write_bytes(whole)
    assert host.run(prompt("tiny")).status == "success"
