"""The bundle's VAE in ComfyUI's own encode and decode nodes, plain and tiled, against genve_core's."""

import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.video_codec import decode, encode

SIZE = {"frames": 3, "width": 200, "height": 136, "channels": 3, "seed": 4}


@pytest.fixture(scope="module")
def core_vae():
    return load_bundle("genve-mini", only=("vae",))["vae"]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def graph(encoder: str, decoder: str, **tiles: int) -> dict:
    return {
        "1": {"class_type": "ProbeImages", "inputs": SIZE},
        "2": {"class_type": "GenVELoadBundle", "inputs": {"bundle": "genve-mini"}},
        "3": {"class_type": encoder, "inputs": {"pixels": ["1", 0], "vae": ["2", 1], **tiles}},
        "4": {"class_type": decoder, "inputs": {"samples": ["3", 0], "vae": ["2", 1], **tiles}},
        "5": {"class_type": "ProbeSave", "inputs": {"value": ["1", 0], "file": "images.pt"}},
        "6": {"class_type": "ProbeSave", "inputs": {"value": ["3", 0], "file": "latent.pt"}},
        "7": {"class_type": "ProbeSave", "inputs": {"value": ["4", 0], "file": "decoded.pt"}},
    }


def test_plain_encode_and_decode_give_what_genve_core_gives(host, core_vae):
    result = host.run(graph("VAEEncode", "VAEDecode"))
    assert result.status == "success", result.errors
    images, latent, decoded = (host.saved(name) for name in ("images.pt", "latent.pt", "decoded.pt"))
    video = images.movedim(-1, 1)[None] * 2 - 1
    with torch.inference_mode():
        Z = encode(core_vae, video)
        own = (decode(core_vae, Z)[0].movedim(1, -1) + 1) / 2
    assert latent["samples"].shape == (3, 16, 17, 25)
    torch.testing.assert_close(latent["samples"], Z[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded, own, atol=1e-4, rtol=0)
    assert psnr(decoded, images) == pytest.approx(psnr(own, images), abs=0.01)
    assert psnr(decoded, images) > 28  # measured 31.5 dB


def test_tiles_change_next_to_nothing(host):
    assert host.run(graph("VAEEncode", "VAEDecode")).status == "success"
    whole, images = host.saved("decoded.pt"), host.saved("images.pt")
    result = host.run(graph("VAEEncodeTiled", "VAEDecodeTiled", tile_size=128, overlap=32,
                            temporal_size=64, temporal_overlap=8))
    assert result.status == "success", result.errors
    tiled = host.saved("decoded.pt")
    # the host's tiles of 128 px share 32 px only, and show the padding at their edges; measured 42.6 and -0.47 dB
    assert psnr(tiled, whole) > 41
    assert psnr(tiled, images) > psnr(whole, images) - 0.6


def test_images_of_other_sizes_are_cropped_as_the_host_does_with_every_vae(mini):
    with torch.inference_mode():
        assert mini[1].encode(torch.rand(1, 43, 61, 3)).shape == (1, 16, 5, 7)


def test_it_shares_the_network_with_the_bundle(mini):
    models, vae = mini
    assert vae.patcher is models.patcher("vae") and vae.first_stage_model is models.build("vae")


def test_saving_it_gives_its_weights(mini):
    assert vae_keys(mini[1]) == vae_keys(load_bundle("genve-mini", only=("vae",))["vae"])


def vae_keys(vae) -> set[str]:
    return set(vae.get_sd() if hasattr(vae, "get_sd") else vae.state_dict())
