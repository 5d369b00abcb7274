"""Weights in 8 bits: what a file loses, and what is told of one that does not fit."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from genve_core.bundle import load_bundle, save_component, sha256
from genve_core.eight_bits import packed, unpacked
from genve_core.errors import InputError
from genve_core.vae import MiniVAE


def test_a_row_loses_half_a_step_of_its_own_at_most():
    state = {"weight": torch.randn(6, 4, 3, 3) * torch.logspace(-6, 2, 6).reshape(6, 1, 1, 1), "empty": torch.zeros(2, 3),
             "bias": torch.randn(6)}
    stored = packed(state)
    assert stored["weight"].dtype == stored["empty"].dtype == torch.int8
    read = unpacked(stored, "a file")
    step = state["weight"].flatten(1).abs().amax(1) / 127
    assert ((read["weight"] - state["weight"]).flatten(1).abs().amax(1) <= 0.501 * step).all()
    assert torch.equal(read["empty"], state["empty"])
    assert torch.equal(read["bias"], state["bias"].half().float())
    assert list(read) == list(state)


def test_packed_again_it_loses_nothing_more():
    once = unpacked(packed({"weight": torch.randn(5, 7)}), "a file")
    torch.testing.assert_close(unpacked(packed(once), "a file"), once, rtol=1e-6, atol=0)


def test_a_tensor_of_its_own_that_is_called_scale_is_kept():
    state = {"norm": torch.randn(4), "norm.scale": torch.randn(4)}
    assert list(unpacked(packed(state), "a file")) == ["norm", "norm.scale"]


@pytest.fixture
def small(tmp_path):
    """A bundle of one component in 8 bits, and that component as it was."""
    vae = MiniVAE(3, (8, 8, 16), 1)
    save_component(tmp_path / "small", "vae", vae, bits=8)
    return tmp_path / "small", vae


def test_a_component_takes_half_of_the_room_and_comes_back(small, tmp_path):
    folder, vae = small
    save_component(tmp_path / "large", "vae", vae)
    small_size, large_size = ((x / "vae.safetensors").stat().st_size for x in (folder, tmp_path / "large"))
    assert small_size < 0.65 * large_size  # so small a network has many rows for its weights
    for name, tensor in load_bundle(folder)["vae"].state_dict().items():
        wanted = vae.state_dict()[name]
        torch.testing.assert_close(tensor, wanted, rtol=1e-3, atol=float(wanted.abs().max()) / 250)


@pytest.mark.parametrize(("change", "got"), [(lambda s, name: s.pop(name), "none"),
                                             (lambda s, name: s.update({name: torch.ones(1)}), r"\(1,\)")])
def test_scales_that_do_not_fit_are_named(small, change, got):
    folder, _ = small
    file = folder / "vae.safetensors"
    state = load_file(file)
    name = next(name for name, tensor in state.items() if tensor.dtype == torch.int8)
    change(state, f"{name}.scale")
    save_file(state, file)
    about = json.loads((folder / "bundle.json").read_text())
    about["components"]["vae"]["sha256"] = sha256(file)
    (folder / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=rf"vae\.safetensors: tensor {name} of 8 bits has scales {got}, wanted .* fetch"):
        load_bundle(folder)


def test_other_numbers_of_bits_are_refused(tmp_path):
    with pytest.raises(InputError, match="bits must be 8 or 16, got 4"):
        save_component(tmp_path / "b", "vae", MiniVAE(3, (8, 8, 16), 1), bits=4)
    assert not (tmp_path / "b").exists()
