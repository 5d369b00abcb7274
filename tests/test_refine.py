import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from genve_core.bundle import load_bundle, save_component
from genve_core.conditioning.flow import FlowConfig, dis_flow, flow_estimator, flow_with_validity
from genve_core.conditioning.refine import FlowRefiner, RefinedFlow, correlation
from genve_core.errors import InputError
from genve_core.training.clip_store import ClipConfig, ClipStore, make_record
from genve_core.training.stages.refine import RefineConfig, RefineStage


def small() -> FlowRefiner:
    torch.manual_seed(0)
    return FlowRefiner(features=8, width=16, depth=1, iterations=1).eval()


def scene(count: int, h: int = 45, w: int = 67) -> torch.Tensor:
    """Frames (count, 3, h, w) of a smooth scene that moves left by 2 pixels a frame."""
    g = torch.Generator().manual_seed(1)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, h // 4, w // 4 + count, generator=g), size=(h, w + 4 * count),
                                           mode="bicubic").clamp(0, 1)[0] * 2 - 1
    return torch.stack([wide[..., 2 * i : 2 * i + w] for i in range(count)])


def test_correlation_is_largest_at_the_shift_between_two_pictures():
    a = torch.randn(1, 16, 12, 14, generator=torch.Generator().manual_seed(2))
    b = torch.roll(a, shifts=(1, -2), dims=(2, 3))  # what is at (y, x) in a lies at (y + 1, x - 2) in b
    best = correlation(a, b, 3)[0, :, 4:8, 4:10].mean((1, 2)).argmax().item()
    assert (best // 7 - 3, best % 7 - 3) == (1, -2)


def test_untrained_it_returns_the_first_flow_up_to_its_coarser_grid():
    frames = scene(3)
    refined = RefinedFlow(small())(frames[:2], frames[1:])
    first = dis_flow(frames[:2], frames[1:])
    assert refined.shape == first.shape == (2, 2, 45, 67)
    assert (refined - first)[..., 4:-4, 4:-4].abs().mean() < 0.25


def test_it_judges_its_own_flow_and_what_leaves_the_frame_is_not_valid():
    frames = scene(2)
    flow, valid = flow_with_validity(frames[:1], frames[1:], FlowConfig(reduce=1), RefinedFlow(small()))
    assert flow.shape == (1, 2, 45, 67)
    assert valid.shape == (1, 1, 45, 67)
    assert valid.min() >= 0 and valid.max() <= 1
    assert valid[..., 10:-10, 10:-10].min() > 0.5
    moved = flow[:, :1] + torch.arange(67.0) < -1
    assert moved.any() and valid[moved].max() == 0


def test_large_frames_are_worked_on_in_groups_with_the_same_result(monkeypatch):
    frames = scene(4)
    estimate = RefinedFlow(small())
    whole = estimate(frames[:3], frames[1:])
    monkeypatch.setattr("genve_core.conditioning.refine.POSITIONS", 1)
    assert torch.allclose(whole, estimate(frames[:3], frames[1:]), atol=1e-4)


def test_the_bundle_s_refiner_is_what_auto_takes_and_raft_refuses_it(tmp_path):
    save_component(tmp_path, "flow", small(), {"stage": "refine"})
    loaded = load_bundle(tmp_path)["flow"]
    assert isinstance(loaded, FlowRefiner)
    assert isinstance(flow_estimator(FlowConfig(), loaded), RefinedFlow)
    assert flow_estimator(FlowConfig(estimator="dis"), loaded) is dis_flow
    with pytest.raises(InputError, match="this bundle has no RAFT"):
        flow_estimator(FlowConfig(estimator="raft"), loaded)


@pytest.fixture
def stage(tmp_path):
    frames = ((scene(10, 64, 64).permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    for i in range(3):
        config = ClipConfig(size=64, reach=10, scales=(4,), scale_shares=(1.0,))
        save_file(make_record(frames, config, np.random.default_rng(i)), tmp_path / f"clip_{i:05d}.safetensors")
    config = RefineConfig(features=8, width=16, depth=1, iterations=1, crop=64)
    torch.manual_seed(0)
    return RefineStage(ClipStore(tmp_path), config)


def test_pairs_and_their_true_flow_fit_together(stage):
    pairs = stage.draw(np.random.default_rng(0))
    assert pairs["a"].shape == (4, 3, 32, 32)
    assert pairs["start"].shape == pairs["truth"].shape == (4, 2, 16, 16)
    from genve_core.conditioning.warp import resize_flow, warp

    carried = warp(pairs["sharp_b"], resize_flow(pairs["truth"], (32, 32)))
    valid = torch.nn.functional.interpolate(pairs["valid"], size=(32, 32))
    apart = (carried - pairs["sharp_a"]).abs().mean(1, keepdim=True) * valid
    assert apart.mean() < 0.3 * (pairs["sharp_b"] - pairs["sharp_a"]).abs().mean() + 0.01


def test_training_lowers_the_loss_and_draws_a_picture(stage):
    optimiser = torch.optim.Adam(stage.trained.parameters(), lr=2e-3)
    drawn = [stage.draw(np.random.default_rng(k)) for k in range(2)]
    batch = {name: torch.stack([d[name] for d in drawn]) for name in drawn[0]}
    losses = []
    for _ in range(40):
        loss, figures = stage.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.93 * losses[0]
    assert {"dis", "refined", "sharp", "epe"} <= figures.keys()
    assert stage.picture().shape == (128, 128, 3)
