"""Reading one picture file into a tensor, whatever its mode, rotation or depth."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from ..errors import InputError

VIDEO_SIGNATURES = (
    (4, b"ftyp"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV"),
    (0, b"\x00\x00\x01\xba"),
)
STILL_BRANDS = (b"heic", b"heix", b"mif1", b"avif")  # pictures in the container that .mp4 uses too


def read_picture(path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
    """Read the first picture of a file, turned upright, in sRGB.

    Returns ((3, h, w), or (4, h, w) where it has alpha, float32 in [-1, 1]; notes for the user). 16-bit grey
    keeps its depth. Raises InputError for a file that is missing, unreadable, damaged, a video, or not a
    picture.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"reference {path} is not a file; give the path of a picture (PNG, JPEG, WebP, TIFF)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large or slightly odd pictures are read all the same
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)  # reads the pixels, so damage shows here
                return _to_tensor(upright, image.info.get("icc_profile")), _notes(image, path)
    except Image.UnidentifiedImageError:
        raise InputError(
            f"reference {path} is {_what(path)}; give one picture (PNG, JPEG, WebP, TIFF)"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            f"reference {path} has too many pixels; give a picture of at most 100 megapixels"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"reference {path} cannot be read ({error}); save it again as PNG") from error


def _notes(image: Image.Image, path: Path) -> tuple[str, ...]:
    if image.format in ("GIF", "PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        return (f"reference {path.name} is animated: its first frame is used",)
    return ()


def _what(path: Path) -> str:
    """Words for a file that is no picture."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "empty"
    is_video = any(head[at : at + len(mark)] == mark for at, mark in VIDEO_SIGNATURES)
    return "a video" if is_video and head[8:12] not in STILL_BRANDS else "not a picture that can be read"


def _to_tensor(image: Image.Image, profile: bytes | None) -> Tensor:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    alpha = image.convert("RGBA").getchannel("A") if has_alpha else None
    rgb = _to_srgb(image, profile)
    if alpha is not None:
        rgb.putalpha(alpha)
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    return pixels.float() / 127.5 - 1


def _deep_grey(image: Image.Image) -> Tensor:
    """16-bit grey (Pillow holds it in 16 or 32 bits) and float grey, whose white is taken to be 1."""
    white = 1.0 if image.mode == "F" else 65535.0
    grey = torch.from_numpy(np.array(image).astype(np.float32)) / white
    return (grey * 2 - 1).clamp(-1, 1).expand(3, -1, -1).clone()


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded colour profile where there is a usable one: phones write Display P3."""
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        source = image.convert("RGB") if image.mode == "RGBA" else image
        try:
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(source, io.BytesIO(profile), target, outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that is damaged, or for another mode, must not cost the user the picture
    return image.convert("RGBA").convert("RGB")
