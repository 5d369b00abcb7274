"""Stage `refine`: the network that corrects DIS between poor frames, taught by DIS between the sharp ones.

Real clips have no exact flow, but the flow of their sharp frames is what a good estimate between the poor ones should
come to, and sharp frames are at hand in training. A second loss asks what the flow is for: the sharp second frame,
warped, must look like the sharp first one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...conditioning.flow import FlowConfig, consistent
from ...conditioning.refine import FlowRefiner
from ...conditioning.warp import inside, resize_flow, warp
from ..clip_store import FLOW_GRID, ClipStore
from ..losses import Figures
from ..pictures import grid_picture
from .decoder import ROW


@dataclass(frozen=True)
class RefineConfig:
    """Size of the network, and the losses."""

    features: int = 32
    width: int = 48
    depth: int = 3
    iterations: int = 2
    crop: int = 192  # pixels
    gamma: float = 0.8  # weight of earlier corrections, as RAFT's
    photometric: float = 10.0
    validity: float = 0.5
    close: float = 2.0  # pixels of the full frame: a flow that is off by less is valid


class RefineStage:
    name = "refine"

    def __init__(self, store: ClipStore, config: RefineConfig, refiner: FlowRefiner | None = None):
        self.store, self.config = store, config
        self.refiner = refiner or FlowRefiner(config.features, config.width, config.depth, config.iterations)
        self.trained = nn.ModuleDict({"flow": self.refiner})

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Four pairs of one crop: two frames with the key frame, one with its next, one with its previous frame."""
        crop = self.store.crop(rng, self.config.crop, ROW, true_flow=True)
        i, j = (int(k) for k in rng.choice(ROW, 2, replace=False))
        p, q = int(rng.integers(ROW - 1)), int(rng.integers(1, ROW))
        first, second = [1 + i, 1 + j, 1 + p, 1 + q], [0, 0, 2 + p, q]
        half = {name: F.avg_pool2d(crop[name], 2) for name in ("up", "hq")}
        start = torch.stack([crop["to_key"][i], crop["to_key"][j], crop["forward"][p], crop["backward"][q]])
        truth = torch.stack([crop["true_to_key"][i], crop["true_to_key"][j], crop["true_forward"][p], crop["true_backward"][q]])
        back = torch.stack([crop["true_backward"][p + 1], crop["true_forward"][q - 1]])
        seen = consistent(truth[2:], back, FlowConfig(reduce=FLOW_GRID))
        valid = torch.cat([crop["true_valid"][[i, j]], seen]) * inside(truth)
        return {"a": half["up"][first], "b": half["up"][second], "sharp_a": half["hq"][first], "sharp_b": half["hq"][second],
                "start": start, "truth": truth, "valid": valid}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        batch = {name: x.flatten(0, 1) for name, x in batch.items()}
        features = self.refiner.describe(torch.cat([batch["a"], batch["b"]]))
        a, b = ({k: f.chunk(2)[side] for k, f in features.items()} for side in range(2))
        results = self.refiner(a, b, batch["start"])
        total = torch.zeros((), device=batch["a"].device)
        truth, valid = batch["truth"], batch["valid"]
        for k, (flow, logit) in enumerate(results):
            off = (flow - truth).square().sum(1, keepdim=True).add(1e-4).sqrt() * FLOW_GRID  # pixels of the full frame
            close = (valid > 0.5).float() * (off.detach() < self.config.close)
            # the root: what is hopelessly lost must not outweigh the many small errors
            missed = ((off + 0.1).sqrt() * valid).mean()
            doubted = F.binary_cross_entropy_with_logits(logit, close)
            total = total + self.config.gamma ** (len(results) - 1 - k) * (missed + self.config.validity * doubted)
        last = results[-1][0]
        fine = resize_flow(last, (batch["sharp_a"].shape[-2], batch["sharp_a"].shape[-1]))
        valid = F.interpolate(valid, size=fine.shape[-2:], mode="bilinear")
        apart = (warp(batch["sharp_b"], fine) - batch["sharp_a"]).abs().mean(1, keepdim=True)
        return total + self.config.photometric * (apart * valid).mean(), self.figures(batch, last, valid)

    @torch.no_grad()
    def figures(self, batch: dict[str, Tensor], flow: Tensor, valid: Tensor) -> Figures:
        """Mean error of the carried sharp frame in grey levels of 255, by DIS on poor, refined, and DIS on sharp frames."""
        size = (batch["sharp_a"].shape[-2], batch["sharp_a"].shape[-1])
        out = {}
        for name, some in (("dis", batch["start"]), ("refined", flow), ("sharp", batch["truth"])):
            apart = (warp(batch["sharp_b"], resize_flow(some, size)) - batch["sharp_a"]).abs().mean(1, keepdim=True)
            out[name] = (apart * valid).sum() / valid.sum().clamp(min=1) * 127.5
        epe = (flow - batch["truth"]).square().sum(1, keepdim=True).sqrt() * batch["valid"]
        return {**out, "epe": epe.sum() / batch["valid"].sum().clamp(min=1) * FLOW_GRID}

    def finish(self) -> None:
        """Nothing to calibrate."""

    def picture(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        batch = self.draw(rng)
        device = next(self.refiner.parameters()).device
        a, b = (self.refiner.describe(batch[name].to(device)) for name in ("a", "b"))
        flow, logit = self.refiner(a, b, batch["start"].to(device))[-1]
        size = (batch["a"].shape[-2], batch["a"].shape[-1])
        moved = warp(batch["sharp_b"], resize_flow(flow, size).cpu())
        valid = F.interpolate(logit.sigmoid().cpu(), size=size, mode="bilinear").expand(-1, 3, -1, -1) * 2 - 1
        return grid_picture([batch["a"], batch["sharp_a"], moved, valid])
