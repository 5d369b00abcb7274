"""LCA: the exact paths against the dense one, numbers worked by hand, what the shuffle may and may not do."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from genve_core.controller.attention import band_bias, chunked_attention, window_attention
from genve_core.controller.local_attention import LCAConfig, LocalAwareCrossAttention
from genve_core.controller.shuffle import shuffle_groups, shuffle_tokens
from genve_core.errors import InputError

SIZES = [(5, 7), (11, 13), (3, 17)]


def make(variant="window", channels=3, **options):
    """An LCA in eval mode whose every weight is random, so that no term is zero by initialisation."""
    torch.manual_seed(0)
    options = {"dim": 8, "stride": 1, "shuffle": "off"} | options
    lca = LocalAwareCrossAttention(channels, LCAConfig(variant=variant, **options)).eval()
    for parameter in lca.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return lca


def latents(h, w, channels=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 3, channels, h, w, generator=generator) for _ in range(2))


def by_hand(lca, z, y, allowed, bias):
    """The formula, one query and one head at a time. allowed, bias: functions of (head, dy, dx, i, j)."""
    c = lca.config
    q_map, v_map = lca.conv_z(z.flatten(0, 1)), lca.conv_y(y.flatten(0, 1))
    h, w = q_map.shape[-2:]
    out = torch.zeros_like(q_map)
    for head in range(c.heads):
        part = slice(head * c.dim // c.heads, (head + 1) * c.dim // c.heads)
        q, v = F.normalize(q_map[:, part], dim=1), v_map[:, part]
        k = F.normalize(v, dim=1)
        for i in range(h * w):
            qy, qx = divmod(i, w)
            keys = [j for j in range(h * w) if allowed(j // w - qy, j % w - qx)]
            logits = [
                (q[:, :, qy, qx] * k[:, :, j // w, j % w]).sum(1) * lca.log_scale[head].exp()
                + bias(head, j // w - qy, j % w - qx, i, j)
                for j in keys
            ]
            weights = torch.stack(logits, 1).softmax(1)
            out[:, part, qy, qx] = sum(weights[:, [m]] * v[:, :, j // w, j % w] for m, j in enumerate(keys))
    e = lca.conv_o(out) + q_map
    return e.unflatten(0, z.shape[:2])


@pytest.mark.parametrize("variant", ["window", "band", "plain"])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("h, w", SIZES)
def test_the_fast_path_equals_the_dense_one(variant, heads, d, h, w):
    lca = make(variant, heads=heads, d=d)
    z, y = latents(h, w)
    torch.testing.assert_close(lca(z, y), lca(z, y, dense=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["window", "band", "plain"])
def test_the_fast_path_has_the_dense_ones_gradients(variant):
    lca = make(variant, d=3).double()
    z, y = (x.double() for x in latents(11, 13))
    grads = []
    for dense in (False, True):
        lca.zero_grad()
        lca(z, y, dense=dense).square().sum().backward()
        grads.append({name: p.grad.clone() for name, p in lca.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], msg=lambda text, name=name: f"{name}: {text}")


def test_the_window_is_the_formula_with_a_two_dimensional_neighbourhood():
    lca, d = make("window", heads=2, d=2), 2
    z, y = latents(3, 5)
    expected = by_hand(
        lca, z, y,
        allowed=lambda dy, dx: abs(dy) < d and abs(dx) < d,
        bias=lambda head, dy, dx, i, j: lca.bias_table[head, dy + d - 1, dx + d - 1],
    )  # fmt: skip
    torch.testing.assert_close(lca(z, y), expected, atol=1e-5, rtol=0)


def test_the_band_is_the_formula_with_one_inside_and_zero_outside():
    lca, d = make("band", heads=2, d=3), 3
    z, y = latents(3, 5)
    expected = by_hand(
        lca, z, y, allowed=lambda dy, dx: True, bias=lambda head, dy, dx, i, j: float(abs(i - j) < d)
    )  # fmt: skip
    torch.testing.assert_close(lca(z, y), expected, atol=1e-5, rtol=0)


def test_a_row_of_three_tokens_worked_by_hand():
    # q = 1 everywhere, k = (ln 2, 0, ln 3), v = (6, 12, 24); a window of d = 2 sees one token to each side
    q = torch.ones(1, 1, 1, 3, 1)
    k = torch.tensor([math.log(2), 0, math.log(3)]).view(1, 1, 1, 3, 1)
    v = torch.tensor([6.0, 12.0, 24.0]).view(1, 1, 1, 3, 1)
    flat = window_attention(q, k, v, torch.zeros(1, 3, 3)).flatten()
    torch.testing.assert_close(flat, torch.tensor([24 / 3, 96 / 6, 84 / 4]))
    table = torch.zeros(1, 3, 3)
    table[0, 1, 2] = math.log(5)  # the key one column to the right weighs five times
    right = window_attention(q, k, v, table).flatten()
    torch.testing.assert_close(right, torch.tensor([(12 + 60) / 7, (12 + 12 + 360) / 18, 84 / 4]))
    band = chunked_attention(q, torch.zeros_like(k), v, lambda rows: band_bias(rows, 3, 1, q.device), chunk=2)
    inside = torch.tensor([6.0, 12.0, 24.0])
    torch.testing.assert_close(band.flatten(), (42 + (math.e - 1) * inside) / (2 + math.e))


def test_nothing_outside_the_window_is_seen():
    lca = make("window", d=3, kernel=1)
    z, y = latents(11, 13)
    before = lca(z, y)
    y[..., 4, 6] += 3
    rows, cols = (before != lca(z, y)).any(0).any(0).any(0).nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (2, 6, 4, 8)


@pytest.mark.parametrize("tile", [1, 3, 8, 20])
def test_the_tile_size_does_not_change_the_window(tile):
    q, k, v = torch.randn(3, 2, 2, 11, 13, 4, generator=torch.Generator().manual_seed(2))
    table = torch.randn(2, 7, 7, generator=torch.Generator().manual_seed(3))
    whole = window_attention(q, k, v, table, tile=13)
    torch.testing.assert_close(window_attention(q, k, v, table, tile=tile), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("h, w", SIZES)
def test_a_window_wider_than_the_grid_is_plain_attention_when_its_bias_is_zero(h, w):
    window, plain = make("window", d=20), make("plain", d=20)
    plain.load_state_dict(window.state_dict(), strict=False)
    torch.nn.init.zeros_(window.bias_table)
    z, y = latents(h, w)
    torch.testing.assert_close(window(z, y), plain(z, y), atol=1e-5, rtol=0)


def test_every_offset_of_the_bias_table_learns():
    lca = make("window", d=3)
    z, y = latents(5, 7)
    lca(z, y).square().sum().backward()
    assert (lca.bias_table.grad != 0).all()


def test_the_bias_table_starts_at_zero_and_both_convolutions_equal():
    lca = LocalAwareCrossAttention(3, LCAConfig(dim=8))
    assert not lca.bias_table.any()
    assert torch.equal(lca.conv_y.weight, lca.conv_z.weight)


@pytest.mark.parametrize("groups", ["blocks", "raster"])
def test_shuffling_changes_nothing_without_bias_and_something_with_a_window(groups):
    z, y = latents(11, 13)
    options = {"d": 3, "shuffle": "always", "shuffle_groups": groups}
    for variant, same in (("plain", True), ("window", False)):
        shuffled, still = make(variant, **options), make(variant, **(options | {"shuffle": "off"}))
        difference = (shuffled(z, y) - still(z, y)).abs().max()
        assert (difference < 1e-5) == same, f"{variant}: {difference}"


@pytest.mark.parametrize("groups, d", [("blocks", 3), ("raster", 4)])
def test_the_shuffle_permutes_inside_groups_only_and_anew_for_every_image(groups, d):
    h, w = 11, 13
    place = torch.arange(h * w, dtype=torch.float32).view(1, 1, h, w).repeat(5, 2, 1, 1)
    moved = shuffle_tokens(place, d, groups, torch.Generator().manual_seed(0)).flatten(2).long()
    group = shuffle_groups(h, w, d, groups)
    assert torch.equal(group[moved], group.expand_as(moved))
    assert torch.equal(moved.sort(-1).values, torch.arange(h * w).expand_as(moved))
    assert torch.equal(moved[:, 0], moved[:, 1]), "channels must move together"
    assert not torch.equal(moved[0], moved[1])


def test_every_order_of_a_group_is_equally_likely():
    place = torch.arange(3.0).view(1, 1, 1, 3).repeat(6000, 1, 1, 1)
    moved = shuffle_tokens(place, 3, "raster", torch.Generator().manual_seed(0)).flatten(1)
    _, counts = moved.unique(dim=0, return_counts=True)
    assert len(counts) == 6 and ((counts - 1000).abs() < 120).all(), counts  # four standard deviations


def test_blocks_are_squares_that_shrink_at_the_edge():
    expected = [0, 0, 1, 1, 2, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    assert shuffle_groups(3, 5, 2, "blocks").tolist() == expected
    assert shuffle_groups(1, 5, 2, "raster").tolist() == [0, 0, 1, 1, 2]


def test_the_shuffle_acts_in_training_only_and_follows_its_generator():
    lca = make("window", d=3, shuffle="training")
    z, y = latents(5, 7)
    assert torch.equal(lca(z, y), lca(z, y))
    lca.train()
    first, again, other = (lca(z, y, generator=torch.Generator().manual_seed(s)) for s in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("groups", ["blocks", "raster"])
def test_the_shuffle_moves_keys_and_values_together(groups):
    options = {"d": 3, "kernel": 1, "shuffle_groups": groups}  # a 1 x 1 convolution lets a shuffle of y pass
    z, y = latents(5, 7)
    first, second = (torch.Generator().manual_seed(4) for _ in range(2))
    moved = shuffle_tokens(y.flatten(0, 1), 3, groups, first).view_as(y)
    expected = make("window", **options)(z, moved)
    got = make("window", shuffle="always", **options)(z, y, generator=second)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_without_attention_e_is_q_and_the_reference_is_not_seen():
    lca = make("none")
    z, y = latents(5, 7)
    assert torch.equal(lca(z, y), lca.conv_z(z.flatten(0, 1)).unflatten(0, (2, 3)))
    assert {name.split(".")[0] for name, _ in lca.named_parameters()} == {"conv_z"}


@pytest.mark.parametrize("h, w, expected", [(5, 7, (3, 4)), (6, 8, (3, 4)), (1, 2, (1, 1))])
def test_stride_two_gives_the_grid_of_a_down_sampler(h, w, expected):
    z, y = latents(h, w)
    assert make("window", stride=2)(z, y).shape == (2, 3, 8, *expected)


@pytest.mark.parametrize("variant", ["window", "band", "plain"])
def test_the_attention_map_is_the_dense_matrixs_row(variant):
    lca = make(variant, heads=2, d=2, kernel=1)
    z, y = latents(5, 7)
    shown = lca.attention_map(z, y, (6, 3))
    assert shown.shape == (2, 3, 5, 7)
    torch.testing.assert_close(shown.sum((-1, -2)), torch.ones(2, 3))
    # attention over one-hot values gives back the weights themselves
    q, v = (lca._heads(conv(x.flatten(0, 1))) for conv, x in ((lca.conv_z, z), (lca.conv_y, y)))
    q, k = F.normalize(q, dim=-1) * lca._scale()[:, None, None, None], F.normalize(v, dim=-1)
    eye = torch.eye(35).view(1, 1, 5, 7, 35).expand(6, 2, -1, -1, -1)
    if variant == "window":
        weights = window_attention(q, k, eye, lca.bias_table)
    else:
        bias = (lambda rows: band_bias(rows, 35, 2, q.device)) if variant == "band" else None
        logits = q.flatten(2, 3) @ k.flatten(2, 3).transpose(-1, -2) + (bias(range(35)) if bias else 0)
        weights = logits.softmax(-1).view(6, 2, 5, 7, 35)
    torch.testing.assert_close(shown.flatten(0, 1).flatten(1), weights[:, :, 3, 6].mean(1), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"query_xy must lie in the 7x5 token grid, got \(7, 0\)"):
        lca.attention_map(z, y, (7, 0))
    with pytest.raises(ValueError, match=r"query_xy must lie in the 7x5 token grid, got \(0, 5\)"):
        lca.attention_map(z, y, (0, 5))


def test_masked_positions_stay_tokens():
    lca = make("plain", kernel=1)
    z, y = latents(5, 7)
    y[..., :, 3:] = 0
    assert (lca.attention_map(z, y, (0, 0))[..., 3:] > 0).all()
    torch.nn.init.zeros_(lca.conv_y.bias)  # now masked tokens are all zero
    assert lca(z, y).isfinite().all()
    assert lca.half()(z.half(), y.half()).isfinite().all()


def test_what_cannot_be_matched_is_refused():
    lca = make("window")
    z, y = latents(5, 7)
    with pytest.raises(ValueError, match=r"y_n must be \(2, 3, 3, 5, 7\) like z_n, got \(2, 3, 3, 5, 6\)"):
        lca(z, y[..., :6])
    with pytest.raises(ValueError, match=r"z_n must be \(b, f, 3, h, w\), got \(2, 3, 2, 5, 7\)"):
        lca(z[:, :, :2], y)
    with pytest.raises(ValueError, match="variant 'none' has no attention"):
        make("none").attention_map(z, y, (0, 0))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"variant": "global"}, "variant is 'global', but must be one of: window, band, plain, none"),
        ({"shuffle": "on"}, "shuffle is 'on', but must be one of: off, training, always"),
        ({"shuffle_groups": "rows"}, "shuffle_groups is 'rows', but must be one of: blocks, raster"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"d": 0}, "d must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"dim": 10, "heads": 4}, "multiple of heads, got 10 and 4"),
        ({"kernel": 4}, "kernel must be odd, got 4"),
        ({"scale_init": 0.0}, r"scale_init must be in \(0, 100\], got 0.0"),
        ({"scale_init": 101.0}, r"scale_init must be in \(0, 100\], got 101.0"),
    ],
)
def test_a_wrong_config_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        LCAConfig(**fields)
