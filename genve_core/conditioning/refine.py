"""Learned refinement of optical flow between poor frames: DIS finds the motion, a small network corrects it.

Noise, blocks and blur mislead a matcher that looks at patches. The network sees features of both frames around the
first estimate and, trained on the flow that the same matcher finds between the sharp frames, learns what a plausible
correction is. It also says where there is no source (hidden, outside, or not to be trusted). Ours, not the paper's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..blocks import stack, zeroed
from .flow import dis_flow
from .warp import inside, resize_flow, warp

LEVELS = (8, 4)  # correction on 1/8 of the frame's grid, then on 1/4
FLOW_SCALE = 0.1  # brings flow in pixels to the scale of features
POSITIONS = 1 << 18  # of the 1/4 grid that are worked on together: bounds memory at large frames


def correlation(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Dot products of a (n, c, h, w) with b shifted by up to `radius` in x and y: (n, (2 radius + 1)^2, h, w)."""
    h, w = a.shape[-2:]
    padded = F.pad(b, (radius,) * 4)
    side = range(2 * radius + 1)
    return torch.stack([(a * padded[..., y : y + h, x : x + w]).mean(1) for y in side for x in side], dim=1)


class FlowUpdate(nn.Module):
    """A correction of flow and validity on one grid."""

    def __init__(self, features: int, width: int, radius: int, depth: int):
        super().__init__()
        self.radius = radius
        seen = (2 * radius + 1) ** 2 + 2 * features + 3
        self.body = nn.Sequential(nn.Conv2d(seen, width, 3, padding=1), stack(width, depth, norm=True))
        self.tail = zeroed(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, a: Tensor, b: Tensor, flow: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
        """a, b: features (n, c, h, w).   flow: (n, 2, h, w) pixels of this grid.   logit: (n, 1, h, w) of validity.

        Returns what is to be added to both.
        """
        moved = warp(b, flow)
        similar = correlation(F.normalize(a, dim=1), F.normalize(moved, dim=1), self.radius) * a.shape[1]
        change = self.tail(self.body(torch.cat([similar, a, moved - a, flow * FLOW_SCALE, logit], 1))).float()
        return change[:, :2], change[:, 2:]


class FlowRefiner(nn.Module):
    """A first flow between two frames -> a better one, and where it is valid. `config` rebuilds it.

    features: channels of the frames' features.   width: of the corrections.   depth: residual blocks of the features at
    1/4.   iterations: corrections per level.
    """

    def __init__(self, features: int = 32, width: int = 48, depth: int = 3, iterations: int = 2):
        super().__init__()
        self.config: dict[str, Any] = {"features": features, "width": width, "depth": depth, "iterations": iterations}
        self.iterations = iterations
        self.quarter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, features, 3, padding=1),
                                     stack(features, depth, norm=True))
        self.eighth = nn.Sequential(nn.Conv2d(features, features, 4, stride=2, padding=1), stack(features, 1, norm=True))
        self.updates = nn.ModuleDict({"8": FlowUpdate(features, width, 4, 2), "4": FlowUpdate(features, width, 3, 2)})

    def describe(self, frames: Tensor) -> dict[str, Tensor]:
        """Features of frames (n, 3, h, w) in [-1, 1] on half the full grid, sides multiples of 4."""
        quarter = self.quarter(frames)
        return {"4": quarter, "8": self.eighth(quarter)}

    def forward(self, a: dict[str, Tensor], b: dict[str, Tensor], flow: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features of n pairs and first flows (n, 2, ., .) on any grid -> (flow, logit of validity) after each correction.

        Flows are (n, 2, h, w) float32 on 1/4 of the frame, in pixels of that grid. Coarse corrections are added to
        the flow, they never replace it: untrained, the result is the first flow.
        """
        results = []
        finest = a[str(LEVELS[-1])]
        size = (finest.shape[-2], finest.shape[-1])
        flow = resize_flow(flow.float(), size)
        logit = inside(flow) * 4 - 2
        for level in map(str, LEVELS):
            coarse = (a[level].shape[-2], a[level].shape[-1])
            for _ in range(self.iterations):
                flow = flow.detach()
                seen = logit if coarse == size else F.interpolate(logit, size=coarse, mode="area")
                change, doubt = self.updates[level](a[level], b[level], resize_flow(flow, coarse), seen)
                flow = flow + resize_flow(change, size)
                logit = logit + (doubt if coarse == size else F.interpolate(doubt, size=size, mode="bilinear"))
                results.append((flow, logit))
        return results


class RefinedFlow:
    """DIS and a `FlowRefiner` as a `FlowEstimator` that also says where its flow is valid."""

    def __init__(self, refiner: FlowRefiner):
        self.refiner = refiner

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.with_validity(a, b)[0]

    @torch.no_grad()
    def with_validity(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """a, b: (n, 3, h, w) in [-1, 1] -> flow a -> b (n, 2, h, w) in pixels, and its validity (n, 1, h, w) in [0, 1]."""
        first = dis_flow(a, b)
        group = max(1, POSITIONS * 4 // (a.shape[-2] * a.shape[-1]))
        parts = [self._one(*some) for some in zip(a.split(group), b.split(group), first.split(group), strict=True)]
        flow, valid = (torch.cat(x) for x in zip(*parts, strict=True))
        return flow, valid

    def _one(self, a: Tensor, b: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        h, w = a.shape[-2:]
        pad = (0, -w % 4, 0, -h % 4)  # right and below: positions stay what they are
        frames, first = F.pad(torch.cat([a, b]).float(), pad, mode="replicate"), F.pad(first, pad, mode="replicate")
        features = self.refiner.describe(frames)
        of_a, of_b = ({level: x.chunk(2)[side] for level, x in features.items()} for side in range(2))
        flow, logit = self.refiner(of_a, of_b, first)[-1]
        size = (frames.shape[-2], frames.shape[-1])
        flow = resize_flow(flow, size)[..., :h, :w]
        valid = F.interpolate(logit.sigmoid(), size=size, mode="bilinear")[..., :h, :w]
        return flow, valid * inside(flow)
