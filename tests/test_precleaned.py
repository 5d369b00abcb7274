"""`python -m genve_core.training.precleaned`: stored clips as either pass of preclean meets them."""

import numpy as np
import pytest
import torch
from media_clips import moving_frames, moving_pattern
from safetensors.torch import load_file, save_file

from genve_core.bundle import load_bundle
from genve_core.clip import on_grid
from genve_core.errors import InputError
from genve_core.pipeline import EnhanceConfig, Enhancer, enhance
from genve_core.training.clip_store import (
    CLIP_FRAMES,
    FLOWS,
    ClipConfig,
    ClipStore,
    make_record,
    save_record,
    to_uint8,
)
from genve_core.training.degradation import DegradationConfig
from genve_core.training.precleaned import first_pass_record, main, preclean_record

FAR, ROW = slice(0, 1), slice(1, None)


def clip(key: int) -> dict[str, torch.Tensor]:
    """A record with noisy frames; its key frame is number `key`, the row starts at 2."""
    noise = torch.randn(12, 3, 24, 32, generator=torch.Generator().manual_seed(4))
    frames = to_uint8(moving_pattern(12, 24, 32) + 0.1 * noise)
    return {"lq": frames[[key, *range(2, 2 + CLIP_FRAMES)]], "hq": frames[:1]}


def by_hand(frames, folder):
    bundle = load_bundle(folder)
    bundle.components["decoder"] = bundle["decoder_precleaned"]
    cleaned = enhance(frames.float() / 127.5 - 1, bundle=bundle, device="cpu", scale=1.0, noise_level=0, reference_strength=0.0)
    return to_uint8(on_grid(cleaned))


@pytest.fixture
def enhancer(tiny_bundle):
    return Enhancer(load_bundle(tiny_bundle), EnhanceConfig(preclean=1.0), "cpu")


def test_poor_frames_are_what_the_second_pass_sees_and_the_rest_stays(tiny_bundle, enhancer):
    record = clip(key=0)
    made = preclean_record(record, enhancer)
    assert torch.equal(made["lq"][ROW], by_hand(record["lq"][ROW], tiny_bundle))
    assert torch.equal(made["lq"][FAR], by_hand(record["lq"][FAR], tiny_bundle))
    assert not torch.equal(made["lq"], record["lq"])
    assert torch.equal(made["hq"], record["hq"])


def test_a_key_frame_of_the_row_is_the_rows(enhancer):
    made = preclean_record(clip(key=5), enhancer)
    assert torch.equal(made["lq"][0], made["lq"][1 + 5 - 2])


def test_a_share_of_the_clips_is_made_in_folders_as_they_were(tmp_path, tiny_bundle):
    for i in range(4):
        path = tmp_path / "clips" / f"kind{i % 2}" / f"clip_{i:05d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(clip(key=i), path)
    out = tmp_path / "clips" / "made"
    command = [str(tmp_path / "clips"), "--out", str(out), "--bundle", str(tiny_bundle)]
    main([*command, "--share", "0.5"])
    first = {p: p.stat().st_mtime_ns for p in out.glob("*/clip_*.safetensors")}
    assert len(first) == 2
    main(command)
    made = sorted(out.glob("**/clip_*.safetensors"))
    assert [p.relative_to(out) for p in made] == \
        [p.relative_to(tmp_path / "clips") for p in sorted((tmp_path / "clips").glob("kind*/*"))]
    assert {p: p.stat().st_mtime_ns for p in first} == first, "what was there is made again"
    for path in made:
        assert not torch.equal(load_file(path)["lq"], load_file(tmp_path / "clips" / path.relative_to(out))["lq"])


def test_a_folder_without_clips_is_refused(tmp_path, tiny_bundle):
    with pytest.raises(InputError, match=r"has no clips to take 1 of; make them with `genve train clips"):
        main([str(tmp_path), "--out", str(tmp_path / "made"), "--bundle", str(tiny_bundle)])


@pytest.mark.parametrize("share", ["0", "1.2"])
def test_a_share_is_above_0_and_at_most_1(share, tmp_path):
    with pytest.raises(InputError, match=rf"--share must be above 0 and at most 1, got {share}"):
        main([str(tmp_path), "--out", str(tmp_path / "made"), "--share", share])


def test_for_the_first_pass_sharp_frames_are_as_small_as_the_poor_ones():
    clips = ClipConfig(size=256, reach=10, scales=(4,), scale_shares=(1.0,), degradation=DegradationConfig(clean=1.0))
    frames = moving_frames(10, 256)  # by 2 pixels a frame, 0.5 of the poor ones
    record = make_record(frames, clips, np.random.default_rng(1))
    made = first_pass_record(record)
    assert {name: tuple(t.shape[-2:]) for name, t in made.items()} == \
        dict.fromkeys(("hq", "lq"), (64, 64)) | dict.fromkeys((*FLOWS, "valid", "true_valid"), (16, 16))
    assert {name: t.dtype for name, t in made.items()} == {name: t.dtype for name, t in record.items()}
    assert torch.equal(made["lq"], record["lq"])
    assert (made["hq"].int() - made["lq"].int()).abs().max() <= 1, "what is only made smaller is all that is there"
    inner = (slice(None), 0, slice(4, -4), slice(4, -4))
    assert made["forward"][:-1][inner].float().mean().item() == pytest.approx(0.5 / 4, abs=0.03)
    assert made["backward"][1:][inner].float().mean().item() == pytest.approx(-0.5 / 4, abs=0.03)
    assert torch.allclose(made["to_key"][inner].float().mean(), record["to_key"].float()[:, 0].mean() / 4, atol=0.05)


def test_clips_for_the_first_pass_need_room_for_a_crop():
    with pytest.raises(InputError, match=r"must be a multiple of 32 pixels for the first pass, got 80; make clips of 640 pix"):
        first_pass_record({"lq": torch.zeros(9, 3, 80, 80, dtype=torch.uint8)})


def test_clips_for_the_first_pass_are_cropped_as_others(tmp_path):
    clips = ClipConfig(size=128, reach=10, scales=(4,), scale_shares=(1.0,))
    save_record(make_record(moving_frames(10, 128), clips, np.random.default_rng(1)), tmp_path / "clip_00000.safetensors")
    main([str(tmp_path), "--out", str(tmp_path / "first"), "--first-pass"])
    crop = ClipStore(tmp_path / "first").crop(np.random.default_rng(0), 32, 2)
    assert crop["hq"].shape == crop["up"].shape == (3, 3, 32, 32)
