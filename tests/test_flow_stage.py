import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.conditioning.flow import FlowConfig
from genve_core.conditioning.raft import raft_flow
from genve_core.conditioning.warp import warp
from genve_core.errors import InputError
from genve_core.training.camera import CameraConfig
from genve_core.training.degradation import DegradationConfig
from genve_core.training.run import train
from genve_core.training.stages.flow import (
    FlowStageConfig,
    build_flow_stage,
    change_exposure,
    compare_with_dis,
    end_point_error,
    flow_picture,
    hold_out,
    make_pair,
    sequence_loss,
)

pytest.importorskip("torchvision")

TINY = {"size": 64, "reach": 3, "iterations": 2, "run_iterations": 2}


def photo(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (100, 130, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return (127.5 + 127.5 * np.clip(smooth / np.abs(smooth).max(), -1, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for k in range(3):
        cv2.imwrite(str(folder / f"{k}.png"), photo(k))
    return folder


def clean_config(**settings) -> FlowStageConfig:
    """Pairs that are only made smaller, without exposure changes, with real motion."""
    plain = {"scales": (1,), "scale_shares": (1.0,), "exposure": 0.0, "degradation": DegradationConfig(clean=1.0, mild=0.0),
             "camera": CameraConfig(static=0.0, motion_blur=0.0, foreground=0.0)}
    return FlowStageConfig(**(TINY | plain | settings))


@pytest.mark.parametrize("reduce", [1, 2])
def test_the_flow_of_a_pair_fits_its_frames_on_the_reduced_grid(reduce):
    config = clean_config(flow=FlowConfig(reduce=reduce))
    for seed in range(4):
        pair = make_pair([photo(seed)], config, np.random.default_rng(seed))
        side = 64 // reduce
        assert [tuple(x.shape) for x in pair] == [(2, 3, side, side), (2, 3, side, side), (2, side, side), (1, side, side)]
        assert torch.allclose(pair.poor, pair.sharp, atol=2 / 127.5)
        error = (warp(pair.sharp[1:], pair.flow[None]) - pair.sharp[:1]).abs().mean(1)[0]
        still = (pair.sharp[1] - pair.sharp[0]).abs().mean(0)
        seen = pair.valid[0] > 0
        assert seen.float().mean() > 0.3
        assert error[seen].mean() < max(0.3 * still[seen].mean(), 0.012), f"seed {seed}: {error[seen].mean()}"


def test_frames_that_share_too_little_are_taken_nearer_to_each_other():
    config = clean_config(size=64, reach=16, seen=0.5)
    for seed in range(8):
        pair = make_pair([photo(seed)], config, np.random.default_rng(seed))
        longest = pair.flow.square().sum(0).sqrt().max()
        assert pair.valid.mean() > 0.4 or longest < 14, (seed, pair.valid.mean(), longest)


def test_poor_frames_are_poor_and_the_generator_alone_decides():
    config = FlowStageConfig(**TINY)
    first, again, other = (make_pair([photo(0), photo(1)], config, np.random.default_rng(s)) for s in (3, 3, 4))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first.poor, other.poor)
    assert (first.poor - first.sharp).abs().mean() > 0.01
    assert set(first.valid.unique().tolist()) <= {0.0, 1.0}


def test_exposure_changes_both_frames_alike_and_each_a_little():
    grey = torch.zeros(2, 3, 4, 5)
    between, common = [], []
    for seed in range(200):
        a, b = change_exposure(grey, 0.15, np.random.default_rng(seed))[:, 0, 0, 0].tolist()
        between.append(a - b)
        common.append((a + b) / 2)
    assert 2 < np.std(common) / np.std(between) < 6
    assert torch.equal(change_exposure(grey, 0.0, np.random.default_rng(0)), grey)


def test_the_sequence_loss_by_hand():
    truth = torch.zeros(1, 2, 1, 4)
    valid = torch.tensor([1.0, 1, 0, 1]).view(1, 1, 1, 4)
    truth[0, 0, 0, 3] = 50.0  # longer than the frame: counts nowhere
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, :, 0] = torch.tensor([[1.0, 3.0, 10.0, 0.0], [0.0, 0.0, 10.0, 0.0]])
    # weights 1, 1, 0.2, 0 (4.4 with both components): (1 + 3 + 0.2 * 20) / 4.4
    last = sequence_loss([flow], truth, valid, gamma=0.8, hidden=0.2).item()
    assert last == pytest.approx(8 / 4.4)
    assert sequence_loss([flow, flow * 0], truth, valid, 0.8, 0.2).item() == pytest.approx(0.8 * last)
    assert sequence_loss([flow], truth, valid * 0, 0.8, 0.0).item() == 0, "nothing is known"


def test_the_end_point_error_by_hand():
    truth, valid = torch.zeros(1, 2, 1, 4), torch.tensor([1.0, 1, 1, 0]).view(1, 1, 1, 4)
    flow = torch.tensor([[3.0, 0.6, 0.0, 100.0], [4.0, 0.0, 0.0, 0.0]]).view(1, 2, 1, 4)
    assert end_point_error(flow, truth, valid) == pytest.approx((5.6 / 3, 2 / 3))


def test_flow_is_drawn_white_at_rest_and_opposite_colours_for_opposite_motion():
    flow = torch.tensor([[0.0, 5, -5, 10], [0.0, 0, 0, 0]]).view(1, 2, 1, 4)
    colours = flow_picture(flow, torch.tensor([5.0]))[0, :, 0].T
    assert colours[0].tolist() == [1, 1, 1]
    assert colours[1].tolist() == pytest.approx([1, -0.5, -0.5]) and colours[2].tolist() == pytest.approx([-1, 0.5, 0.5])
    assert torch.allclose(colours[3], colours[1]), "longer than the longest is shown as the longest"


def test_every_twelfth_photograph_is_held_out_where_there_are_enough():
    stills = [Path(f"{k:02d}.png") for k in range(30)]
    training, held_out = hold_out(stills)
    assert [s.stem for s in held_out] == ["11", "23"]
    assert sorted(training + held_out) == stills and not set(training) & set(held_out)
    assert hold_out(stills[:5]) == (stills[:5], stills[:5])


def test_the_loss_falls_on_a_sample_that_is_seen_again(photos):
    torch.manual_seed(0)
    stage = build_flow_stage(photos, TINY | {"camera": {"static": 0.0, "foreground": 0.0}})
    sample = stage.draw(np.random.default_rng(0))
    batch = {name: tensor[None] for name, tensor in sample.items()}
    optimizer = torch.optim.AdamW(stage.trained.parameters(), lr=4e-4)
    losses = []
    for _ in range(8):
        loss, figures = stage.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(stage.trained.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0], losses
    assert figures.keys() == {"epe", "px1", "epe_dis", "epe_still"} and all(np.isfinite(v) for v in figures.values())


def test_training_stopped_and_resumed_is_the_same_training(photos, tmp_path):
    """A run of 2 steps equals one of 1 step that goes on for another; its bundle holds a flow that runs."""
    loop = {"batch": 1, "log_every": 1, "ema": 0.5, "warmup": 1, "final_lr": 1.0, "precision": "no"}

    def run(name: str, steps: int, resume: bool = False) -> Path:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"loop": loop | {"steps": steps}, "stage": TINY}))
        torch.manual_seed(0)
        return train("flow", photos, tmp_path / name, file, resume)

    run("once", 2)
    run("twice", 1)
    run("twice", 2, resume=True)
    once, twice = (load_bundle(tmp_path / name / "bundle")["flow"] for name in ("once", "twice"))
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[name]), name
    logs = [json.loads(line) for line in (tmp_path / "twice" / "flow" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logs] == [1, 2] and {"epe", "epe_dis", "loss"} <= logs[0].keys()
    frames = torch.zeros(2, 3, 20, 30)
    assert raft_flow(once)(frames, frames).shape == (2, 2, 20, 30)
    assert cv2.imread(str(tmp_path / "once" / "flow" / "pictures" / "0000002.png")).shape == (5 * 32, 6 * 32, 3)


def test_the_comparison_measures_both_estimators_and_the_truth_on_one_scale(photos):
    stage = build_flow_stage(photos, TINY)
    stills = sorted(photos.glob("*.png"))
    figures = compare_with_dis(stage.raft, stills, clean_config(), pairs=3)
    assert figures["truth"]["epe"] == 0 and figures["truth"]["px1"] == pytest.approx(1)
    assert figures["truth"]["warp_error"] < figures["dis"]["warp_error"] < figures["raft"]["warp_error"]
    assert figures["dis"]["epe"] < figures["raft"]["epe"], "an untrained RAFT does not beat DIS"
    assert figures == compare_with_dis(stage.raft, stills, clean_config(), pairs=3)


def test_wrong_settings_and_data_are_refused(photos, tmp_path):
    with pytest.raises(InputError, match=r"flow size must be a multiple of 4 pixels .* got 66"):
        build_flow_stage(photos, {"size": 66})
    with pytest.raises(InputError, match="flow reach must be 1 frame or more, got 0"):
        build_flow_stage(photos, {"reach": 0})
    with pytest.raises(InputError, match=r"stage flow has no setting 'sise'; known: .*size"):
        build_flow_stage(photos, {"sise": 64})
    with pytest.raises(InputError, match=r"stage flow, camera has no setting 'speed'; known: .*max_speed"):
        build_flow_stage(photos, {"camera": {"speed": 3}})
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="holds no photograph, and stage flow moves a camera over photographs"):
        build_flow_stage(tmp_path, {})
