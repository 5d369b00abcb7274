import pytest
import torch
import torch.nn.functional as F

from genve_core.decoder.detail_decoder import EDGE, DetailDecoder, without_rims
from genve_core.decoder.inputs import aligned_neighbours, decoder_inputs, sharper
from genve_core.errors import InputError
from genve_core.media.colour import gaussian


def row(frames=5, h=24, w=40):
    """A row of frames, (1, f, 3, h, w): noise that moves 2 pixels to the right with every frame."""
    scene = torch.rand(3, h, w + 2 * frames, generator=torch.Generator().manual_seed(0))
    return torch.stack([scene[..., 2 * (frames - i) : 2 * (frames - i) + w] for i in range(frames)]).unsqueeze(0)


def flows(frames, h, w, dx):
    """Flow to the next and previous frame for a motion of dx pixels of the grid; zero at the ends."""
    forward, backward = torch.zeros(1, frames, 2, h, w), torch.zeros(1, frames, 2, h, w)
    forward[:, :-1, 0], backward[:, 1:, 0] = dx, -dx
    return forward, backward


def tiny():
    torch.manual_seed(0)
    return DetailDecoder(4, (8, 8, 16), (1, 1, 1, 1, 1)).eval()


def test_untrained_and_without_a_reference_it_returns_the_upsampled_frames():
    up = row()
    still = torch.zeros(1, 5, 2, 6, 10)
    inputs = decoder_inputs(up, still, still)
    assert torch.equal(tiny()(torch.randn(5, 4, 3, 5), inputs), up[0])


def test_neighbours_moved_by_their_known_motion_equal_the_frame():
    half = row(5, 12, 20)
    near = aligned_neighbours(half, *flows(5, 12, 20, 2.0), reach=2)
    assert near.shape == (1, 5, 12, 12, 20)
    assert near[:, 2, ..., 5:15].abs().max() < 1e-5  # away from the borders nothing is left


def test_beyond_the_ends_of_a_row_the_last_frame_repeats():
    half = row(3, 12, 20)
    near = aligned_neighbours(half, *flows(3, 12, 20, 2.0), reach=2).unflatten(2, (4, 3))
    assert near[0, 0, :2].abs().max() < 1e-5  # the first frame has no past: it sees itself
    assert torch.allclose(near[0, 1, 3, :, :, 5:15], near[0, 1, 2, :, :, 5:15], atol=1e-5)


def test_without_motion_a_reference_is_let_in_as_its_difference_to_the_frame():
    up = row(2)
    reference = torch.rand(1, 3, 24, 40)
    still, valid = torch.zeros(1, 2, 2, 6, 10), torch.ones(1, 2, 1, 6, 10)
    inputs = decoder_inputs(up, still, still, reference=reference, key=up[:, 0], to_key=still, valid=valid)
    assert torch.allclose(inputs.up + inputs.detail, reference.expand(2, -1, -1, -1), atol=1e-5)
    assert inputs.key[0].abs().max() < 1e-6


def test_strength_scales_detail_and_zero_equals_no_reference():
    up, still, valid = row(2), torch.zeros(1, 2, 2, 6, 10), torch.ones(1, 2, 1, 6, 10)
    given = {"reference": torch.rand(1, 3, 24, 40), "key": up[:, 0], "to_key": still, "valid": valid}
    full, half = (decoder_inputs(up, still, still, **given, strength=s) for s in (1.0, 0.5))
    assert torch.allclose(half.detail, 0.5 * full.detail)
    zero, none = decoder_inputs(up, still, still, **given, strength=0.0), decoder_inputs(up, still, still)
    for name in ("up", "detail", "valid", "key", "near"):
        assert torch.equal(getattr(zero, name), getattr(none, name)), name


def test_where_the_flow_is_not_valid_nothing_of_the_reference_is_seen():
    up, still, valid = row(1), torch.zeros(1, 1, 2, 12, 20), torch.ones(1, 1, 1, 12, 20)
    valid[..., 10:] = 0
    inputs = decoder_inputs(up, still, still, reference=torch.rand(1, 3, 24, 40), key=up[:, 0], to_key=still, valid=valid)
    assert inputs.detail[..., 20:].abs().max() == 0
    assert inputs.detail[..., :20].abs().min() >= 0 and inputs.detail[..., :20].abs().max() > 0


