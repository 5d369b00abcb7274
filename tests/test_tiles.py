"""Large frames in parts: the decoder's give what the whole gives, the diffuser's are cross-faded."""

import pytest
import torch
from torch import nn

from genve_core.bundle import load_bundle
from genve_core.decoder.detail_decoder import DecoderInputs, DetailDecoder
from genve_core.decoder.tiles import SURROUND, decode_in_tiles, tiles
from genve_core.diffuser.tiles import latent_tiles
from genve_core.errors import InputError
from genve_core.pipeline import EnhanceConfig, Enhancer
from genve_core.video_codec import TilingConfig


@pytest.mark.parametrize("size", [(8, 8), (96, 64), (448, 704), (2176, 3840), (2176, 32)])
@pytest.mark.parametrize("most", [64, 512**2, 1024**2])
def test_tiles_keep_every_pixel_once_and_see_their_surround(size, most):
    count = torch.zeros(size, dtype=torch.int64)
    found = tiles(size, most)
    for tile in found:
        count[tile.own_rows, tile.own_columns] += 1
        for own, seen, side in ((tile.own_rows, tile.rows, size[0]), (tile.own_columns, tile.columns, size[1])):
            assert seen == slice(max(0, own.start - SURROUND), min(side, own.stop + SURROUND))
            assert own.start % 8 == seen.start % 8 == seen.stop % 8 == 0
        if most >= 512**2:
            assert (tile.rows.stop - tile.rows.start) * (tile.columns.stop - tile.columns.start) <= most
    assert bool((count == 1).all())
    assert len(found) == 1 or size[0] * size[1] > most


def a_decoder(**config):
    """As deep as genve-mini's, narrow, and not silent as an untrained one is."""
    decoder = DetailDecoder(latent_channels=4, channels=(8, 8, 16), depth=(1, 2, 5, 8, 10), **config).eval()
    nn.init.normal_(decoder.tail.weight, std=0.1)
    if decoder.further is not None:
        nn.init.normal_(decoder.further[-1].weight, std=0.1)
    if decoder.weights is not None:
        nn.init.normal_(decoder.weights.weight, std=0.03)
    return decoder


def some_inputs(frames, h, w, reach=2, fine=False):
    shapes = {"up": (3, 1), "detail": (3, 1), "valid": (1, 2), "key": (3, 2), "near": (6 * reach, 1 if fine else 2)}
    made = {name: torch.rand(frames, c, h // by, w // by) for name, (c, by) in shapes.items()}
    return DecoderInputs(**made)


@pytest.mark.parametrize("full_noise, plain, fine",
                         [(0, None, False), (400, None, False), (400, 100, False), (400, None, True)])
def test_decoding_in_tiles_gives_what_the_whole_frame_gives(full_noise, plain, fine):
    decoder, latents = a_decoder(full_noise=full_noise, fine=fine), torch.randn(2, 4, 40, 68)
    inputs = some_inputs(2, 320, 544, fine=fine)
    with torch.inference_mode():
        whole = decoder(latents, inputs, 250, plain)
        assert len(tiles((320, 544), 300**2)) > 2
        parts = decode_in_tiles(decoder, latents, inputs, 250, 300**2, plain)
    assert (whole - inputs.up).abs().max() > 0.05  # it does something
    assert (parts - whole).abs().max() < 2e-6


def test_a_frame_that_fits_is_decoded_whole_to_the_bit():
    decoder, inputs, latents = a_decoder(), some_inputs(1, 64, 96), torch.randn(1, 4, 8, 12)
    with torch.inference_mode():
        assert torch.equal(decode_in_tiles(decoder, latents, inputs, 0, 64 * 96), decoder(latents, inputs, 0))


@pytest.mark.parametrize("size", [(4, 4), (64, 100), (128, 128), (132, 128), (272, 480), (140, 1000)])
def test_tiles_of_latents_cover_and_their_weights_sum_to_one(size):
    tiling = TilingConfig(diffuse=1024)
    total, found = torch.zeros(size), latent_tiles(size, tiling)
    for tile in found:
        rows, columns = tile.rows, tile.columns
        assert all(span.stop - span.start <= 128 and span.start % 4 == span.stop % 4 == 0 for span in (rows, columns))
        assert tile.of(total).shape == tile.weight.shape and bool((tile.weight >= 0).all())
        tile.of(total).add_(tile.weight)
        assert tile.of(torch.zeros(-(-size[0] // 2), -(-size[1] // 2)), 2).shape == tuple(-(-s // 2) for s in tile.weight.shape)
    assert (len(found) == 1) == (max(size) <= 128)
    torch.testing.assert_close(total, torch.ones(size))


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def moving(frames, h, w):
    texture = torch.rand(3, h, w + frames, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.stack([texture[:, :, i : i + w] for i in range(frames)])


def run(bundle, frames, **config):
    enhancer = Enhancer(bundle, EnhanceConfig(scale=2.0, precision="float32", **config), "cpu")
    return torch.cat(list(enhancer.run(frames)))


def test_a_clip_larger_than_every_tile_comes_out_as_the_whole_but_for_the_diffusers_tiles(bundle):
    """528 x 544 px: the VAE in tiles of 256, the decoder in parts of 512^2, then the diffuser in tiles of 512 too."""
    frames = moving(2, 264, 272)
    whole = run(bundle, frames)
    assert whole.shape == (2, 3, 528, 544)
    exact = run(bundle, frames, tiling=TilingConfig(1, 256, 128, decode=512), chunk=1)
    assert (exact - whole).abs().max() < 2e-5
    assert torch.equal(run(bundle, frames, tiling=TilingConfig(diffuse=544)), whole)
    tiled = run(bundle, frames, tiling=TilingConfig(diffuse=512))
    assert 0 < (tiled - whole).abs().max() < 0.05


@pytest.mark.parametrize("sides", [{"decode": 511}, {"diffuse": 256}])
def test_tiles_too_small_to_be_worth_it_are_refused(sides):
    with pytest.raises(InputError, match="must be 512 px or more, got"):
        TilingConfig(**sides)
