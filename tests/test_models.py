"""A bundle's networks as they are held on a device."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from genve_core.bundle import load_bundle
from genve_core.models import HELD_IN_BF16, Models


def asked(models, name):
    """What a network of the tiny bundle makes of random inputs, in the precision of `models`."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 2, 4, 8, 8, generator=generator)
    (network,) = models.ready(name)
    with models.computing():
        if name == "vae":
            return network.encode(torch.rand(1, 3, 32, 32, generator=generator))
        if name.startswith("decoder"):
            return network.latent_in(z[0])
        if name == "controller":
            return network.match(z, z.roll(1, -1))
        return network(z, 30)


def all_decoders(bundle, precision):
    """Of which "decoder_mixed" can be asked too."""
    other = bundle["decoder_precleaned"]
    bundle = replace(bundle, components={**bundle.components, "decoder_1x": other, "decoder_2x": other})
    return Models(bundle, "cpu", precision).for_preclean(0.5).for_enlargement(4)


@pytest.mark.parametrize("name", ["vae", *HELD_IN_BF16])
def test_what_is_held_in_bf16_gives_what_autocast_gives(tiny_bundle, name):
    bundle = load_bundle(tiny_bundle)
    held, plain = all_decoders(bundle, "bf16"), all_decoders(bundle, "float32")
    plain_weights = plain.build(name)
    plain.bf16 = True  # from here on autocast has to make the weights bf16
    assert torch.equal(asked(held, name), asked(plain, name))
    layers = [layer for layer in held.build(name).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert {layer.weight.dtype for layer in layers} == {torch.float32 if name == "vae" else torch.bfloat16}
    assert {x.dtype for x in plain_weights.parameters()} == {torch.float32}  # the bundle's own are left alone


def test_float32_is_held_as_it_is(tiny_bundle):
    models = all_decoders(load_bundle(tiny_bundle), "float32")
    assert {x.dtype for name in HELD_IN_BF16 for x in models.build(name).parameters()} == {torch.float32}


def test_mixtures_share_the_other_networks(tiny_bundle):
    models = Models(load_bundle(tiny_bundle), "cpu", "float32")
    some, more, all_of_it = (models.for_preclean(share).for_enlargement(4) for share in (0.3, 0.6, 1.0))
    assert models.decoder == "decoder" and all_of_it.decoder == "decoder_precleaned"
    assert some.build("vae") is more.build("vae") is models.build("vae")
    head = [one.build(one.decoder).head.weight for one in (models, some, more, all_of_it)]
    torch.testing.assert_close(head[1], torch.lerp(head[0], head[3], 0.3))
    torch.testing.assert_close(head[2], torch.lerp(head[0], head[3], 0.6))
