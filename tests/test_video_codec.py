import itertools
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genve_core.errors import InputError
from genve_core.video_codec import (
    TilingConfig,
    crop,
    decode,
    encode,
    pad_to_multiple,
    tile_spans,
    tile_weights,
    upsample,
)

TILES = TilingConfig(frames=2, tile=96, overlap=64)


class TinyVAE(nn.Module):
    """A convolutional f8 VAE whose receptive field ends 20 px away: padding reaches no further."""

    downscale = 8
    latent_channels = 5

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.down = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(6, 5, 8, stride=8),
                nn.SiLU(),
                nn.Conv2d(5, 5, 3, padding=1),
            )
            self.up = nn.Sequential(
                nn.Conv2d(5, 6, 3, padding=1),
                nn.SiLU(),
                nn.ConvTranspose2d(6, 4, 8, stride=8),
                nn.SiLU(),
                nn.Conv2d(4, 3, 3, padding=1),
            )
        self.seen: list[tuple[int, ...]] = []

    def encode(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return self.down(x)

    def decode(self, z: Tensor) -> Tensor:
        self.seen.append(tuple(z.shape))
        return self.up(z)


@dataclass
class WrongVAE:
    """Breaks the contract: shrinks by 4 where it says 8."""

    downscale: int = 8
    latent_channels: int = 3

    def encode(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 4)

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z, scale_factor=4)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def video(shape, seed=0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", [(13, 22), (40, 61), (1, 1), (5, 90), (11, 17)])
def test_any_target_size_is_met_and_stays_in_range(size):
    result = upsample(video((2, 3, 3, 11, 17)), size)
    assert result.shape == (2, 3, 3, *size)
    assert result.min() >= -1 and result.max() <= 1


def test_the_same_size_changes_no_bit():
    x = video((1, 2, 3, 9, 7))
    assert torch.equal(upsample(x, (9, 7)), x)


def test_upsampling_keeps_flat_areas_and_slopes_in_place():
    flat = torch.full((1, 1, 3, 6, 7), 0.25)
    torch.testing.assert_close(upsample(flat, (24, 28)), torch.full((1, 1, 3, 24, 28), 0.25))
    slope = torch.linspace(-0.5, 0.5, 11).expand(1, 1, 3, 4, 11)
    result = upsample(slope, (16, 44))[0, 0, 0, 8]
    at = (torch.arange(44) + 0.5) / 4 - 0.5  # where the new pixels' centres lie among the old ones
    torch.testing.assert_close(result[8:-8], (at / 10 - 0.5)[8:-8], atol=5e-3, rtol=0)
    assert result.flip(0).neg().sub(result).abs().max() < 1e-5, "a half-pixel shift would break the symmetry"


def test_shrinking_does_not_alias():
    stripes = torch.tensor([1.0, -1.0]).repeat(32).expand(1, 1, 3, 8, 64)
    assert upsample(stripes, (8, 16))[..., 4:-4].abs().max() < 0.05


def test_overshoot_is_clamped_unless_asked_for():
    step = torch.tensor([-1.0] * 4 + [1.0] * 4).expand(1, 1, 3, 2, 8)
    assert upsample(step, (8, 32)).max() == 1
    assert upsample(step, (8, 32), clamp=False).max() > 1.02
    assert upsample(step.half(), (8, 32)).dtype == torch.float16


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (8, 8), (9, 16), (47, 61)])
@pytest.mark.parametrize("multiple", [8, 64])
def test_padding_reaches_the_multiple_and_crop_takes_it_back(size, multiple):
    x = video((1, 2, 3, *size))
    padded = pad_to_multiple(x, multiple)
    h, w = padded.shape[-2:]
    assert h % multiple == w % multiple == 0 and h - size[0] < multiple and w - size[1] < multiple
    assert torch.equal(crop(padded, size), x)


def test_padding_reflects_without_repeating_the_edge():
    row = torch.arange(3.0).view(1, 1, 1, 1, 3)
    assert pad_to_multiple(row, 8)[0, 0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    same = video((1, 1, 3, 16, 8))
    assert pad_to_multiple(same, 8) is same


@pytest.mark.parametrize(("shape", "tiles"), [((64, 96), 1), ((160, 96), 3), ((200, 232), 30)])
def test_tiled_encoding_equals_the_whole(shape, tiles):
    vae, x = TinyVAE(), video((2, 3, 3, *shape))
    whole = vae.encode(x.flatten(0, 1)).unflatten(0, (2, 3))
    vae.seen.clear()
    Z = encode(vae, x, TILES)
    assert len(vae.seen) == 3 * tiles, vae.seen  # six frames, two at a time
    assert max(max(seen[2:]) for seen in vae.seen) <= 96 and {seen[0] for seen in vae.seen} == {2}
    torch.testing.assert_close(Z, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (20, 12), (25, 29)])
def test_tiled_decoding_equals_the_whole(size):
    vae, Z = TinyVAE(), 0.3 * video((1, 5, 5, *size))
    whole = vae.decode(Z[0])[None]
    assert whole.abs().max() < 1, "the comparison below must not be hidden by the clamp"
    torch.testing.assert_close(decode(vae, Z, TILES), whole, atol=1e-5, rtol=1e-5)


