"""What a video is, before it is read: size, times, pixel format, colour."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from . import pixels, source
from .hdr import LightData, light_data, needs_conversion

MATRIX = {  # codes of ITU-T H.273; where two mean the same, the first is written
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020",
    10: "bt2020",
}
TRANSFER = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "bt601",
    8: "linear",
    13: "srgb",
    14: "bt2020",
    15: "bt2020",
}
TRANSFER |= {16: "pq", 18: "hlg"}
PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 12: "display-p3"}
Hdr = Literal["tone-map", "keep"]  # what the reader does with HDR and wide-gamut values
_STILL_CODECS = ("png", "mjpeg", "webp", "bmp", "tiff", "gif", "apng", "jpegls", "targa")


_NO_TIME = -(2**63)  # sorts before every time
_DEFAULT_COLOUR = pixels.Colour()
_NO_LIGHT_DATA = LightData()


@dataclass(frozen=True)
class VideoInfo:
    """One video file, single image or folder of images. Sizes are of the upright picture, after rotation."""

    path: Path
    width: int
    height: int
    frames: int | None
    """Frames counted in the file without decoding them; None if it cannot be known before decoding."""
    rate: Fraction
    """Mean frames per second; 25 where the file gives none."""
    duration: Fraction
    """Seconds from the first frame's begin to the last one's end."""
    time_base: Fraction
    """Seconds that every frame time is a multiple of."""
    variable_rate: bool
    codec: str
    pixel_format: str
    bit_depth: int
    rotation: int = 0
    """Clockwise degrees (0, 90, 180, 270) by which the reader turns the stored pictures."""
    mirrored: bool = False
    """True if stored pictures are flipped left-right before they are turned."""
    colour: pixels.Colour = _DEFAULT_COLOUR
    has_alpha: bool = False
    has_audio: bool = False
    interlaced: bool = False
    """True if the first picture is flagged so; the reader deinterlaces."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height, upright. 1 for nearly every video."""
    light: LightData = _NO_LIGHT_DATA
    hdr: Hdr = "tone-map"
    """What the reader makes of HDR and wide-gamut values: SDR BT.709, or nothing, so that they can be written as they are."""

    @property
    def is_stills(self) -> bool:
        """True for a folder of images and for a single image: no times, no sound."""
        return source.is_stills(self.path)

    @property
    def is_hdr(self) -> bool:
        return self.colour.transfer in ("pq", "hlg")

    @property
    def is_wide(self) -> bool:
        """True if frames are HDR or of a wide gamut, and not made SDR BT.709."""
        return self.hdr == "keep" and needs_conversion(self.colour.transfer, self.colour.primaries)

    @property
    def is_deep(self) -> bool:
        """True if frames need more than 8 bits."""
        return self.bit_depth > 8 or self.is_wide


def probe(path: str | Path, rate: Fraction | int | None = None, hdr: Hdr = "tone-map") -> VideoInfo:
    """Look at a video file or a folder of images: its packets are counted, its first picture is decoded.

    rate: frames per second where the input has no times of its own (folders, raw streams); 25 if None.
    Raises InputError if the path is missing, empty, not a video, has no picture, or is a folder whose images
    differ in size.
    """
    path = Path(path)
    if rate is not None and rate <= 0:
        raise InputError(f"rate must be above 0 frames per second, got {rate}")
    given = None if rate is None else Fraction(rate).limit_denominator(100_000)
    info = _probe_stills(path, given) if source.is_stills(path) else _probe_file(path, given)
    return replace(info, hdr=hdr)


def _probe_stills(path: Path, rate: Fraction | None) -> VideoInfo:
    files = source.image_files(path)
    frame, context = source.decoded_image(files[0])
    rate = rate or source.DEFAULT_RATE
    return replace(
        _first_look(path, frame, context),
        frames=len(files), rate=rate, duration=len(files) / rate, time_base=1 / rate, interlaced=False,
    )  # fmt: skip