def test_rows_of_a_batch_have_each_their_own_strength_and_kind_of_reference():
    up, keys = row(3).repeat(4, 1, 1, 1, 1) + 0.1 * torch.randn(4, 3, 3, 24, 40), torch.randn(4, 3, 24, 40)
    still, strength, guess = torch.zeros(4, 3, 2, 6, 10), torch.tensor([0.0, 1.0, 1.0, 0.5]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    given = {"reference": keys + 0.2, "key": keys, "to_key": still, "valid": torch.rand(4, 3, 1, 6, 10)}
    together = decoder_inputs(up, still, still, **given, strength=strength, guess=guess)
    for i in range(4):
        one = {name: x[i : i + 1] for name, x in given.items()}
        alone = decoder_inputs(up[i : i + 1], still[:1], still[:1], **one, strength=float(strength[i]), guess=bool(guess[i]))
        for name in ("up", "detail", "valid", "key", "near"):
            assert torch.allclose(getattr(together, name)[3 * i : 3 * i + 3], getattr(alone, name), atol=1e-6), (i, name)


def guessed(up, key):
    """Inputs with a reference made from `key`."""
    still, valid = torch.zeros(1, len(up), 2, 6, 10), torch.ones(1, len(up), 1, 6, 10)
    return decoder_inputs(up.unsqueeze(0), still, still, reference=torch.rand(1, 3, 24, 40), key=key, to_key=still, valid=valid,
                          guess=True)


def test_a_guess_is_let_in_only_where_its_key_frame_is_sharper():
    sharp = row(1)[0]
    soft = gaussian(sharp, 2.0)
    inputs = guessed(torch.cat([sharp, soft]), sharp)
    assert inputs.valid[0].max() == 0 and inputs.detail[0].abs().max() == 0 and inputs.key[0].abs().max() == 0
    assert inputs.valid[1].min() == 1 and inputs.detail[1].abs().mean() > 0.1
    assert guessed(sharp, soft).valid.max() == 0, "nor where it is softer"


def test_how_far_a_key_frame_is_sharper_is_told_place_by_place():
    sharp = row(1, 96, 160)[0]
    mixed = torch.cat([sharp[..., :80], gaussian(sharp, 2.0)[..., 80:]], -1)
    found = sharper(sharp, mixed)
    assert found.shape == (1, 1, 96, 160) and found[..., :50].max() == 0 and found[..., 110:].min() == 1
    flat = torch.zeros(1, 3, 8, 8)
    assert sharper(flat, flat + 0.001).max() == 0 and sharper(flat.half(), flat.half()).dtype == torch.float16


def dialled():
    """An untrained decoder with a dial, whose two ends differ."""
    decoder = tiny().with_dial(400)
    for layer in (decoder.tail, decoder.further[-1]):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return decoder


def seen(frames=2):
    up, still = row(frames), torch.zeros(1, frames, 2, 6, 10)
    return torch.randn(frames, 4, 3, 5), decoder_inputs(up, still, still)


def test_a_decoder_that_learns_the_dial_starts_as_it_was():
    latents, inputs = seen()
    plain = tiny()
    torch.nn.init.normal_(plain.tail.weight)
    told = plain.with_dial(400)
    assert told.config["full_noise"] == 400 and plain.config["full_noise"] == 0
    assert torch.equal(told(latents, inputs, 300), plain(latents, inputs))
    assert told.with_dial(400) is told


def test_a_deeper_decoder_starts_as_it_was_and_learns_with_all_its_blocks():
    latents, inputs = seen()
    decoder = dialled()
    depth = tuple(count + 1 for count in decoder.config["depth"])
    deeper = decoder.deepened(depth)
    assert tuple(deeper.config["depth"]) == depth and deeper.config["full_noise"] == 400
    assert torch.equal(deeper(latents, inputs, 300), decoder(latents, inputs, 300))
    deeper(latents, inputs, 300).square().mean().backward()
    added = (deeper.eighth[-1], deeper.quarter_in[-1], deeper.half_out[-1])
    assert all(block.second.weight.grad.abs().max() > 0 for block in added)


def moving(fine):
    """What is seen of the middle frame of a row that moves, and latents for it."""
    inputs = decoder_inputs(row(), *flows(5, 12, 20, 1.0), reach=2, fine=fine, frames=slice(2, 3))
    return torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(1)), inputs


