"""What travels through the pipeline: a clip, its motion, its references, and the guidance made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .errors import InputError
from .video_codec import pad_to_multiple, upsample

MULTIPLE = 32  # px: three halvings by the VAE, two by the UNet
GRID = 2.0**20


def on_grid(frames: Tensor) -> Tensor:
    """Values in [-1, 1] as multiples of 1 / `GRID`, which survive the way to [0, 1] and back: a graph, where frames travel as
    images in [0, 1], computes with the very same numbers."""
    return (frames * GRID).round() / GRID


@dataclass(frozen=True)
class Clip:
    """Frames at their own size and the size they are wanted at. Raises InputError for frames that cannot be used.

    A clip may be a part of its shot: then its frames are counted from `first`, and key frames that may lie elsewhere in the
    shot are brought along.
    """

    frames: Tensor  # (f, 3, h, w) poor frames in [-1, 1], f >= 1
    size: tuple[int, int]  # (h, w) in pixels
    first: int = 0  # number in the shot of the first of them
    elsewhere: Mapping[int, Tensor] = field(default_factory=dict)  # number in the shot -> poor frame (3, h, w)

    def __post_init__(self) -> None:
        frames = self.frames
        if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
            raise InputError(f"video must be (f, 3, h, w) with at least one frame, got {tuple(frames.shape)}")
        if min(frames.shape[-2:]) < 8:
            raise InputError(f"video is {frames.shape[-1]}x{frames.shape[-2]} px, but needs 8 px a side or more")
        if not torch.isfinite(frames.sum()):  # what is not finite stays so in a sum, which is taken in one pass
            raise InputError("video holds NaN or infinity; wanted values in [-1, 1]")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def enlargement(self) -> float:
        """Of width and height, the mean of both."""
        return (self.size[0] * self.size[1] / (self.frames.shape[-2] * self.frames.shape[-1])) ** 0.5

    def part(self, rows: slice) -> Clip:
        """Some of its frames as a clip of the same shot; of its key frames those that are `elsewhere` come along."""
        return replace(self, frames=self.frames[rows], first=self.first + rows.indices(len(self))[0])

    def up(self, part: slice, device: torch.device) -> Tensor:
        """Up-sampled frames (k, 3, H, W), padded to whole latent blocks; made when needed, never kept.

        Their values are `on_grid`.
        """
        video = upsample(self.frames[part].to(device).float().unsqueeze(0), self.size)
        return pad_to_multiple(on_grid(video), MULTIPLE)[0]

    def up_at(self, number: int, device: torch.device) -> Tensor:
        """The same of one frame, by its number in the shot: (1, 3, H, W)."""
        if number in self.elsewhere:
            return Clip(self.elsewhere[number].unsqueeze(0), self.size).up(slice(0, 1), device)
        i = number - self.first
        return self.up(slice(i, i + 1), device)


@dataclass(frozen=True)
class ClipFlow:
    """Optical flow of a clip on a reduced grid: (f, 2, h/2, w/2) in pixels of that grid."""

    forward: Tensor  # to the next frame, zero at the end
    backward: Tensor  # to the previous frame, zero at the beginning
    to_key: dict[int, Tensor] = field(default_factory=dict)  # key frame -> flow of every frame to it
    valid: dict[int, Tensor] = field(default_factory=dict)  # key frame -> (f, 1, h/2, w/2), 1 where there is a source
    first: int = 0  # as the clip's: key frames are counted in the shot

    def part(self, rows: slice) -> ClipFlow:
        """Some of its frames' flow, in memory of its own."""
        start = rows.indices(len(self.forward))[0]
        return ClipFlow(self.forward[rows], self.backward[rows], {key: x[rows].clone() for key, x in self.to_key.items()},
                        {key: x[rows].clone() for key, x in self.valid.items()}, self.first + start)

    def numbers(self, part: slice = slice(None)) -> range:
        """The frames' numbers in the shot."""
        return range(self.first, self.first + len(self.forward))[part]


@dataclass(frozen=True)
class Reference:
    """An image reference of one key frame, on the padded grid."""

    key: int  # number in the shot of the frame it depicts
    image: Tensor  # (3, H, W) in [-1, 1]
    y: Tensor  # (c, H/8, W/8)
    valid: Tensor  # (1, H, W), 0 where a user's image does not reach
    notes: tuple[str, ...] = ()  # what the user should know
    calm: Tensor | None = None  # (2, 3, H/2, W/2) the poor key frame as flow wants it, where the clip is a part of its shot
    own: bool = False  # made from the poor key frame: its picture is shown only to frames that are less sharp
    lower: Reference | None = None  # the same at the lower level of a clip that has one, see `pyramid`


@dataclass(frozen=True)
class Guidance:
    """What the video controller needs besides Z_t and t, and when it acts."""

    e: Tensor  # (1, f, dim, h', w') from `steps.match`
    n: int  # noise level of the conditions
    start: float = 0.0  # share of the steps from which on it acts
    end: float = 1.0  # and up to which

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise InputError(f"guidance needs 0 <= start <= end <= 1, got {self.start} and {self.end}")

    def acts(self, step: int, steps: int) -> bool:
        """Whether it acts in step `step` of `steps`, counted from 0."""
        return self.start <= step / steps < self.end


def check_keys(references: Sequence[Reference], flow: ClipFlow) -> None:
    """Raise InputError if the flow was not measured to a reference's key frame."""
    for reference in references:
        if reference.key not in flow.to_key:
            have = ", ".join(map(str, flow.to_key)) or "none"
            raise InputError(f"the reference depicts frame {reference.key}, but the flow leads to key frame {have}; "
                             f"use one key frame for both")