def test_tiles_with_too_little_overlap_do_show():
    """So the equality above is owed to the overlap, not to a VAE that sees no neighbours."""
    vae, x = TinyVAE(), video((1, 1, 3, 160, 96))
    error = (encode(vae, x, TilingConfig(tile=96, overlap=0)) - encode(vae, x)).abs().max()
    assert error > 1e-3


def test_small_frames_are_coded_whole_bit_for_bit():
    vae, x = TinyVAE(), video((1, 3, 3, 40, 56))
    assert torch.equal(encode(vae, x, TilingConfig(frames=3))[0], vae.encode(x[0]))
    assert encode(vae, video((2, 1, 3, 8, 8))).shape == (2, 1, 5, 1, 1)
    assert decode(vae, video((2, 1, 5, 1, 1))).shape == (2, 1, 3, 8, 8)


def test_a_frames_latent_does_not_depend_on_its_neighbours_in_time():
    vae, x = TinyVAE(), video((1, 5, 3, 24, 32))
    each = torch.cat([encode(vae, x[:, i : i + 1]) for i in range(5)], dim=1)
    torch.testing.assert_close(encode(vae, x, TilingConfig(frames=2)), each)


def test_decoded_video_stays_in_range():
    assert decode(TinyVAE(), 1000 * video((1, 1, 5, 3, 4))).abs().max() == 1


@pytest.mark.parametrize(("side", "most", "overlap", "step"),
                         [(112, 96, 16, 1), (176, 96, 16, 4), (97, 96, 0, 1), (500, 96, 31, 1)])
def test_tiles_are_as_few_and_as_short_as_their_overlap_allows(side, most, overlap, step):
    spans = tile_spans(side, most, overlap, step)
    assert {i for span in spans for i in span} == set(range(side))
    assert all((b.start < a.stop and a.stop - b.start >= overlap) or not overlap for a, b in zip(spans, spans[1:]))
    lengths = {len(span) for span in spans}
    assert len(lengths) == 1 and max(lengths) <= most and not max(lengths) % step
    fewer = len(spans) - 1
    assert fewer * most - (fewer - 1) * overlap < side, "one tile less would have been enough"
    assert sum(map(len, spans)) < side + fewer * overlap + len(spans) * step, "longer than they must be"


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(100, 32, 8), (33, 32, 8), (90, 31, 1), (64, 16, 0), (9, 16, 4)]
)
def test_tile_weights_sum_to_one_and_drop_inner_edges(length, tile, overlap):
    spans = tile_spans(length, tile, overlap)
    weights, total = tile_weights(spans, overlap), torch.zeros(length)
    for span, weight in zip(spans, weights, strict=True):
        total[span.start : span.stop] += weight
    torch.testing.assert_close(total, torch.ones(length))
    dropped = int(overlap * 3 / 8)
    for (left, right), (left_weight, right_weight) in zip(
        itertools.pairwise(spans), itertools.pairwise(weights), strict=True
    ):
        assert (left_weight[len(left) - dropped :] == 0).all() and (right_weight[:dropped] == 0).all(), (
            left,
            right,
        )


def test_wrong_shapes_are_refused():
    vae = TinyVAE()
    with pytest.raises(ValueError, match=r"video must be \(b, f, 3, h, w\), got \(1, 2, 4, 8, 8\)"):
        encode(vae, torch.zeros(1, 2, 4, 8, 8))
    for h, w in [(20, 16), (16, 20)]:
        with pytest.raises(
            ValueError, match=f"video is {w}x{h} px, but .* multiples of 8; call pad_to_multiple"
        ):
            encode(vae, torch.zeros(1, 1, 3, h, w))
    with pytest.raises(ValueError, match=r"Z must be \(b, f, 5, h, w\), got \(1, 1, 4, 2, 2\)"):
        decode(vae, torch.zeros(1, 1, 4, 2, 2))
    with pytest.raises(ValueError, match="cannot crop 8x9 px to the larger 8x10"):
        crop(torch.zeros(1, 1, 3, 9, 8), (10, 8))
    with pytest.raises(InputError, match="target size must be at least 1x1 px, got 5x0"):
        upsample(torch.zeros(1, 1, 3, 8, 8), (0, 5))


def test_a_vae_that_breaks_its_promise_is_named():
    with pytest.raises(ValueError, match=r"VAE should have returned \(1, 3, 2, 3\), got \(1, 3, 4, 6\)"):
        encode(WrongVAE(), torch.zeros(1, 1, 3, 16, 24))
    with pytest.raises(ValueError, match=r"VAE should have returned \(1, 3, 16, 24\), got \(1, 3, 8, 12\)"):
        decode(WrongVAE(), torch.zeros(1, 1, 3, 2, 3))


def test_wrong_tilings_are_refused():
    with pytest.raises(InputError, match="frames per call must be at least 1, got 0"):
        TilingConfig(frames=0)
    for tile, overlap in [(64, 64), (64, -8), (0, 0)]:
        with pytest.raises(InputError, match=f"0 <= overlap < tile, got {overlap} and {tile}"):
            TilingConfig(tile=tile, overlap=overlap)