def test_a_fine_decoder_sees_its_neighbours_at_full_size():
    _, inputs = moving(True)
    assert inputs.near.shape == (1, 12, 24, 40)
    assert inputs.near[..., 12:28].abs().max() < 1e-5, "moved by what is known of the motion nothing is left"
    _, coarse = moving(False)
    assert coarse.near.shape == (1, 12, 12, 20)


def test_a_decoder_made_fine_takes_neighbours_as_before_and_can_learn_more():
    up, still = row(), torch.zeros(1, 5, 2, 6, 10)
    latents, decoder = torch.randn(5, 4, 3, 5), dialled()
    finer = decoder.with_fine()
    assert finer.config["fine"] and not decoder.config["fine"] and finer.with_fine() is finer
    before, after = (one(latents, decoder_inputs(up, still, still, fine=one.fine), 300) for one in (decoder, finer))
    assert torch.allclose(after, before, atol=1e-5)
    quarters = torch.randn(finer.head.weight.shape, generator=torch.Generator().manual_seed(2))
    finer.head.weight.data += 0.1 * quarters
    assert not torch.allclose(finer(latents, decoder_inputs(up, still, still, fine=True), 300), before, atol=1e-3)


def test_a_fine_decoder_can_take_the_mean_of_frames_and_of_what_is_around_a_pixel():
    """Noise over a still scene goes as in a mean, also at the edge of the frame."""
    scene = torch.linspace(-0.5, 0.5, 40).repeat(1, 5, 3, 24, 1)
    noisy = scene + 0.1 * torch.randn(scene.shape, generator=torch.Generator().manual_seed(3))
    still = torch.zeros(1, 5, 2, 6, 10)
    inputs = decoder_inputs(noisy, still, still, reach=2, fine=True, frames=slice(2, 3))
    finer = tiny().with_fine()
    means = {"frames": [0.2] * 4 + [0.0] * 2, "around": [0.0] * 4 + [1.0, 0.0]}
    wanted = {"frames": noisy.mean(1), "around": F.avg_pool2d(noisy[:, 2], 3, 1, 1, count_include_pad=False)}
    for name, weights in means.items():
        finer.weights.bias.data = torch.tensor(weights).repeat_interleave(4)
        taken = finer(torch.randn(1, 4, 3, 5), inputs)
        torch.testing.assert_close(taken, wanted[name], atol=1e-5, rtol=0)


def test_a_fine_decoder_and_another_have_a_mean():
    decoder, finer = dialled(), dialled().with_fine()
    latents, inputs = moving(True)
    torch.nn.init.normal_(finer.head.weight, std=0.1)
    torch.nn.init.normal_(finer.weights.weight, std=0.1)
    assert decoder.like(finer)
    mixed, other = decoder.mixed(finer, 0.25), finer.mixed(decoder, 0.75)
    assert mixed.fine and torch.allclose(mixed(latents, inputs, 300), other(latents, inputs, 300), atol=1e-5)
    wanted = 0.75 * decoder.with_fine().head.weight + 0.25 * finer.head.weight
    assert torch.allclose(mixed.head.weight, wanted, atol=1e-6)


def test_neighbours_of_some_frames_are_those_of_the_whole_row():
    half, flow = row(6, 12, 20), flows(6, 12, 20, 1.5)
    whole = aligned_neighbours(half, *flow, reach=3)
    for frames in (slice(0, 2), slice(2, 5), slice(5, 6)):
        assert torch.equal(aligned_neighbours(half, *flow, 3, frames), whole[:, frames])


