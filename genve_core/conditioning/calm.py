"""Flow that is freed of the codec's jitter. Ours, not the paper's.

A codec lets what it shows stand still, jump and drift by fractions of a pixel of the poor video, in every frame anew. Flow
between two poor frames finds that as well, and so the carried detail trembles and lies beside its place. True motion changes
little from frame to frame, so steps averaged over time at the same pixel are nearly free of it; along them each frame is
averaged with its neighbours, and flow is measured between those averages. That is done twice: first lightly, so that frames
settle, then widely. Where the wide averages find something else than jitter, which is small, the flow between settled frames
holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .flow import FlowConfig, FlowEstimator, dis_flow, key_frame_flow, neighbour_flow, reduce_frames
from .warp import compose, resize_flow, warp

SMOOTHED = 3  # steps on either side that a step is averaged with
AGREEMENT = 0.15  # between a frame and neighbours that it is averaged with, see `CalmFrames`
SETTLED_AGREEMENT = 0.06  # the same while frames settle: no other flow stands beside what is measured between those


def context(config: FlowConfig) -> int:
    """How many frames on either side a frame's flow depends on."""
    return sum(reach + SMOOTHED for reach in (config.settle, config.average) if reach and config.average)


def settled(read: Callable[[range], Tensor], count: int, config: FlowConfig) -> Callable[[range], Tensor]:
    """What reads frames that have been averaged once, with `FlowConfig.settle` on either side.

    They tremble less, so the steps along which they are averaged again are the truer. As `read`, but to be
    asked for forwards.
    """
    if not (config.settle and config.average):
        return read
    return CalmFrames(read, count, replace(config, average=config.settle), SETTLED_AGREEMENT).averaged


def calm_frames(read: Callable[[range], Tensor], count: int, config: FlowConfig) -> CalmFrames:
    """A shot's frames, settled, and averages of those.   read, count: as of `CalmFrames`."""
    return CalmFrames(settled(read, count, config), count, config)


class CalmFrames:
    """A shot's frames on the flow's grid, as they were read and averaged along the motion. To be asked for forwards."""

    def __init__(self, read: Callable[[range], Tensor], count: int, config: FlowConfig, agreement: float = AGREEMENT):
        """read: frames (k, 3, h, w) in [-1, 1] on that grid, by their numbers in 0 to `count`.

        agreement: in [-1, 1] units, neighbours that differ by more than about this are left out of an average.
        """
        self._read, self._count, self._config, self._agreement = read, count, config, agreement
        self._frames: dict[int, Tensor] = {}
        self._steps: dict[int, tuple[Tensor, Tensor]] = {}  # i -> flow i -> i + 1 and i + 1 -> i
        self._calm: dict[int, tuple[Tensor, Tensor]] = {}  # the same, averaged

    def frames(self, span: range) -> Tensor:
        """As they were read: (len(span), 3, h, w)."""
        self._hold(span)
        return torch.cat([self._frames[i] for i in span])

    def averaged(self, span: range) -> Tensor:
        """Each averaged with `FlowConfig.average` neighbours on either side, the nearer the more: the same shape."""
        reach, frames = self._config.average, self.frames(span)
        total, weights = frames * (reach + 1), torch.full_like(frames[:, :1], reach + 1)
        for direction in (1, -1):
            path = torch.zeros_like(frames[:, :2])
            for offset in range(1, reach + 1):
                away = direction * offset
                others = range(max(0, span.start + away), min(self._count, span.stop + away))
                if not others:
                    break
                rows = slice(others.start - away - span.start, others.stop - away - span.start)
                steps = [self._step(other - 1 if direction > 0 else other)[direction < 0] for other in others]
                path[rows] = compose(path[rows], torch.cat(steps))
                moved = warp(torch.cat([self._frames[other] for other in others]), path[rows])
                apart = (moved - frames[rows]).abs().mean(1, keepdim=True) / self._agreement
                weight = (reach + 1 - offset) * torch.exp(-apart.square())
                total[rows] += weight * moved
                weights[rows] += weight
        return total / weights

    def _hold(self, span: range) -> None:
        reach = self._config.average + SMOOTHED if self._config.average else 0
        wanted = range(max(0, span.start - reach), min(self._count, span.stop + reach))
        for kept in (self._frames, self._steps, self._calm):
            for i in [i for i in kept if i < wanted.start]:
                del kept[i]
        new = range(max([wanted.start, *(i + 1 for i in self._frames)]), wanted.stop)
        if new:
            self._frames |= {i: frame.unsqueeze(0) for i, frame in zip(new, self._read(new), strict=True)}
        if not reach:
            return
        pairs = [i for i in wanted[:-1] if i not in self._steps]
        if pairs:
            self._steps |= zip(pairs, self._measured(range(pairs[0], pairs[-1] + 2)), strict=True)

    def _measured(self, span: range) -> list[tuple[Tensor, Tensor]]:
        """Steps between frames in a row. To align for an average, half the grid is exact enough."""
        frames = torch.cat([self._frames[i] for i in span])
        steps = neighbour_flow(reduce_frames(frames, FlowConfig(reduce=2)), dis_flow)
        forward, backward = (resize_flow(flow, (frames.shape[-2], frames.shape[-1])) for flow in steps)
        return list(zip(forward[:-1].split(1), backward[1:].split(1), strict=True))

    def _step(self, pair: int) -> tuple[Tensor, Tensor]:
        """A step and its way back, averaged over time."""
        if pair not in self._calm:
            near = [self._steps[i] for i in range(pair - SMOOTHED, pair + SMOOTHED + 1) if i in self._steps]
            forward, backward = (self._trusted_mean(steps, plain)
                                 for steps, plain in zip(zip(*near, strict=True), self._steps[pair], strict=True))
            self._calm[pair] = forward, backward
        return self._calm[pair]

    def _trusted_mean(self, steps: Sequence[Tensor], plain: Tensor) -> Tensor:
        mean = torch.stack(list(steps)).mean(0)
        # where motion changes for good, frames aligned along its mean would lie beside each other
        return torch.lerp(plain, mean, trusted(mean, plain, self._config))


