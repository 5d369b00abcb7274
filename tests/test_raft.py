import builtins

import pytest
import torch
from safetensors.torch import save_file

from genve_core.bundle import load_bundle, save_component
from genve_core.conditioning import raft
from genve_core.conditioning.flow import FlowConfig, flow_estimator
from genve_core.conditioning.raft import build_raft, load_raft, padded_side, raft_flow
from genve_core.errors import InputError

pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def small() -> raft.Raft:
    torch.manual_seed(0)
    return build_raft(iterations=2).eval().requires_grad_(False)


def pictures(n: int, h: int, w: int) -> torch.Tensor:
    return torch.rand((n, 3, h, w), generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("side", "padded"), [(1, 128), (128, 128), (129, 136), (136, 136), (351, 352)])
def test_a_side_is_padded_to_a_multiple_of_8_from_128(side, padded):
    assert padded_side(side) == padded


@pytest.mark.parametrize(("h", "w"), [(8, 8), (45, 131), (137, 70)])
def test_any_size_has_flow_of_its_own_size(small, h, w):
    a, b = pictures(2, h, w).split(1)
    flow = raft_flow(small)(a, b)
    assert flow.shape == (1, 2, h, w) and flow.dtype == torch.float32 and torch.isfinite(flow).all()


def test_frames_that_need_no_padding_reach_the_network_untouched(small):
    a, b = pictures(2, 128, 136).split(1)
    assert torch.equal(small(a, b)[-1], small.net(a, b, num_flow_updates=2)[-1])
    assert not torch.equal(small(a, b)[-1], small(b, a)[-1])


def test_one_flow_an_update_and_the_number_of_updates_can_be_chosen(small):
    a, b = pictures(2, 128, 128).split(1)
    three = small(a, b, 3)
    assert len(small(a, b)) == 2 and len(three) == 3
    assert torch.equal(raft_flow(small, 3)(a, b), three[-1])
    assert not torch.equal(three[-1], three[-2])


def test_pairs_are_independent_of_how_they_are_grouped(small, monkeypatch):
    a, b = pictures(6, 40, 56).split(3)
    together = raft_flow(small)(a, b)
    monkeypatch.setattr(raft, "VOLUME", 1)  # one pair at a time
    assert torch.allclose(together, raft_flow(small)(a, b), atol=1e-4)


def test_autocast_does_not_cost_precision(small):
    a, b = pictures(2, 128, 128).split(1)
    plain = small(a, b)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(small(a, b)[-1], plain)


def test_a_bundle_gives_back_the_same_raft(small, tmp_path):
    save_component(tmp_path, "flow", small)
    loaded = load_bundle(tmp_path)["flow"]
    assert isinstance(loaded, raft.Raft) and loaded.config == {"architecture": "small", "iterations": 2}
    for name, tensor in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
    estimate = flow_estimator(FlowConfig(estimator="raft"), loaded)
    a, b = pictures(2, 33, 47).split(1)
    assert torch.equal(estimate(a, b), raft_flow(loaded)(a, b))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_torchvision_are_read(small, suffix, tmp_path):
    file = tmp_path / f"raft{suffix}"
    (torch.save if suffix == ".pth" else save_file)(small.net.state_dict(), file)
    loaded = load_raft(file, iterations=2)
    a, b = pictures(2, 128, 128).split(1)
    assert loaded.config["architecture"] == "small"
    assert torch.equal(raft_flow(loaded)(a, b), raft_flow(small)(a, b))


def test_the_large_network_is_told_apart_by_its_weights(tmp_path):
    large = build_raft("large", 1)
    save_file(large.net.state_dict(), tmp_path / "large.safetensors")
    assert load_raft(tmp_path / "large.safetensors").config == {"architecture": "large", "iterations": 12}


def test_foreign_files_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"none.pth were not found"):
        load_raft(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save(small, tmp_path / "pickle.pth")  # a whole module would run code when read
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("text.pth", "other.pth", "pickle.pth", "other.safetensors"):
        with pytest.raises(InputError, match=f"{name} does not hold the weights of torchvision's RAFT .*or use dis"):
            load_raft(tmp_path / name)


def test_wrong_arguments_are_refused(small):
    with pytest.raises(InputError, match=r"architecture must be 'small' or 'large', got 'tiny'"):
        build_raft("tiny")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"iterations must be 1 or more, got 0"):
        build_raft(iterations=0)
    with pytest.raises(InputError, match="the flow component must be a RAFT, got Linear"):
        raft_flow(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"frames of one size, got \(1, 3, 9, 8\) and \(1, 3, 8, 8\)"):
        small(pictures(1, 9, 8), pictures(1, 8, 8))


def test_a_missing_torchvision_names_the_extra_to_install(monkeypatch):
    real = builtins.__import__

    def without_torchvision(name, *args, **kwargs):
        if name.startswith("torchvision"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torchvision)
    with pytest.raises(InputError, match=r'pip install "genve\[flow\]", or use the estimator dis'):
        build_raft()
