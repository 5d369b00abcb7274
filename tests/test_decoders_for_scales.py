"""The decoders for clips at 1x and 2x: which clips each decodes, and that they go with the decoder they came from."""

import shutil
from dataclasses import replace

import pytest
import torch
from media_clips import moving_pattern
from torch import nn

from genve_core.bundle import load_bundle, save_component
from genve_core.clip import Clip
from genve_core.decoder.detail_decoder import DetailDecoder
from genve_core.dial import decoder_shares
from genve_core.models import Models
from genve_core.pipeline import enhance
from genve_core.steps import encode_clip, own_reference
from genve_core.training.average import main as average

FOR_SCALES = ("decoder_1x", "decoder_2x")


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    """With a third and a fourth decoder, as random as the others."""
    plain = load_bundle(tiny_bundle)
    others = {name: DetailDecoder.from_config(plain["decoder"].config) for name in FOR_SCALES}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for other in others.values():
            for layer in (other.tail, other.further[-1]):
                nn.init.normal_(layer.weight, std=0.05)
    return replace(plain, components=plain.components | {n: m.eval().requires_grad_(False) for n, m in others.items()})


@pytest.fixture(scope="module")
def clip():
    return moving_pattern(6, 24, 32)


def run(clip, bundle, **config):
    return enhance(clip, bundle=bundle, device="cpu", precision="float32", key_frame=2, **config)


def with_decoder(bundle, shares):
    """The bundle whose only decoder is the mean of some of its own. shares: {component: share}."""
    mean = DetailDecoder.from_config(bundle["decoder"].config).eval()
    states = {name: bundle[name].state_dict() for name in shares}
    mean.load_state_dict({key: sum(share * states[name][key] for name, share in shares.items()) for key in mean.state_dict()})
    rest = {name: part for name, part in bundle.components.items() if not name.startswith("decoder")}
    return replace(bundle, components=rest | {"decoder": mean})


@pytest.mark.parametrize(("enlargement", "at_1x", "at_2x"), [
    (0.5, 1, 0), (1, 1, 0), (1.25, 0.75, 0.25), (2, 0, 1), (3, 0, 0.5), (4, 0, 0), (8, 0, 0),
])
def test_a_share_is_whole_at_its_own_enlargement_and_falls_from_there(enlargement, at_1x, at_2x):
    assert decoder_shares(enlargement) == {"decoder_1x": at_1x, "decoder_2x": at_2x}


@pytest.mark.parametrize(("without", "scale", "shares"), [
    ((), 1.0, {"decoder_1x": 1}), ((), 1.5, {"decoder_1x": 0.5, "decoder_2x": 0.5}), ((), 2.0, {"decoder_2x": 1}),
    ((), 3.0, {"decoder": 0.5, "decoder_2x": 0.5}), ((), 4.0, {"decoder": 1}),
    (("decoder_1x",), 1.0, {"decoder": 1}), (("decoder_1x",), 1.5, {"decoder": 0.5, "decoder_2x": 0.5}),
    (("decoder_2x",), 1.5, {"decoder": 0.5, "decoder_1x": 0.5}), (("decoder_2x",), 2.0, {"decoder": 1}),
])
def test_the_enlargement_says_which_decoder_decodes(clip, bundle, without, scale, shares):
    """With a picture given: without one, the wanted size need not be that at which the networks work."""
    some = replace(bundle, components={name: part for name, part in bundle.components.items() if name not in without})
    given = {"scale": scale, "reference": moving_pattern(1, 96, 128)[0], "align": False}
    found, wanted = run(clip, some, **given), run(clip, with_decoder(bundle, shares), **given)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    if shares != {"decoder": 1}:
        assert not torch.allclose(found, run(clip, with_decoder(bundle, {"decoder": 1}), **given), atol=1e-3)


@pytest.mark.parametrize(("preclean", "shares"), [(0.25, {"decoder_2x": 0.75, "decoder_precleaned": 0.25}),
                                                  (1.0, {"decoder_precleaned": 1})])
