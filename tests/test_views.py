"""Frames decoded as they lie, mirrored or turned, in turns; how their latents are turned is fitted."""

import json
from itertools import combinations

import cv2
import numpy as np
import pytest
import torch
from media_clips import smooth_video

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.decode import decode_clip
from genve_core.decoder.detail_decoder import DetailDecoder
from genve_core.decoder.inputs import decoder_inputs
from genve_core.decoder.views import VIEWS, Batch, TurnedLatents
from genve_core.errors import InputError
from genve_core.models import Models
from genve_core.steps import encode_clip, find_flow
from genve_core.training.clip_store import ClipConfig, make_clips
from genve_core.training.run import train
from genve_core.training.views import ViewsConfig, fit_turn


def test_the_eight_views_differ_and_are_undone():
    x = torch.randn(2, 3, 8, 8)
    seen = [view.of(x) for view in VIEWS]
    assert len(VIEWS) == 8 and not any(torch.equal(a, b) for a, b in combinations(seen, 2))
    assert all(torch.equal(view.undone(one), x) for view, one in zip(VIEWS, seen, strict=True))


def test_a_batch_is_split_by_shape_and_joined_in_order():
    x, batch = torch.randn(5, 3, 8, 16), Batch([3, 1, 0, 2, 4], (8, 16))
    parts = batch.split(x)
    assert [tuple(part.shape) for part in parts] == [(3, 3, 8, 16), (2, 3, 16, 8)]
    assert torch.equal(batch.join(parts), x)
    square, batch = torch.randn(5, 3, 8, 8), Batch([3, 1, 0, 2, 4], (8, 8))
    assert [len(part) for part in batch.split(square)] == [5] and torch.equal(batch.join(batch.split(square)), square)


def test_latents_are_turned_by_what_was_fitted():
    weight, bias = torch.randn(4, 4, 3, 3) / 6, torch.randn(4)
    latents = [torch.randn(1, 4, 12, 20) for _ in range(3)]
    turned = [torch.conv2d(torch.nn.functional.pad(VIEWS[1].of(z), (1,) * 4, mode="replicate"), weight, bias) for z in latents]
    turn = TurnedLatents(4, 3)
    turn.weight[turn.rows(1)], turn.bias[turn.rows(1)] = fit_turn(latents, turned, 1)
    assert torch.allclose(turn(latents[0], 1), turned[0], atol=1e-4)
    assert torch.equal(turn(latents[0], 2), VIEWS[2].of(latents[0]))  # not fitted yet: just turned
    assert torch.equal(turn(latents[0], 0), latents[0])


def still_clip(tiny_bundle, frames=7):
    """A clip of one frame again and again: models, clip, latents, flow."""
    models = Models(load_bundle(tiny_bundle), "cpu", "float32")
    clip = Clip(smooth_video(1, 24, 40).expand(frames, -1, -1, -1), (48, 80))
    return models, clip, encode_clip(models, clip), find_flow(models, clip, [])


def test_where_nothing_moves_a_frame_is_the_mean_over_all_views(tiny_bundle):
    models, clip, Z, flow = still_clip(tiny_bundle)
    result = torch.stack(list(decode_clip(models, clip, Z, flow, n=250)))
    decoder, up, answers = models.build("decoder"), clip.up(slice(0, 1), models.device), []
    for view in range(decoder.views):
        batch, still = Batch([view], (48, 80)), torch.zeros(1, 1, 2, 2, 2)
        inputs = decoder_inputs(VIEWS[view].of(up).unsqueeze(0), still, still, reach=decoder.reach)
        answers += [batch.join([decoder(decoder.turn(Z[0, :1], view), inputs, 250)])[..., :48, :80]]
    mean = torch.cat(answers).mean(0)
    apart = (torch.cat(answers) - mean).abs().mean()
    # not to the bit: answers that differ by much are left out of the mean, and frames get the input's colours back
    assert (result[2:5] - mean).abs().mean() < 0.25 * apart
    assert (result[2:5] - result[3]).abs().mean() < 0.25 * apart


def test_with_less_than_a_whole_fusion_every_frame_is_decoded_as_it_lies(tiny_bundle):
    models, clip, Z, flow = still_clip(tiny_bundle)
    frames = torch.stack(list(decode_clip(models, clip, Z, flow, n=250, steadiness=0.5)))
    assert (frames - frames[0]).abs().max() < 1e-5


@pytest.mark.parametrize("views", [0, 2, 9])
def test_a_number_of_views_that_has_no_middle_is_refused(views):
    with pytest.raises(InputError, match=f"views of a decoder must be 1, 3, 5 or 7, got {views}"):
        DetailDecoder(4, (8, 8, 16), (1, 1, 1, 1, 1), views=views)


def test_the_stage_fits_the_turns_and_leaves_the_decoder_as_it_was(tiny_bundle, tmp_path):
    photos, clips, config = tmp_path / "photos", tmp_path / "clips", tmp_path / "views.json"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    cv2.imwrite(str(photos / "a.png"), cv2.resize(noise, (240, 200), interpolation=cv2.INTER_CUBIC))
    make_clips(photos, clips, ClipConfig(clips=2, size=128, reach=10), workers=1)
    config.write_text(json.dumps({"stage": {"views": 3, "crops": 20, "crop": 96}}))
    said = []
    folder = train("views", clips, tmp_path / "run", config, start=tiny_bundle, say=said.append)
    before, after = (load_bundle(path, only=("decoder",)) for path in (tiny_bundle, folder))
    assert after["decoder"].views == 3 and after["decoder"].fused == 1
    weights = after["decoder"].state_dict()
    assert all(torch.equal(x, weights[name]) for name, x in before["decoder"].state_dict().items() if "turn." not in name)
    assert weights["turn.weight"].shape == (8, 4, 3, 3)
    record = load_bundle(folder).training[-1]
    assert record["stage"] == "views" and len(record["left"]) == 2
    # an untrained VAE knows left from right as well, so its latents cannot just be flipped
    assert max(record["left"]) < 0.2
    assert said and said[0].startswith("views: 3; of the variance of turned latents ")


def test_crops_without_a_middle_are_refused():
    with pytest.raises(InputError, match="crops of stage views must be 96 px or more, got 64"):
        ViewsConfig(crop=64)