def test_a_decoder_cannot_lose_blocks():
    decoder = tiny()
    with pytest.raises(InputError, match=r"can only be made deeper, got \[0,.* leave depth out of the config"):
        decoder.deepened((0, *decoder.config["depth"][1:]))


def test_the_noise_level_reaches_every_frame_of_a_batch():
    latents, inputs = seen()
    decoder = dialled()
    low, high = decoder(latents, inputs, 0), decoder(latents, inputs, 400)
    each = decoder(latents, inputs, torch.tensor([0, 400]))
    assert (high - low).abs().max() > 1e-3
    assert torch.allclose(each[0], low[0], atol=1e-6) and torch.allclose(each[1], high[1], atol=1e-6)


def test_emphasis_adds_its_share_of_the_residual_and_nothing_at_n_0():
    latents, inputs = seen()
    plain = dialled()
    emphatic = DetailDecoder(**{**plain.config, "emphasis": 0.2})
    emphatic.load_state_dict(plain.state_dict())
    certain, further = plain.ends(latents, inputs)
    assert torch.equal(emphatic(latents, inputs, 0), plain(latents, inputs, 0))
    residual = certain - inputs.up  # there is no reference
    assert residual.abs().max() > 1e-2
    assert torch.allclose(emphatic(latents, inputs, 400), certain + further + 0.2 * residual, atol=1e-5)


def test_a_decoder_without_likely_detail_keeps_its_weights_and_adds_emphasis_only():
    latents, inputs = seen()
    whole = dialled()
    plain = DetailDecoder(**{**whole.config, "emphasis": 0.2})
    plain.load_state_dict(whole.state_dict())
    plain = plain.without_likely()
    assert plain.further is None and plain.without_likely().further is None and plain.with_dial(300) is plain
    certain = whole(latents, inputs, 0)
    assert torch.equal(plain(latents, inputs, 0), certain)
    assert torch.allclose(plain(latents, inputs, 400), certain + 0.2 * (certain - inputs.up), atol=1e-5)


def test_the_dial_goes_in_even_steps_up_to_five_times_what_was_trained():
    latents, inputs = seen()
    decoder = dialled()
    low, half, high, beyond, most, same = (decoder(latents, inputs, n) for n in (0, 200, 400, 800, 400 * 5, 3000))
    assert torch.allclose(half - low, high - half, atol=1e-5)
    assert torch.allclose(beyond - high, high - low, atol=1e-5)
    assert torch.equal(most, same)


def test_beyond_plain_detail_stays_within_what_is_around_it():
    latents, inputs = seen()
    decoder = dialled()
    usual, free, held = decoder(latents, inputs, 200), decoder(latents, inputs, 800), decoder(latents, inputs, 800, 200)
    lightest = torch.nn.functional.max_pool2d(usual, 2 * EDGE + 1, 1, EDGE)
    darkest = -torch.nn.functional.max_pool2d(-usual, 2 * EDGE + 1, 1, EDGE)
    assert ((free > lightest) | (free < darkest)).any()
    assert torch.allclose(held, torch.minimum(torch.maximum(free, darkest), lightest), atol=1e-6)
    assert (held <= lightest).all() and (held >= darkest).all() and (held - usual).abs().max() > 0.01
    assert torch.equal(decoder(latents, inputs, 200, 200), usual)


def test_an_edge_becomes_crisper_and_gets_no_rims():
    soft = torch.tensor([0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]).expand(1, 3, 9, 11)
    sharpening = torch.tensor([0, 0, 0, -0.2, -0.2, 0, 0.2, 0.2, 0, 0, 0]).expand(1, 3, 9, 11)
    crisp = without_rims(soft, sharpening)
    wanted = torch.tensor([0, 0, 0, 0, 0.05, 0.5, 0.95, 1, 1, 1, 1]).expand(1, 3, 9, 11)
    assert torch.allclose(crisp, wanted, atol=1e-6)
