import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from genve_core.bundle import Defaults, find_bundle, load_bundle, save_component, sha256
from genve_core.errors import InputError
from genve_core.vae import MiniVAE


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def change_tensors(bundle: Path, part: str, change) -> None:
    """Rewrite one component's file with a matching hash, as a careless tool would."""
    file = bundle / f"{part}.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file)
    about = json.loads((bundle / "bundle.json").read_text())
    about["components"][part]["sha256"] = sha256(file)
    (bundle / "bundle.json").write_text(json.dumps(about))


def test_a_saved_component_comes_back_as_it_was_up_to_half_precision(tmp_path):
    torch.manual_seed(0)
    vae = MiniVAE(3, (8, 8, 16), 1)
    save_component(tmp_path / "b", "vae", vae, {"stage": "vae", "steps": 5})
    bundle = load_bundle(tmp_path / "b")
    assert bundle.training == [{"stage": "vae", "steps": 5}]
    for name, tensor in vae.state_dict().items():
        assert torch.equal(bundle["vae"].state_dict()[name], tensor.half().float()), name


def test_training_a_stage_again_replaces_its_record(tmp_path):
    vae = MiniVAE(3, (8, 8, 16), 1)
    for steps in (5, 9):
        save_component(tmp_path / "b", "vae", vae, {"stage": "vae", "steps": steps})
    assert load_bundle(tmp_path / "b").training == [{"stage": "vae", "steps": 9}]


def test_only_the_components_asked_for_are_read(broken):
    (broken / "decoder.safetensors").write_bytes(b"")
    assert list(load_bundle(broken, only=("vae",)).components) == ["vae"]


def test_a_component_that_is_not_there_is_named(tmp_path):
    save_component(tmp_path / "b", "vae", MiniVAE(3, (8, 8, 16), 1))
    with pytest.raises(InputError, match="has no decoder, only vae; train that stage"):
        load_bundle(tmp_path / "b")["decoder"]


def test_missing_extra_and_misshaped_tensors_are_named(broken):
    change_tensors(broken, "vae", lambda s: s.pop("shift"))
    with pytest.raises(InputError, match="lacks the tensor shift"):
        load_bundle(broken)
    change_tensors(broken, "vae", lambda s: s.update(shift=torch.zeros(1, 4, 1, 1), other=torch.zeros(2)))
    with pytest.raises(InputError, match="unknown tensor other"):
        load_bundle(broken)
    change_tensors(broken, "vae", lambda s: (s.pop("other"), s.update(shift=torch.zeros(1, 5, 1, 1))))
    with pytest.raises(InputError, match=r"tensor shift is \(1, 5, 1, 1\), wanted \(1, 4, 1, 1\)"):
        load_bundle(broken)


def test_nan_in_a_tensor_is_found(broken):
    change_tensors(broken, "decoder", lambda s: s["tail.bias"].fill_(float("nan")))
    with pytest.raises(InputError, match=r"tail\.bias holds NaN"):
        load_bundle(broken)


def test_a_changed_file_fails_its_hash(broken):
    file = broken / "vae.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match=r"has sha256 .* bundle\.json says"):
        load_bundle(broken)


def test_a_pickle_in_place_of_safetensors_is_refused(broken):
    file = broken / "vae.safetensors"
    torch.save({"weight": torch.zeros(1)}, file)
    about = json.loads((broken / "bundle.json").read_text())
    about["components"]["vae"]["sha256"] = sha256(file)
    (broken / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_bundle(broken)
    about["components"]["vae"]["file"] = "vae.pt"
    (broken / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="other formats are not read"):
        load_bundle(broken)


def test_a_missing_file_is_named(broken):
    (broken / "motion.safetensors").unlink()
    with pytest.raises(InputError, match=r"motion\.safetensors is missing"):
        load_bundle(broken)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is damaged"), ("[]", "has format 'list'"),
    ('{"format": 99, "components": {}}', "has format 99, this version reads 1"),
    ('{"format": 1, "components": {"engine": {}}}', "unknown component 'engine'"),
    ('{"format": 1, "components": {}, "schedule": {"speed": 1}, "defaults": {}}', "does not describe a bundle"),
])
def test_a_wrong_description_is_explained(tmp_path, text, message):
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_bundle(tmp_path)


def test_many_steps_begin_as_early_as_they_need():
    defaults = Defaults(steps=2, video_start=30)
    assert defaults.video_times() == [30, 15]
    assert defaults.video_times(1) == [30]
    assert defaults.video_times(31)[0] == 30
    assert defaults.video_times(40) == list(range(39, -1, -1))
    assert defaults.video_times(1, 250) == [250]


@pytest.mark.parametrize(("steps", "start", "limit"), [(0, None, 31), (1001, None, 1000), (252, 250, 251)])
def test_steps_that_no_start_holds_are_refused(steps, start, limit):
    with pytest.raises(InputError, match=rf"steps must be in \[1, {limit}\] for start time {limit - 1}, got {steps}"):
        Defaults(video_start=30).video_times(steps, start)


def test_names_are_looked_up_in_folders_and_cannot_leave_them(tiny_bundle):
    assert find_bundle(tiny_bundle.name, (tiny_bundle.parent,)) == tiny_bundle
    for name in ("no-such-bundle", "../" + tiny_bundle.name, "a/b"):
        with pytest.raises(InputError, match="was not found; give a folder"):
            find_bundle(name, (tiny_bundle.parent,))
