"""Stage `flow`: RAFT-small on synthetic camera motion, whose flow is known exactly, on frames as poor as the product's.

The loss is RAFT's sequence loss (Teed and Deng, 2020, Eq. 7). A pixel that is hidden in the other frame, or left it,
still moves with its layer: it counts with a small weight, so that forward and backward flow disagree there and the
consistency check finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...conditioning.flow import FlowConfig, dis_flow, reduce_frames
from ...conditioning.raft import build_raft, raft_flow
from ...conditioning.warp import resize_flow, warp
from ...errors import InputError
from ...media.eight_bit import to_video
from ...video_codec import upsample
from ..camera import CameraConfig, MovingCamera
from ..degradation import DegradationConfig, degrade
from ..losses import Figures
from ..pictures import grid_picture
from ..sources import find_sources, read_still

HELD_OUT = 12  # every 12th photograph is kept for pictures and comparisons


@dataclass(frozen=True)
class FlowStageConfig:
    """Data and loss. Sizes are pixels of the full frame; RAFT sees it reduced, as `FlowConfig.reduce` says."""

    size: int = 320
    reach: int = 16  # the second frame lies at most this many frames away
    scales: tuple[int, ...] = (4, 2, 1)
    scale_shares: tuple[float, ...] = (0.8, 0.15, 0.05)
    seen: float = 0.3  # frames nearer to each other are taken until this share of pixels is in both
    exposure: float = 0.15  # spread of gain and of gamma of a pair; a fifth of it between its frames
    iterations: int = 8  # updates of RAFT while it is trained
    run_iterations: int = 12  # updates when it is used
    gamma: float = 0.8
    hidden: float = 0.2  # weight of pixels that the other frame does not show
    cached: int = 400  # photographs kept decoded in memory
    camera: CameraConfig = field(default_factory=lambda: CameraConfig(foreground=0.6))
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)

    def __post_init__(self) -> None:
        if self.size % max(self.scales):
            raise InputError(f"flow size must be a multiple of {max(self.scales)} pixels (the scale), got {self.size}")
        if self.reach < 1:
            raise InputError(f"flow reach must be 1 frame or more, got {self.reach}")


class Pair(NamedTuple):
    """Two frames on the reduced grid and the motion between them."""

    poor: Tensor  # (2, 3, h, w) in [-1, 1], as `enhance` sees them
    sharp: Tensor  # the same frames, neither degraded nor jittered
    flow: Tensor  # first -> second, (2, h, w) pixels of this grid
    valid: Tensor  # (1, h, w), 1 where the second frame shows the point, else 0


def change_exposure(frames: Tensor, spread: float, rng: np.random.Generator) -> Tensor:
    """Gain and gamma of (n, 3, h, w) in [-1, 1]: common to all frames, and a fifth of it for each frame alone."""
    draws = rng.normal(0, spread, (2, 1)) + rng.normal(0, spread / 5, (2, len(frames)))
    gain, gamma = torch.from_numpy(np.exp(draws.clip(-0.7, 0.7))).float().view(2, -1, 1, 1, 1).to(frames.device)
    return (((frames + 1) / 2).clamp(0, 1).pow(gamma) * gain).clamp(0, 1) * 2 - 1


def make_pair(stills: list[np.ndarray], config: FlowStageConfig, rng: np.random.Generator) -> Pair:
    """Two frames of one synthetic camera, at most `reach` apart in either direction of time."""
    camera = MovingCamera(stills, config.reach + 1, config.size, config.camera, rng)
    distance = int(rng.integers(1, config.reach + 1))
    i = int(rng.integers(config.reach + 1 - distance))
    flow, valid = camera.flow(i, i + distance)
    while valid.mean() < config.seen and distance > 1:  # nothing is learnt from two frames that share nothing
        distance //= 2
        flow, valid = camera.flow(i, i + distance)
    j = i + distance
    if rng.random() < 0.5:
        (i, j), (flow, valid) = (j, i), camera.flow(j, i)
    frames = to_video(np.stack([camera.frame(i), camera.frame(j)]))
    scale = int(rng.choice(config.scales, p=config.scale_shares))
    small = degrade(change_exposure(frames, config.exposure, rng), scale, config.degradation, rng)
    poor = reduce_frames(upsample(small.unsqueeze(0), (config.size, config.size))[0], config.flow)
    sharp = reduce_frames(frames, config.flow)
    size = (poor.shape[-2], poor.shape[-1])
    all_seen = -F.adaptive_max_pool2d(-torch.from_numpy(valid)[None], size)[0]
    return Pair(poor, sharp, resize_flow(torch.from_numpy(flow)[None], size)[0], all_seen)


def sequence_loss(flows: list[Tensor], truth: Tensor, valid: Tensor, gamma: float, hidden: float) -> Tensor:
    """RAFT's Eq. 7: L1 of every update's flow (n, 2, h, w), later ones weighing more; 1 for the last one.

    valid: (n, 1, h, w); pixels with 0 weigh `hidden`. Motion longer than the frame's side counts nowhere.
    """
    known = (truth.square().sum(1, keepdim=True).sqrt() < max(truth.shape[-2:])).to(truth.dtype)
    weight = known * (valid + hidden * (1 - valid))
    total = truth.new_zeros(())
    for k, flow in enumerate(flows):
        error = ((flow - truth).abs() * weight).sum() / (2 * weight.sum()).clamp(min=1)
        total = total + gamma ** (len(flows) - 1 - k) * error
    return total


def end_point_error(flow: Tensor, truth: Tensor, valid: Tensor) -> tuple[float, float]:
    """Mean distance in pixels between two flows (n, 2, h, w) where valid, and the share that is off by less than 1."""
    distance = (flow.float() - truth).square().sum(1, keepdim=True).sqrt()
    count = valid.sum().clamp(min=1)
    return float((distance * valid).sum() / count), float(((distance < 1) * valid).sum() / count)


def compare_with_dis(module: nn.Module, stills: list[Path], config: FlowStageConfig | None = None, pairs: int = 32,
                     seed: int = 1000) -> dict[str, dict[str, float]]:
    """RAFT and OpenCV's DIS on the same synthetic pairs, made from photographs that RAFT was not trained on.

    Returns, for `raft`, `dis` and `truth` (the exact flow): epe (pixels of the reduced grid), px1 (share of pixels off
    by less than one) and warp_error: mean difference in grey levels of 255 between a sharp frame and the other one
    warped to it. All where the point is seen in both frames.
    """
    config = config or FlowStageConfig()
    estimators = {"raft": raft_flow(module), "dis": dis_flow}
    sums: dict[str, dict[str, float]] = {}
    for k in range(pairs):
        pair = draw_pair(stills, config, np.random.default_rng([seed, k]))
        a, b = pair.poor[:1], pair.poor[1:]
        truth, valid = pair.flow[None], pair.valid[None]
        flows = {name: estimate(a, b) for name, estimate in estimators.items()} | {"truth": truth}
        for name, flow in flows.items():
            epe, px1 = end_point_error(flow, truth, valid)
            missed = (warp(pair.sharp[1:], flow) - pair.sharp[:1]).abs().mean(1, keepdim=True) * valid
            figures = {"epe": epe, "px1": px1, "warp_error": float(missed.sum() / valid.sum().clamp(min=1)) * 127.5}
            mine = sums.setdefault(name, dict.fromkeys(figures, 0.0))
            for figure, value in figures.items():
                mine[figure] += value / pairs
    return sums


def draw_pair(stills: list[Path], config: FlowStageConfig, rng: np.random.Generator, read: Any = read_still) -> Pair:
    """A pair over one or two of the photographs `stills`; `read` opens one."""
    layers = 2 if rng.random() < config.camera.foreground else 1
    images = [read(stills[int(rng.integers(len(stills)))]) for _ in range(layers)]
    return make_pair(images, config, rng)


def hold_out(stills: list[Path]) -> tuple[list[Path], list[Path]]:
    """Photographs to train on and to measure with; with fewer than HELD_OUT both are all of them."""
    kept = stills[HELD_OUT - 1 :: HELD_OUT]
    return ([s for s in stills if s not in kept], kept) if kept else (stills, stills)


def flow_picture(flow: Tensor, longest: Tensor) -> Tensor:
    """Flow (n, 2, h, w) as colours (n, 3, h, w) in [-1, 1]: hue is the direction, white is no motion.

    longest: (n,) pixels, the length shown in full colour.
    """
    length = flow.float().square().sum(1).sqrt() / longest.view(-1, 1, 1).to(flow.device)
    hue = torch.atan2(flow[:, 1], flow[:, 0]).float()
    thirds = torch.arange(3, device=flow.device).view(1, 3, 1, 1) * (2 * torch.pi / 3)
    return 1 - length.clamp(0, 1).unsqueeze(1) * (1 - torch.cos(hue.unsqueeze(1) - thirds))


class FlowStage:
    name = "flow"

    def __init__(self, stills: list[Path], config: FlowStageConfig):
        self.stills, self.held_out = hold_out(stills)
        self.config = config
        self.raft = build_raft("small", config.run_iterations)
        self.trained = nn.ModuleDict({"flow": self.raft})
        self._read = lru_cache(maxsize=config.cached)(read_still)

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        pair = draw_pair(self.stills, self.config, rng, self._read)
        return {"a": pair.poor[0], "b": pair.poor[1], "flow": pair.flow, "valid": pair.valid}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        truth, valid = batch["flow"], batch["valid"]
        flows = self.raft(batch["a"], batch["b"], self.config.iterations)
        loss = sequence_loss(flows, truth, valid, self.config.gamma, self.config.hidden)
        epe, px1 = end_point_error(flows[-1].detach(), truth, valid)
        still, _ = end_point_error(torch.zeros_like(truth), truth, valid)  # what "nothing moves" would score
        # DIS on one sample is enough for a mean over a hundred steps, and cheap
        dis, _ = end_point_error(dis_flow(batch["a"][:1], batch["b"][:1]), truth[:1], valid[:1])
        return loss, {"epe": epe, "px1": px1, "epe_dis": dis, "epe_still": still}

    def finish(self) -> None:
        """RAFT-small has no statistics to calibrate."""

    def picture(self) -> np.ndarray:
        """Held-out pairs, a column each: first frame, second frame, true flow, RAFT's, DIS's; one colour scale a pair."""
        pairs = [draw_pair(self.held_out, self.config, np.random.default_rng([2, k]), self._read) for k in range(6)]
        a, b, truth = (torch.stack(x) for x in zip(*((p.poor[0], p.poor[1], p.flow) for p in pairs), strict=True))
        longest = truth.square().sum(1).sqrt().amax((1, 2)).clamp(min=1)
        flows = [truth, raft_flow(self.raft)(a, b), dis_flow(a, b)]
        return grid_picture([a, b, *(flow_picture(flow, longest) for flow in flows)])


def build_flow_stage(data: Path, settings: dict[str, Any]) -> FlowStage:
    """The stage from a folder of photographs and the `stage` section of a config file. Raises InputError."""
    from ..run import configured

    stills, _ = find_sources(data)
    if not stills:
        raise InputError(f"--data {data} holds no photograph, and stage flow moves a camera over photographs; "
                         f"give a folder with .png or .jpg files")
    kinds = {"camera": CameraConfig, "degradation": DegradationConfig, "flow": FlowConfig}
    nested = {k: configured(kinds[k], v, f"stage flow, {k}") if k in kinds else v for k, v in settings.items()}
    return FlowStage(stills, configured(FlowStageConfig, nested, "stage flow"))
