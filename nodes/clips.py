"""What the nodes of the graph ask of an up-scaled clip: frames, size, key frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ..genve_core.clip import MULTIPLE, Clip
from ..genve_core.errors import InputError
from ..genve_core.video_codec import pad_to_multiple
from .convert import check_images, frames_of, from_unit

if TYPE_CHECKING:
    from .engine import HostModels

Value = TypeVar("Value")

CHOOSE = -1  # as a key frame: choose one
ONE_SHOT = "One shot, as IMAGE (frames) or VIDEO: any size from 8 px, any number of frames."
ALPHA_LEFT_OUT = "The transparency is left out here; Enhance Video (GenVE) keeps it."
DEHALO = ("For cameras that sharpen: how much of the light and dark rims beside edges is taken away before the frames are "
          "enlarged; 0 = none.")
SIDE = "Of the output, in pixels; 0 = by scale. With one side given, the other keeps the aspect."
ENLARGEMENT = "genve_enlargement"  # of a LATENT: by how much Upscale and Encode Video enlarged the frames
UNKNOWN = 4.0  # what frames of another origin are taken for: then n is what it says


@dataclass(frozen=True)
class UpscaledClip(Clip):
    """An up-scaled IMAGE as the clip that the steps work on: it has its own size already.

    `frames` is a view of the IMAGE, (f, 3, H, W) in [0, 1], converted part by part when a step asks: a converted copy
    would take as much memory as the IMAGE itself, in every node. Iterating gives frames (3, H, W) in [-1, 1].
    """

    enlarged: float = UNKNOWN  # by how much, before

    @property
    def enlargement(self) -> float:
        return self.enlarged

    def up(self, part: slice, device: torch.device) -> Tensor:
        # exact for what `Clip.up` made: its values lie on a grid that [0, 1] holds too
        return pad_to_multiple(from_unit(self.frames[part].to(device)), MULTIPLE)

    def __iter__(self) -> Iterator[Tensor]:
        return map(from_unit, self.frames)


def upscaled_clip(images: Any, name: str = "images", z: Any = None) -> UpscaledClip:
    """An up-scaled IMAGE as a clip, its alpha left out. Raises InputError for what is no IMAGE, or empty.

    z: its LATENT, which knows by how much it was enlarged.
    """
    check_images(images, name)
    enlarged = z.get(ENLARGEMENT, UNKNOWN) if isinstance(z, dict) else UNKNOWN
    return UpscaledClip(images[..., :3].movedim(-1, 1), (images.shape[1], images.shape[2]), enlarged=enlarged)


def wanted_size(h: int, w: int, scale: float, width: int, height: int) -> tuple[int, int]:
    """(h, w) in pixels for a video of h x w: by `scale`, or as `width` and `height` say; of one of them the other follows.

    width, height: 0 = not given.   Raises InputError out of range.
    """
    from ..genve_core.settings import EnhanceConfig

    if not width and not height:
        return EnhanceConfig(scale=scale).output_size(h, w)
    return EnhanceConfig(size=(height or round(h * width / w), width or round(w * height / h))).output_size(h, w)


def key_frame_of(key_frame: int, frames: Tensor | UpscaledClip) -> int:
    """The frame that a key frame input means; CHOOSE looks for a sharp, central one of `frames` ((f, 3, h, w) in [-1, 1]).

    Raises InputError if the clip has no such frame.
    """
    from ..genve_core.reference.key_frame import check_key_frame, choose_key_frame

    return choose_key_frame(frames) if key_frame == CHOOSE else check_key_frame(key_frame, len(frames))


def channels_of(models: HostModels) -> int:
    """Channels of the latents that a bundle works with."""
    return int(models.bundle["vae"].latent_channels)  # type: ignore[arg-type]


def check_shows(models: HostModels, Z: Tensor, clip: Clip, i: int, name: str) -> None:
    """Raise InputError if Z (1, f, c, h, w) does not show frame `i` of the clip, whose shape it has."""
    from ..genve_core.likeness import ENOUGH, likeness

    found = likeness(models, clip, Z, i)
    if found < ENOUGH:
        raise InputError(f"Z does not show {name}: its latents of frame {i} are like that frame by {found:.2f} of 1, wanted "
                         f"{ENOUGH} or more; they are of another clip or another VAE, wire Z of its Upscale and Encode Video")


def one_picture(image: Any, name: str) -> Tensor:
    """A reference IMAGE as `fit_reference` takes it: (3, h, w), or (4, h, w) with alpha last, in [-1, 1].

    Raises InputError for more than one picture: only one can show the key frame.
    """
    frames, alpha = frames_of(image, name)
    if len(frames) > 1:
        raise InputError(f"{name} holds {len(frames)} pictures, wanted one, of the key frame; pick it with Image From Batch")
    return frames[0] if alpha is None else torch.cat([frames[0], alpha * 2 - 1])


def moved(value: Value, device: torch.device) -> Value:
    """What the steps return, or want, with every tensor in it on `device`: a dataclass, or a tuple or dict of such."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(part, device) for key, part in value.items()}  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(moved(part, device) for part in value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: moved(getattr(value, part.name), device) for part in fields(value)})
    return value


def kept(value: Value) -> Value:
    """The same on the host's device for what lies on wires: the accelerator's memory is for what is being computed."""
    import comfy.model_management as management

    return moved(value, management.intermediate_device())
