"""`python -m genve_core.training.taught`: stored clips with what decoding at twice the size makes of some of their frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from media_clips import moving_frames
from safetensors.torch import load_file
from skimage import data
from skimage.transform import resize_local_mean

from genve_core.bundle import load_bundle
from genve_core.errors import InputError
from genve_core.models import Models
from genve_core.pipeline import EnhanceConfig, Enhancer
from genve_core.training.clip_store import (
    CLIP_FRAMES,
    ClipConfig,
    ClipStore,
    make_record,
    save_record,
    to_uint8,
)
from genve_core.training.degradation import DegradationConfig
from genve_core.training.stages.decoder import DecoderConfig, DecoderStage
from genve_core.training.taught import main, taught_record
from genve_core.vae import MiniVAE

SIDE = 64


def clip(scale: int, frames: np.ndarray | None = None) -> dict[str, torch.Tensor]:
    frames = moving_frames(10, SIDE) if frames is None else frames
    config = ClipConfig(size=frames.shape[1], reach=10, scales=(scale,), scale_shares=(1.0,),
                        degradation=DegradationConfig(mild=1.0))
    return make_record(frames, config, np.random.default_rng(1))


@pytest.fixture
def models(tiny_bundle):
    return Models(load_bundle(tiny_bundle), "cpu", "float32")


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_taught_is_what_supersampling_makes(scale):
    """But for diffusion, the other views and the final fusion, which change little."""
    models, frame = Models(load_bundle("genve-mini"), "cpu", "float32"), 4
    photo = resize_local_mean(data.astronaut(), (192, 192), preserve_range=True).round().astype(np.uint8)
    record = clip(scale, np.stack([photo[40:136, 50 + i : 146 + i] for i in range(10)]))
    taught = taught_record(record, [frame], models)["taught"][frame].float()
    plain = EnhanceConfig(scale=float(scale), noise_level=0, reference_strength=0.0)
    row = record["lq"][1:].float() / 127.5 - 1
    apart, otherwise = ((taught - to_uint8(torch.cat(list(Enhancer(models, config).run(row))))[frame]).abs().mean()
                        for config in (replace(plain, supersample=True), plain))
    assert apart < 0.7 * otherwise


def test_frames_that_are_not_taught_are_the_truth_and_the_rest_of_the_clip_stays(models):
    record = clip(2)
    made = taught_record(record, [1, 6], models)
    assert made["is_taught"].tolist() == [0, 1, 0, 0, 0, 0, 1, 0]
    for i in range(CLIP_FRAMES):
        assert torch.equal(made["taught"][i], record["hq"][1 + i]) == (i not in (1, 6))
    assert all(torch.equal(made[name], record[name]) for name in record)


def test_clips_at_4x_have_no_teacher(models):
    with pytest.raises(InputError, match="clips must be at 1x or 2x to be taught at twice their size, got 4x; leave such"):
        taught_record(clip(4), [0], models)


def test_all_clips_are_taught_once(tmp_path, tiny_bundle):
    (tmp_path / "clips").mkdir()
    for i in (1, 2):
        save_record(clip(1), tmp_path / "clips" / f"clip_{i:05d}.safetensors")
    command = [str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--frames", "3", "--bundle", str(tiny_bundle)]
    main(command)
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("clip_*")}
    save_record(clip(1), tmp_path / "clips" / "clip_00000.safetensors")
    main(command)
    made = sorted((tmp_path / "out").glob("clip_*"))
    assert [p.name for p in made] == [f"clip_{i:05d}.safetensors" for i in range(3)]
    assert all(p.stat().st_mtime_ns == at for p, at in first.items()), "what was there is made again"
    picked = [load_file(p)["is_taught"] for p in made]
    assert all(one.sum() == 3 for one in picked)
    assert not all(torch.equal(one, picked[0]) for one in picked), "the same frames of every clip"


@pytest.mark.parametrize("frames", ["0", "9"])
def test_at_least_one_frame_is_taught_and_no_more_than_there_are(frames, tmp_path):
    with pytest.raises(InputError, match=f"--frames must be 1 to 8, got {frames}"):
        main([str(tmp_path), "--out", str(tmp_path / "out"), "--frames", frames])


def test_a_folder_without_clips_cannot_be_taught(tmp_path):
    with pytest.raises(InputError, match="has no clips to take 1 of; make them with `genve train clips"):
        main([str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("none, share", [(1.0, 0.75), (0.0, 0.75), (1.0, 0.0)])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_decoder_is_asked_for_what_is_taught_where_it_has_no_reference(none, share, frames, tmp_path):
    record, marked = clip(1), torch.zeros(CLIP_FRAMES, dtype=torch.uint8)
    marked[5] = 1
    grey = record["hq"][1:].clone()
    grey[5] = 128
    save_record(record | {"taught": grey, "is_taught": marked}, tmp_path / "clip_00000.safetensors")
    config = DecoderConfig(channels=(8, 8, 16), depth=(1,) * 5, crop=32, frames=frames, no_reference=none,
                           imperfect_reference=0.0, taught=share)
    stage = DecoderStage(ClipStore(tmp_path, turn=1.0), config, MiniVAE(4, (8, 8, 16), 1))
    for k in range(8):
        drawn = stage.draw(np.random.default_rng(k))
        plain = DecoderStage(stage.store, DecoderConfig(crop=32, frames=frames, no_reference=none, imperfect_reference=0.0),
                             stage.vae, stage.decoder).draw(np.random.default_rng(k))
        asked, truth = drawn["hq"], plain["hq"]
        assert drawn.keys() == plain.keys()
        if not none or not share:
            assert torch.equal(asked, truth)
            continue
        assert drawn["start"] <= 5 < drawn["start"] + frames, "a row without any of it"
        assert torch.allclose(asked[6], truth[6] * (1 - share) + share * (128 / 127.5 - 1), atol=1e-5)
        asked[6] = truth[6]
        assert torch.equal(asked, truth)
