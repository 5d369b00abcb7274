"""Optical flow of the poor input (paper, section 3.3): key frame <-> every frame, and frame <-> next frame.

Flow is estimated once on whole up-sampled frames. An up-sampled frame holds no detail finer than the input,
so estimation runs on frames reduced by `FlowConfig.reduce`: cheaper, on three validation clips about as exact
(34.5, 29.9, 30.6 dB for the carried good frame against 34.0, 30.3, 30.5) and steadier on each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..media.colour import grey_levels
from .warp import inside, warp

# A flow estimator: two videos (n, 3, h, w) in [-1, 1] -> flow a -> b, (n, 2, h, w) in pixels of that grid.
FlowEstimator = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FlowConfig:
    """How motion is estimated."""

    estimator: Literal["auto", "dis", "raft"] = "auto"  # auto: what the bundle carries, DIS where it carries none
    reduce: int = 2  # frames are area-reduced by this factor before estimation
    # forward-backward check: |f+b|^2 < relative (|f|^2+|b|^2) + absolute, in squared pixels of the full-size frame.
    # Four times the usual 0.01 and 0.5: flow between poor frames is noisy, and the decoder weighs what passes.
    relative_tolerance: float = 0.04
    absolute_tolerance: float = 2.0
    # against the codec's jitter, see `calm`: frames on either side that a frame is averaged with, 0 = none; about the most
    # that jitter moves anything, in pixels of the full-size frame; and frames on either side in the first, lighter average
    average: int = 3
    most_jitter: float = 1.4
    settle: int = 1

    def __post_init__(self) -> None:
        if self.estimator not in ("auto", "dis", "raft"):
            raise InputError(f"flow estimator must be 'auto', 'dis' or 'raft', got {self.estimator!r}")
        if self.reduce < 1:
            raise InputError(f"flow reduce must be 1 or more, got {self.reduce}")
        if min(self.average, self.settle) < 0 or self.most_jitter <= 0:
            raise InputError(f"flow average and settle must be 0 or more and most_jitter above 0, "
                             f"got {self.average}, {self.settle} and {self.most_jitter}")


def to_grey(frames: Tensor) -> np.ndarray:
    """RGB frames (n, 3, h, w) in [-1, 1] -> uint8 luma (n, h, w), as OpenCV's flow wants it."""
    return grey_levels(frames).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def dis_flow(a: Tensor, b: Tensor) -> Tensor:
    """OpenCV's dense inverse search (medium preset) for each pair of frames: a `FlowEstimator`."""
    import cv2

    grey_a, grey_b = to_grey(a), to_grey(b)
    # DIS needs room for its coarsest patch grid; mirrored borders keep the estimate at the edge sane
    pad = [max(0, 32 - side) for side in grey_a.shape[1:]]

    def one(i: int) -> np.ndarray:
        # one for each pair: it is not safe to share between threads
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
        pair = [np.pad(g[i], ((0, pad[0]), (0, pad[1])), mode="symmetric") for g in (grey_a, grey_b)]
        return dis.calc(pair[0], pair[1], None)[: grey_a.shape[1], : grey_a.shape[2]]

    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        flows = list(pool.map(one, range(len(grey_a))))
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(a.device)


def flow_estimator(config: FlowConfig, module: nn.Module | None = None) -> FlowEstimator:
    """The estimator that `config` names; `module` is a bundle's component `flow` with its weights, or RAFT (`load_raft`).

    Raises InputError if RAFT is asked for without weights.
    """
    if config.estimator == "dis" or (config.estimator == "auto" and module is None):
        return dis_flow
    from .refine import FlowRefiner, RefinedFlow

    if config.estimator == "auto" and isinstance(module, FlowRefiner):
        return RefinedFlow(module)
    if module is None or isinstance(module, FlowRefiner):
        raise InputError("the flow estimator raft has no weights: this bundle has no RAFT as its component flow; "
                         "train it with `genve train flow`, or use the estimator auto")
    from .raft import raft_flow

    return raft_flow(module)


def reduce_frames(frames: Tensor, config: FlowConfig) -> Tensor:
    """Area-reduce frames (n, 3, h, w) to the grid on which flow is estimated (never below 8 pixels a side)."""
    h, w = frames.shape[-2:]
    size = (max(8, round(h / config.reduce)), max(8, round(w / config.reduce)))
    return frames if size == (h, w) else F.interpolate(frames.float(), size=size, mode="area")


def consistent(a_to_b: Tensor, b_to_a: Tensor, config: FlowConfig) -> Tensor:
    """Forward-backward check of flow a -> b on a's grid: 1 where there is a source in b, else 0, (n, 1, h, w)."""
    back = warp(b_to_a, a_to_b)
    mismatch = (a_to_b + back).square().sum(1, keepdim=True)
    length = a_to_b.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    tolerance = config.relative_tolerance * length + config.absolute_tolerance / config.reduce**2
    return (mismatch < tolerance).to(a_to_b.dtype) * inside(a_to_b)


def flow_with_validity(a: Tensor, b: Tensor, config: FlowConfig, estimate: FlowEstimator) -> tuple[Tensor, Tensor]:
    """Flow a -> b and its validity, both on the reduced grid.

    a, b: (n, 3, h, w) in [-1, 1], up-sampled frames already reduced by `reduce_frames`.
    Returns flow (n, 2, h, w) in pixels of that grid and valid (n, 1, h, w) in [0, 1]: an estimator that judges itself
    (`with_validity`) says so, any other is held against the flow b -> a.
    """
    judged = getattr(estimate, "with_validity", None)
    if judged is not None:
        return judged(a, b)
    both = estimate(torch.cat([a, b]), torch.cat([b, a]))
    a_to_b, b_to_a = both.split(len(a))
    return a_to_b, consistent(a_to_b, b_to_a, config)


def key_frame_flow(
    frames: Tensor, key: Tensor, config: FlowConfig, estimate: FlowEstimator, skip: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Flow of every frame to the key frame, estimated directly, so that no drift adds up.

    frames: (f, 3, h, w) and key: (3, h, w), both reduced.   skip: positions of the key frame itself.
    Returns flow (f, 2, h, w) frame -> key frame, valid (f, 1, h, w) in [0, 1]; zero flow and 1 at `skip`.
    """
    flow, valid = flow_with_validity(frames, key.expand_as(frames), config, estimate)
    for i in skip:
        flow[i], valid[i] = 0.0, 1.0
    return flow, valid


def neighbour_flow(frames: Tensor, estimate: FlowEstimator) -> tuple[Tensor, Tensor]:
    """Flow of every frame to the next and to the previous one: two tensors (f, 2, h, w); zero at the ends."""
    zero = torch.zeros(1, 2, *frames.shape[-2:], device=frames.device)
    if len(frames) < 2:
        return zero, zero.clone()
    a, b = frames[:-1], frames[1:]
    forward, backward = estimate(torch.cat([a, b]), torch.cat([b, a])).split(len(a))
    return torch.cat([forward, zero]), torch.cat([zero, backward])
