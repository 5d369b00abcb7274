"""ComfyUI's IMAGE, VIDEO and LATENT <-> the tensors of `genve_core`, checked at this border and nowhere else.

IMAGE: (f, h, w, 3 or 4) in [0, 1].   frames: (f, 3, h, w) in [-1, 1].   LATENT: {"samples": (f, c, h/8, w/8)}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..genve_core.clip import MULTIPLE
from ..genve_core.errors import InputError
from ..genve_core.video_codec import padded_size, upsample
from .run import to_host
from .sockets import kind_of

if TYPE_CHECKING:
    from ..genve_core.media import VideoInfo

RATE = Fraction(25)  # frames per second of an IMAGE, which has none; the command line takes it for folders of images
NEAR = 1e-4  # an IMAGE this close to n/255 everywhere came from 8-bit pictures


@dataclass(frozen=True)
class Video:
    """What a node reads from an IMAGE or VIDEO input."""

    frames: Tensor  # (f, 3, h, w) in [-1, 1], f >= 1
    alpha: Tensor | None = None  # (f, h, w) in [0, 1]; the networks know nothing of it
    rate: Fraction | None = None  # frames per second; None for an IMAGE, which has none
    audio: dict[str, Any] | None = None  # ComfyUI's AUDIO
    notes: tuple[str, ...] = ()  # what the user should know of the file


def frames_of(images: Any, name: str = "images") -> tuple[Tensor, Tensor | None]:
    """An IMAGE as frames (f, 3, h, w) in [-1, 1], and its alpha (f, h, w) or None.

    Pictures of 8 bit give exactly what `genve_core.media` reads from their file, whatever rounding they met on the
    way; all others are only moved to [-1, 1]. Raises InputError for what is no IMAGE, or empty.
    """
    check_images(images, name)
    rgb = images[..., :3].movedim(-1, 1).float().contiguous()  # in memory as the reader's: equal sums to the bit
    frames = _from_bytes(rgb)
    alpha = images[..., 3].float().clamp(0, 1) if images.shape[3] == 4 else None
    return from_unit(rgb) if frames is None else frames, alpha


def from_unit(rgb: Tensor) -> Tensor:
    """Values in [0, 1] as genve_core's in [-1, 1]: a new tensor, float32, laid out as its own frames are."""
    return rgb.float().contiguous().mul(2).sub_(1)


def check_images(images: Any, name: str) -> None:
    """Raise InputError for what is no IMAGE, or empty."""
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise InputError(f"{name} is {kind_of(images)}, wanted an IMAGE (frames, height, width, 3); "
                         f"wire an IMAGE output to it")
    if 0 in images.shape:
        raise InputError(f"{name} holds {len(images)} frames of {images.shape[2]}x{images.shape[1]} px, wanted at least "
                         f"one; check the node that loads them")
    if images.shape[3] not in (3, 4):
        raise InputError(f"{name} has {images.shape[3]} channels, wanted 3 (RGB) or 4 (RGBA); convert it to RGB first")


def _from_bytes(rgb: Tensor) -> Tensor | None:
    """8-bit values (f, 3, h, w) in [0, 1] as the reader gives them: n / 127.5 - 1. None if one is not of 8 bit."""
    frames = torch.empty_like(rgb)
    for i, picture in enumerate(rgb):
        values = (picture * 255).round()
        if not bool(((values / 255 - picture).abs() <= NEAR).all()):
            return None
        frames[i] = values / 127.5 - 1
    return frames


def images_of(frames: Tensor, alpha: Tensor | None = None) -> Tensor:
    """Frames (f, 3, h, w) in [-1, 1] as an IMAGE on the host's device for intermediates.

    alpha: (f, h', w') in [0, 1], put back as a fourth channel, resized where the frames were.
    """
    images = ((frames.clamp(-1, 1) + 1) / 2).movedim(1, -1)
    if alpha is not None:
        size = (frames.shape[-2], frames.shape[-1])
        opacity = upsample(alpha[None, :, None].to(images), size, clamp=False)[0, :, 0].clamp(0, 1)
        images = torch.cat([images, opacity.unsqueeze(-1)], dim=-1)
    return to_host(images.contiguous())


def read_video(value: Any, name: str = "video", on_frame: Callable[[int, int], None] | None = None) -> Video:
    """The frames of an IMAGE or VIDEO input, with rate and sound where it has them.

    The file behind a VIDEO is read as `genve enhance` reads it, so both compute with the same numbers; a VIDEO that is
    trimmed, cropped or made in the graph is taken as the host gives it.
    on_frame: called with (frames read, frames in all or 0).   Raises InputError if there is nothing to read.
    """
    if isinstance(value, Tensor):
        frames, alpha = frames_of(value, name)
        return Video(frames, alpha)
    if not hasattr(value, "get_components"):
        raise InputError(f"{name} is {kind_of(value)}, wanted an IMAGE or a VIDEO; wire Load Video or Load Image to it")
    path = file_behind(value)
    if path is not None:
        return _read_file(path, on_frame)
    parts = value.get_components()
    frames, alpha = frames_of(parts.images, name)
    return Video(frames, alpha, Fraction(parts.frame_rate), parts.audio)


