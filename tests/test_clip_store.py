import numpy as np
import pytest
import torch
from media_clips import moving_frames
from safetensors.torch import save_file

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.conditioning.flow import FlowConfig
from genve_core.conditioning.warp import warp
from genve_core.errors import InputError
from genve_core.media.eight_bit import to_video
from genve_core.models import Models
from genve_core.steps import find_flow
from genve_core.training.clip_store import (
    CLIP_FRAMES,
    FLOW_GRID,
    FLOWS,
    ClipConfig,
    ClipStore,
    make_record,
    poor_flow,
    to_uint8,
)
from genve_core.training.degradation import DegradationConfig

SIDE = 96


class Draws:
    """Stands for `numpy.random.Generator` where a test has to say what is drawn."""

    def __init__(self, integers: list[int], mirror: bool = False):
        self.values, self.mirror = list(integers), mirror

    def integers(self, high: int) -> int:
        value = self.values.pop(0)
        assert 0 <= value < high, f"{value} is not below {high}"
        return value

    def random(self) -> float:
        return 0.0 if self.mirror else 0.9


def stored_clip(scale: int = 4) -> dict[str, torch.Tensor]:
    """A record of random numbers, as `make_record` shapes them, with flow that is known at each place."""
    g = torch.Generator().manual_seed(0)
    grid = SIDE // FLOW_GRID
    frames, poor = ((1 + CLIP_FRAMES, 3, s, s) for s in (SIDE, SIDE // scale))
    record = {"hq": torch.randint(0, 256, frames, generator=g).to(torch.uint8),
              "lq": torch.randint(0, 256, poor, generator=g).to(torch.uint8)}
    record |= {name: torch.full((CLIP_FRAMES, 1, grid, grid), 255, dtype=torch.uint8) for name in ("valid", "true_valid")}
    for name in FLOWS:
        record[name] = torch.randn((CLIP_FRAMES, 2, grid, grid), generator=g).half() * 0.2
    return record


@pytest.fixture
def store(tmp_path):
    save_file(stored_clip(), tmp_path / "clip_00000.safetensors")
    return ClipStore(tmp_path)


def test_folders_side_by_side_are_read_and_so_are_links_to_folders(tmp_path):
    for folder in ("clips/here", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        save_file(stored_clip(), tmp_path / folder / "clip_00000.safetensors")
    (tmp_path / "clips" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(ClipStore(tmp_path / "clips")) == 2


@pytest.mark.parametrize("scale", [4, 2, 1])
def test_a_record_has_the_fields_that_training_reads(scale):
    config = ClipConfig(size=64, reach=10, scales=(scale,), scale_shares=(1.0,))
    record = make_record(moving_frames(10), config, np.random.default_rng(1))
    wanted = {"hq": (9, 3, 64, 64), "lq": (9, 3, 64 // scale, 64 // scale), "valid": (8, 1, 16, 16),
              "true_valid": (8, 1, 16, 16), **dict.fromkeys(FLOWS, (8, 2, 16, 16))}
    assert {name: tuple(tensor.shape) for name, tensor in record.items()} == wanted
    assert {n for n, t in record.items() if t.dtype == torch.uint8} == {"hq", "lq", "valid", "true_valid"}
    assert all(t.dtype == torch.float16 for n, t in record.items() if t.dtype != torch.uint8)


def test_a_record_holds_the_motion_of_the_clip_in_pixels_of_the_flow_grid():
    frames = moving_frames(10)
    config = ClipConfig(size=64, reach=10, scales=(1,), scale_shares=(1.0,))
    record = make_record(frames, config, np.random.default_rng(4))
    video = to_uint8(to_video(frames))
    index = [next(i for i in range(10) if torch.equal(video[i], frame)) for frame in record["hq"]]
    key, row = index[0], index[1:]
    assert row == list(range(row[0], row[0] + CLIP_FRAMES)), "the frames are not in a row"
    for kind in ("", "true_"):
        dx = record[f"{kind}to_key"][:, 0, 4:-4, 6:-6].float().mean((1, 2))
        assert dx.tolist() == pytest.approx([2 * (key - i) / FLOW_GRID for i in row], abs=0.25)
        assert record[f"{kind}forward"][:-1, 0, 4:-4, 4:-4].float().mean().item() == pytest.approx(0.5, abs=0.1)
        assert record[f"{kind}backward"][1:, 0, 4:-4, 4:-4].float().mean().item() == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("key", [1, 9, 17])
def test_the_flow_of_a_record_is_that_of_enhance(key, tiny_bundle):
    """What a network learns on is what it meets; a key frame before, in and behind the row."""
    lq = to_video(moving_frames(20, 32)) + 0.02 * torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    row = range(6, 6 + CLIP_FRAMES)
    found = poor_flow(lq, row, key, 64, FlowConfig())
    flow = find_flow(Models(load_bundle(tiny_bundle), "cpu"), Clip(lq, (64, 64)), [key])
    rows = slice(row.start, row.stop)
    wanted = flow.to_key[key][rows], flow.valid[key][rows], flow.forward[rows], flow.backward[rows]
    assert all((a - b).abs().max() < 1e-3 for a, b in zip(found, wanted, strict=True))


def test_a_crop_is_a_slice_of_the_clip(store):
    record = stored_clip()
    crop = store.crop(Draws([0, 3, 5, 2]), 32, 4, true_flow=True)  # clip 0, y = 12, x = 20, from frame 2 of the row
    pick, row = [0, 3, 4, 5, 6], slice(2, 6)
    assert torch.allclose(crop["hq"], record["hq"][pick][..., 12:44, 20:52].float() / 127.5 - 1)
    for name in FLOWS:
        wanted = record[name][row][..., 3:11, 5:13].float()
        if not name.endswith("to_key"):
            wanted[-1 if name.endswith("forward") else 0] = 0  # no neighbour beyond the crop
        assert torch.equal(crop[name], wanted), name
    assert {n: tuple(t.shape) for n, t in crop.items()} == {
        "hq": (5, 3, 32, 32), "up": (5, 3, 32, 32), "valid": (4, 1, 8, 8), "true_valid": (4, 1, 8, 8),
        **dict.fromkeys(FLOWS, (4, 2, 8, 8)), "poor": ()}


@pytest.mark.parametrize("scale", [4, 2, 1])
def test_a_crop_says_how_poor_it_is_beyond_being_small(scale, tmp_path):
    told = []
    for clean in (1.0, 0.0):
        kind = DegradationConfig(clean=clean, mild=0.0)
        config = ClipConfig(size=64, reach=10, scales=(scale,), scale_shares=(1.0,), degradation=kind)
        save_file(make_record(moving_frames(10), config, np.random.default_rng(1)), tmp_path / "clip_00000.safetensors")
        told.append(ClipStore(tmp_path).crop(Draws([0, 3, 5, 0]), 32, 8)["poor"].item())
    assert told[0] == pytest.approx(0, abs=0.02)
    assert told[1] > 0.5


@pytest.mark.parametrize("scale", [4, 2, 1])
@pytest.mark.parametrize(("y", "x"), [(0, 0), (8, 12), (16, 16)])
def test_the_up_sampled_crop_is_the_crop_of_the_up_sampled_clip(scale, y, x, tmp_path):
    from genve_core.video_codec import upsample

    save_file(stored_clip(scale), tmp_path / "clip_00000.safetensors")
    crop = ClipStore(tmp_path).crop(Draws([0, y, x, 0]), 32, 8)
    poor = stored_clip(scale)["lq"].float() / 127.5 - 1
    whole = upsample(poor[None], (SIDE, SIDE))[0].clamp(-1, 1)
    assert torch.allclose(crop["up"], whole[..., 4 * y : 4 * y + 32, 4 * x : 4 * x + 32], atol=1e-4)


def test_a_mirrored_crop_mirrors_pictures_and_horizontal_motion(store):
    plain = store.crop(Draws([0, 1, 2, 3]), 64, 5, true_flow=True)
    mirrored = store.crop(Draws([0, 1, 2, 3], mirror=True), 64, 5, true_flow=True)
    for name in ("hq", "up", "valid", "true_valid"):
        assert torch.equal(mirrored[name], plain[name].flip(-1)), name
    for name in FLOWS:
        assert torch.equal(mirrored[name][:, 0], -plain[name][:, 0].flip(-1)), f"dx of {name}"
        assert torch.equal(mirrored[name][:, 1], plain[name][:, 1].flip(-1)), f"dy of {name}"


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_in_a_turned_crop_motion_leads_where_it_did(store, tmp_path, quarters):
    turning = ClipStore(tmp_path, turn=1.0)
    plain = store.crop(Draws([0, 1, 2, 3]), 64, 5, true_flow=True)
    turned = turning.crop(Draws([0, 1, 2, 3, quarters - 1], mirror=True), 64, 5, true_flow=True)
    mirrored = store.crop(Draws([0, 1, 2, 3], mirror=True), 64, 5, true_flow=True)
    assert not torch.equal(turned["hq"], plain["hq"]) and turned.keys() == plain.keys()
    for name in ("hq", "up", "valid", "true_valid"):
        assert torch.equal(turned[name], torch.rot90(mirrored[name], quarters, (-2, -1))), name
    there = torch.rand(5, 3, *plain["to_key"].shape[-2:], generator=torch.Generator().manual_seed(0))
    for name in FLOWS:
        carried = warp(torch.rot90(there, quarters, (-2, -1)), turned[name])
        assert torch.allclose(carried, torch.rot90(warp(there, mirrored[name]), quarters, (-2, -1)), atol=1e-5), name


def test_a_source_outside_the_cropped_key_frame_is_invalid(tmp_path):
    record = stored_clip()
    record["to_key"].zero_()
    record["to_key"][1, 0] = 3.0  # the second frame finds its source 3 grid pixels to the right
    record["valid"][2, :, 4:6] = 0
    save_file(record, tmp_path / "clip_00000.safetensors")
    crop = ClipStore(tmp_path).crop(Draws([0, 2, 2, 0]), 32, 8)
    assert crop["valid"][0].min() == 1
    assert crop["valid"][1, 0, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert crop["valid"][2, 0, :, 0].tolist() == [1, 1, 0, 0, 1, 1, 1, 1]


def test_clips_in_memory_are_cropped_alike(store, tmp_path):
    resident = ClipStore(tmp_path, device_resident=True)
    assert len(store) == len(resident) == 1
    a, b = (s.crop(np.random.default_rng(7), 64, 6) for s in (store, resident))
    assert all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def test_the_flow_of_the_sharp_frames_is_read_only_where_it_is_asked_for(store):
    plain, full = (store.crop(Draws([0, 1, 2, 3]), 64, 5, true_flow) for true_flow in (False, True))
    assert full.keys() - plain.keys() == {"true_to_key", "true_forward", "true_backward", "true_valid"}
    assert all(torch.equal(plain[name], full[name]) for name in plain)


@pytest.mark.parametrize("device_resident", [False, True])
def test_clips_that_are_made_while_a_run_goes_on_are_taken_up_where_that_is_wanted(store, tmp_path, device_resident):
    growing, fixed = (ClipStore(tmp_path, device_resident=device_resident, grow=grow) for grow in (1e-9, 0.0))
    save_file(stored_clip(scale=2), tmp_path / "clip_00001.safetensors")
    growing.crop(Draws([0, 1, 2, 3]), 64, 5)
    assert (len(growing), len(fixed)) == (2, 1)
    new, known = (store.crop(Draws([1, 0, 0, 0]), 96, 1)["hq"] for store in (growing, ClipStore(tmp_path)))
    assert torch.equal(new, known)


def test_8_bit_and_back_loses_nothing():
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    video = to_video(frames)
    assert video.shape == (2, 3, 5, 7) and video.min() >= -1 and video.max() <= 1
    assert np.array_equal(to_uint8(video).permute(0, 2, 3, 1).numpy(), frames)


@pytest.mark.parametrize(("size", "frames"), [(32, 9), (128, 1), (40, 1)])
def test_a_crop_that_no_clip_holds_is_refused(store, size, frames):
    with pytest.raises(ValueError, match=f"at most 8 frames of 96 px, a multiple of 32, got {frames} of {size}"):
        store.crop(np.random.default_rng(0), size, frames)


def test_clips_of_several_runs_lie_side_by_side(tmp_path):
    for run in ("mild", "worn"):
        (tmp_path / run).mkdir()
        save_file(stored_clip(), tmp_path / run / "clip_00000.safetensors")
    assert len(ClipStore(tmp_path)) == 2


def test_a_folder_without_clips_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="holds no clips; make them with `genve train clips"):
            ClipStore(folder)


def test_a_clip_size_off_the_grid_is_refused():
    with pytest.raises(InputError, match="multiple of 32 pixels, got 100"):
        ClipConfig(size=100)
