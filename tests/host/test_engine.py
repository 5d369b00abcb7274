"""The bundle under ComfyUI's memory management, and the sockets' accessors."""

import gc
import weakref

import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.models import NETWORKS

ABSENT = ("flow", "decoder_1x", "decoder_2x")  # from the tiny bundle


@pytest.fixture
def models(genve, tiny_bundle, pack):
    return genve("nodes.engine").HostModels(genve("genve_core.bundle").load_bundle(tiny_bundle))


def loaded():
    import comfy.model_management as management

    return [entry.model for entry in management.current_loaded_models]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ABSENT])
def test_a_network_is_loaded_once_and_kept(models, name):
    before = list(loaded())
    (network,) = models.ready(name, work=1000)
    assert models.ready(name)[0] is network
    new = [patcher for patcher in loaded() if patcher not in before]
    assert new == [models.patcher(name)]
    assert new[0].loaded_size() == new[0].model_size() > 0
    assert not any(p.requires_grad for p in network.parameters()) and not network.training


def test_several_are_loaded_by_one_call(models, monkeypatch):
    import comfy.model_management as management

    calls = []
    real = management.load_models_gpu
    monkeypatch.setattr(management, "load_models_gpu", lambda *a, **k: (calls.append((a, k)), real(*a, **k)))
    networks = models.ready("controller", "video", work=123)
    assert [type(n).__name__ for n in networks] == ["VideoController", "MotionDiffuser"]
    ((patchers,), options), = calls
    assert patchers == [models.patcher("controller"), models.patcher("video")]
    assert options == {"memory_required": 123, "force_full_load": True}


def test_dropping_the_bundle_frees_it(genve, tiny_bundle, pack):
    import comfy.model_management as management

    models = genve("nodes.engine").HostModels(genve("genve_core.bundle").load_bundle(tiny_bundle))
    models.ready("vae", "video")
    gone = [weakref.ref(models.patcher("vae")), weakref.ref(models.build("video"))]
    assert models.patcher("vae") in loaded()
    del models
    gc.collect()
    management.cleanup_models()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize("budget", [0.1, 1000.0])
def test_a_network_is_never_left_in_parts(models, budget):
    """--novram and tight memory ask for a part of it; the meta device shows what was moved."""
    patcher = models.patcher("decoder")
    patcher.load_device = torch.device("meta")
    patcher.partially_load(patcher.load_device, budget)
    assert {p.device.type for p in patcher.model.parameters()} == {"meta"}
    assert patcher.loaded_size() == patcher.model_size()


def test_freeing_a_part_frees_all_of_it(models):
    import comfy.model_management as management

    models.ready("decoder")
    patcher = models.patcher("decoder")
    entry = next(e for e in management.current_loaded_models if e.model is patcher)
    assert entry.model_unload(memory_to_free=1) is True
    assert patcher.loaded_size() == 0
    management.current_loaded_models.remove(entry)
    models.ready("decoder")
    assert patcher.loaded_size() == patcher.model_size()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_it_computes_is_what_genve_core_computes(genve, tiny_bundle, pack, precision):
    from genve_core.models import Models

    frames, z = torch.rand(2, 3, 40, 48) * 2 - 1, torch.randn(1, 2, 4, 8, 8)
    host = genve("nodes.engine").HostModels(genve("genve_core.bundle").load_bundle(tiny_bundle), precision)
    results = []
    for one in (host, Models(load_bundle(tiny_bundle), "cpu", precision)):
        with one.computing():
            vae, controller, video = one.ready("vae", "controller", "video")
            guidance = controller(z, 30, controller.match(z, z.roll(1, -1)), 250)
            results.append((vae.decode(vae.encode(frames)).float(), video(z, 30, guidance).float()))
    assert all(torch.equal(*both) for both in zip(*results, strict=True))


def test_force_fp32_is_obeyed(genve, tiny_bundle, monkeypatch):
    import comfy.model_management as management

    monkeypatch.setattr(management, "FORCE_FP32", True)
    models = genve("nodes.engine").HostModels(genve("genve_core.bundle").load_bundle(tiny_bundle), "bf16")
    assert not models.bf16


def test_a_network_that_the_bundle_lacks_is_named(models, genve):
    with pytest.raises(genve("genve_core.errors").InputError, match="has no flow"):
        models.ready("flow")


@pytest.mark.parametrize("accessor, wanted", [
    ("as_bundle", "a GenVE bundle; wire the bundle output of Load GenVE Bundle"),
    ("as_reference", "a GenVE reference; wire Semantic-Aligning Reference or Reference from Image"),
    ("as_flow", "GenVE's optical flow; wire the flow output of Optical Flow"),
    ("as_guidance", "GenVE guidance; wire the guidance output of LCA Controller"),
    ("as_shots", "GenVE shots; wire the shots output of Find Shots and Key Frames"),
])
@pytest.mark.parametrize("value, got", [(None, "nothing"), (torch.zeros(2, 3), r"a tensor of shape \(2, 3\)"),
                                        ({"samples": 1}, "a dictionary with samples"), ("x", "a str")])
def test_a_wrong_value_on_a_socket_is_told_with_what_to_wire(genve, accessor, wanted, value, got):
    with pytest.raises(genve("genve_core.errors").InputError, match=f"^thing is {got}, wanted {wanted} to it$"):
        getattr(genve("nodes.sockets"), accessor)(value, "thing")


def test_accessors_pass_the_right_value_and_tensors_are_counted(genve, models):
    sockets, clip = genve("nodes.sockets"), genve("genve_core.clip")
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    reference = sockets.GraphReference((clip.Reference(0, a, b, c),), models)
    flow = sockets.GraphFlow(clip.ClipFlow(a, b, {0: c}, {0: a}), b)
    guidance = sockets.GraphGuidance(clip.Guidance(c, 100), reference.references, flow, 1.0, models)
    shots = sockets.GraphShots((genve("genve_core.media.shots").Shot(0, 4, 2),), 4)
    for accessor, value in (("as_bundle", models), ("as_reference", reference), ("as_flow", flow),
                            ("as_guidance", guidance), ("as_shots", shots)):
        assert getattr(sockets, accessor)(value) is value
    assert [t.numel() for t in reference._comfy_cache_tensors()] == [1, 2, 3]
    assert [t.numel() for t in flow._comfy_cache_tensors()] == [1, 2, 3, 1, 2]
    assert [t.numel() for t in guidance._comfy_cache_tensors()] == [3, 1, 2, 3, 1, 2, 3, 1, 2]
    assert shots._comfy_cache_tensors() == []


def test_a_mixture_of_decoders_is_loaded_as_it_is_asked_for_and_the_last_one_goes(models):
    import comfy.model_management as management

    models.ready("decoder")
    some = models.for_preclean(0.3).for_enlargement(4)
    gone = [weakref.ref(some.ready("decoder_mixed")[0]), weakref.ref(some.patcher("decoder_mixed"))]
    del some
    more = models.for_preclean(0.6).for_enlargement(4)
    (network,) = more.ready("decoder_mixed")
    assert network is more.build("decoder_mixed") and more.patcher("decoder_mixed") in loaded()
    assert more.patcher("vae") is models.patcher("vae")
    gc.collect()
    management.cleanup_models()
    assert [ref() for ref in gone] == [None, None]