def test_precleaned_frames_have_their_share_first(bundle, preclean, shares):
    chosen = Models(bundle, "cpu", "float32").for_preclean(preclean).for_enlargement(2)
    wanted = with_decoder(bundle, shares)["decoder"].state_dict()
    for name, tensor in chosen.build(chosen.decoder).state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], atol=1e-6, rtol=1e-5)


def test_the_reference_that_is_made_here_is_decoded_by_it_too(clip, bundle):
    shot = Clip(clip, (48, 64))
    made = []
    for one in (bundle, with_decoder(bundle, {"decoder_2x": 1}), with_decoder(bundle, {"decoder": 1})):
        models = Models(one, "cpu", "float32")
        made.append(own_reference(models, shot, encode_clip(models, shot), 2).image)
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2], atol=1e-3)


def test_of_decoders_that_differ_in_shape_the_nearer_one_decodes(bundle):
    deeper = replace(bundle, components=bundle.components | {"decoder_2x": bundle["decoder"].deepened((1, 1, 2, 1, 1))})
    models = Models(deeper, "cpu", "float32")
    chosen = [models.for_enlargement(x).decoder for x in (1.0, 1.4, 1.6, 2.9, 3.1)]
    assert chosen == ["decoder_1x", "decoder_1x", "decoder_2x", "decoder_2x", "decoder"]


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_fine_decoder_decodes_alone_and_in_a_mean(bundle, tiny_bundle, tmp_path, scale):
    """Of frames that do not move, it finds the same as the one it was made from."""
    shutil.copytree(tiny_bundle, tmp_path / "run")
    for name in FOR_SCALES:
        save_component(tmp_path / "run", name, bundle[name].with_fine() if name == "decoder_1x" else bundle[name])
    still, given = moving_pattern(1, 24, 32).expand(6, -1, -1, -1), {"scale": scale, "reference": moving_pattern(1, 96, 128)[0]}
    finer = load_bundle(tmp_path / "run")
    assert finer["decoder_1x"].fine
    assert (run(still, finer, **given) - run(still, bundle, **given)).abs().mean() < 1e-3
    moving = run(moving_pattern(6, 24, 32), finer, **given)
    assert (moving - run(moving_pattern(6, 24, 32), bundle, **given)).abs().max() > 1e-3


def test_a_decoder_that_is_trained_further_is_not_hidden_by_those_for_certain_scales(bundle, tiny_bundle, tmp_path):
    """What `genve train` writes decodes at every scale."""
    shutil.copytree(tiny_bundle, tmp_path / "run")
    for name in (*FOR_SCALES, "vae"):
        save_component(tmp_path / "run", name, bundle[name])
    assert set(FOR_SCALES) <= load_bundle(tmp_path / "run").components.keys()
    save_component(tmp_path / "run", "decoder", bundle["decoder"])
    assert not set(FOR_SCALES) & load_bundle(tmp_path / "run").components.keys()
    assert not [name for name in FOR_SCALES if (tmp_path / "run" / f"{name}.safetensors").exists()]


def test_a_decoder_becomes_the_one_for_two_times_in_eight_bits(bundle, tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "run")
    save_component(tmp_path / "run", "decoder", bundle["decoder_2x"])
    average(["decoder", f"{tiny_bundle}=0", f"{tmp_path / 'run'}=1", "--as", "decoder_2x", "--bits", "8", "--into",
             str(tmp_path / "both")])
    both = load_bundle(tmp_path / "both")
    for name, tensor in bundle["decoder_2x"].state_dict().items():
        most = float(tensor.abs().max())
        torch.testing.assert_close(both["decoder_2x"].state_dict()[name], tensor, rtol=1e-3, atol=most / 250)
    for name, tensor in load_bundle(tiny_bundle)["decoder"].state_dict().items():
        assert torch.equal(both["decoder"].state_dict()[name], tensor)
    size = [(tmp_path / "both" / f"{name}.safetensors").stat().st_size for name in ("decoder_2x", "decoder")]
    assert size[0] < size[1]