def _probe_file(path: Path, rate: Fraction | None) -> VideoInfo:
    first = next(source.decoded_video(path, _ignore), None)
    if first is None:
        raise InputError(
            f"{path} holds no picture that can be decoded (0 frames); it may be cut short, copy it again"
        )
    with source.open_video(path) as container:
        stream = source.video_stream(container)
        info = _first_look(path, first[0], stream.codec_context)
        packets = source.packets(container, stream, path, _ignore)
        spans = sorted(
            (_NO_TIME if p.pts is None else p.pts, p.duration or 0) for p in packets if not p.is_discard
        )
        timed = bool(spans) and spans[0][0] > _NO_TIME
        own_rate = source.rate_of(stream)
        rate = (own_rate or rate if timed else rate or own_rate) or source.DEFAULT_RATE
        # PyAV 19 has rationals of its own; where nothing is set, 0 in the place of None
        time_base = Fraction(stream.time_base or 1 / rate)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        has_audio = bool(container.streams.audio)
    stamps = [start for start, _ in spans]
    duration = len(spans) / rate
    if timed:
        duration = (stamps[-1] - stamps[0]) * time_base + (spans[-1][1] * time_base or 1 / rate)
    return replace(
        info,
        frames=len(spans) or None, rate=rate, duration=duration, has_audio=has_audio,
        time_base=time_base if timed else 1 / rate,
        variable_rate=timed and _varies(stamps, time_base, rate),
        pixel_aspect=1 / aspect if info.rotation in (90, 270) else aspect,
    )  # fmt: skip


def _ignore(text: str) -> None:
    """Notes of the first look; the reader repeats what is worth saying."""


def _first_look(path: Path, frame: Any, context: Any) -> VideoInfo:
    rotation, mirrored = source.orientation(frame)
    w, h = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
    return VideoInfo(
        path=path, width=w, height=h, frames=1, rate=source.DEFAULT_RATE, duration=Fraction(0),
        time_base=1 / source.DEFAULT_RATE, variable_rate=False, codec=context.name,
        pixel_format=frame.format.name,
        bit_depth=max(8, *(c.bits for c in frame.format.components)), rotation=rotation, mirrored=mirrored,
        colour=colour_of(frame, context), has_alpha=pixels.has_alpha(frame),
        interlaced=bool(frame.interlaced_frame), light=light_data(frame),
    )  # fmt: skip


def colour_of(frame: Any, context: Any) -> pixels.Colour:
    """The file's tags; what it leaves open as players guess it: BT.601 below 720 lines and in stills, else
    BT.709.
    """
    fmt = frame.format
    still = context.name in _STILL_CODECS
    transfer = TRANSFER.get(context.color_trc, "bt709")
    primaries = PRIMARIES.get(context.color_primaries, "bt709")
    guess = (
        "bt2020"
        if primaries == "bt2020"
        else "bt709"
        if max(frame.width, frame.height * 16 / 9) >= 1280
        else "bt601"
    )
    matrix = MATRIX.get(frame.colorspace, "bt601" if still else guess)
    if fmt.is_rgb or fmt.has_palette:
        matrix = "rgb"
    elif matrix == "rgb":
        matrix = guess  # a wrong tag: the samples are YUV
    # Code 1 is limited, 2 full. Without a tag, RGB and stills are full, video is limited.
    full = frame.color_range == 2 or fmt.name.startswith("yuvj")
    full |= frame.color_range != 1 and (matrix == "rgb" or still)
    siting = "centre" if context.name == "mjpeg" else "topleft" if transfer in ("pq", "hlg") else "left"
    return pixels.Colour(matrix, "full" if full else "limited", transfer, primaries, siting)


def _varies(stamps: list[int], time_base: Fraction, rate: Fraction) -> bool:
    """True if frames are not evenly spaced, beyond the rounding of containers that count milliseconds."""
    gaps = [b - a for a, b in pairwise(stamps)]
    if not gaps:
        return False
    slack = max(2, float(Fraction(1, 500) / time_base)) if time_base else 2
    return max(gaps) - min(gaps) > slack