def video_of(images: Tensor, audio: Any, rate: Fraction | None) -> Any:
    """A VIDEO in memory of an IMAGE, whose alpha it cannot hold.   rate: frames per second, None = `RATE`."""
    from comfy_api.latest import InputImpl, Types

    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images[..., :3], audio=audio, frame_rate=rate or RATE))


def file_behind(video: Any) -> Path | None:
    """The file that a VIDEO is, all of it; None for a part of a file, and for what was made in the graph."""
    from comfy_api.latest import InputImpl

    from ..genve_core.media import probe

    if not isinstance(video, InputImpl.VideoFromFile):
        return None
    source = video.get_stream_source()
    if not isinstance(source, str):
        return None
    if hasattr(video, "get_active_trim_window") and video.get_active_trim_window() != (0, 0):  # newer hosts
        return None
    info = probe(source)
    w, h = video.get_dimensions()  # before rotation; a newer host gives those of the crop
    return Path(source) if sorted((w, h)) == sorted((info.width, info.height)) else None


def _read_file(path: Path, on_frame: Callable[[int, int], None] | None) -> Video:
    from ..genve_core.media import VideoReader

    rgb, alpha = [], []
    with VideoReader(path) as video:
        for frame in video:
            rgb.append(frame.rgb)
            alpha.append(frame.alpha)
            if on_frame is not None:
                on_frame(len(rgb), max(video.info.frames or 0, len(rgb)))
        info, notes = video.info, tuple(video.notes)
    if not rgb:
        raise InputError(f"{path} holds no frame that can be decoded; it may be cut short, copy it again")
    opacity = torch.stack(alpha) if alpha[0] is not None else None  # type: ignore[arg-type]
    return Video(torch.stack(rgb), opacity, info.rate, sound_of(path, info), notes)


def sound_of(path: Path, info: VideoInfo) -> dict[str, Any] | None:
    """ComfyUI's AUDIO of a video file; None if it has no sound."""
    from ..genve_core.media.audio import decode_audio

    sound = decode_audio(path) if info.has_audio else None
    return None if sound is None else {"waveform": sound[0].unsqueeze(0), "sample_rate": sound[1]}


def latents_of(latent: Any, channels: int, name: str = "latent") -> Tensor:
    """A LATENT as Z (1, f, c, h, w), float32.   channels: of the bundle's VAE.

    Raises InputError for latents that another VAE made, as far as it shows: other channels, a time axis (ours works
    frame by frame), values that are not finite.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not isinstance(samples, Tensor):
        raise InputError(f"{name} is {kind_of(latent)}, wanted a LATENT; wire the latent of Upscale and Encode Video to it")
    if samples.ndim != 4 or getattr(samples, "is_nested", False):
        raise InputError(f"{name} has {samples.ndim} axes, {tuple(samples.shape)}, wanted (frames, {channels}, height, width): "
                         f"these are latents of another VAE; encode the frames with the bundle's VAE")
    if samples.shape[1] != channels:
        raise InputError(f"{name} has {samples.shape[1]} channels, the bundle's VAE has {channels}: these are latents of "
                         f"another VAE; encode the frames with the bundle's VAE")
    if 0 in samples.shape:
        raise InputError(f"{name} is empty, {tuple(samples.shape)}, wanted at least one frame; check the node that makes it")
    if not bool(torch.isfinite(samples).all()):
        raise InputError(f"{name} holds NaN or infinity; check the node that makes it")
    return samples.float().unsqueeze(0)


def latent_of(Z: Tensor, **known: Any) -> dict[str, Any]:
    """Z (1, f, c, h, w) as a LATENT; `known` are further keys that travel with it."""
    return {"samples": to_host(Z[0]), **known}


def check_same_clip(Z: Tensor, images: Tensor, names: tuple[str, str] = ("latent", "up-scaled images")) -> None:
    """Raise InputError unless Z (1, f, c, h, w) can be the latents of the up-scaled IMAGE (f, H, W, 3)."""
    frames, (h, w) = len(images), (side // 8 for side in padded_size(images.shape[1:3], MULTIPLE))
    if (Z.shape[1], *Z.shape[-2:]) != (frames, h, w):
        raise InputError(f"{names[0]} has {Z.shape[1]} frames of {Z.shape[-1]}x{Z.shape[-2]} latents, {names[1]} {frames} "
                         f"frames of {w}x{h}: they are of different clips; wire both from one Upscale and Encode Video")