def trusted(calm: Tensor, plain: Tensor, config: FlowConfig) -> Tensor:
    """How far flow that was averaged is believed: 1 where it differs little from that which was not.

    calm, plain: (n, 2, h, w) in pixels of the reduced grid, flow or steps.   Returns (n, 1, h, w) in [0, 1].
    """
    apart = (calm - plain).square().sum(1, keepdim=True)
    return torch.exp(-apart / (config.most_jitter / config.reduce) ** 2)


def calm_key_flow(frames: Sequence[Tensor], key: Sequence[Tensor], config: FlowConfig, estimate: FlowEstimator,
                  skip: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """`key_frame_flow` between averages; where that is not trusted, between the settled frames.

    frames: (f, 3, h, w) and key: (3, h, w), on the reduced grid, each settled and averaged.
    """
    plain = key_frame_flow(frames[0], key[0], config, estimate, skip)
    if not config.average:
        return plain
    calm = key_frame_flow(frames[1], key[1], config, estimate, skip)
    share = trusted(calm[0], plain[0], config)
    flow, valid = (torch.lerp(b.float(), a.float(), share) for a, b in zip(calm, plain, strict=True))
    return flow, valid


def calm_neighbour_flow(forward: Tensor, backward: Tensor, config: FlowConfig) -> None:
    """Average the steps of `neighbour_flow`, (f, 2, h, w) each, over time, in place."""
    _calm_steps(forward, range(len(forward) - 1), config)
    _calm_steps(backward, range(1, len(backward)), config)


def _calm_steps(flow: Tensor, rows: Sequence[int], config: FlowConfig) -> None:
    """Average steps over time at each pixel, where that is trusted.   rows: those that hold a step; the others stay."""
    if not config.average:
        return
    before: deque[Tensor] = deque(maxlen=SMOOTHED)  # as they were
    for k, row in enumerate(rows):
        plain = flow[row : row + 1].clone()
        near = [*before, *(flow[i : i + 1] for i in rows[k : k + SMOOTHED + 1])]
        calm = torch.stack(near).mean(0)
        flow[row : row + 1] = torch.lerp(plain, calm, trusted(calm, plain, config))
        before.append(plain)
