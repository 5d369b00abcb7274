"""Where pictures come from: a video file or a folder of images, as a stream of decoded pictures with their
times.

Private to the media layer; `reader` and `info` stand on it.
"""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".264", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv",
                  ".flv", ".3gp", ".vob", ".ogv", ".mxf", ".dv", ".gif")  # taken from a folder; by name, any file
DEFAULT_RATE = Fraction(25)
_NOT_VIDEO = ("ansi", "bintext", "xbin", "idf")  # FFmpeg draws text files as pictures
_REMEDY = "give a video file (.mp4, .mov, .mkv, .webm, .avi ...) or a folder of images"

Note = Callable[[str], None]


def open_file(file: Any) -> "InputContainer":
    """av.open, for reading; also where titles are not UTF-8, as those of old cameras."""
    import av

    # without it, PyAV up to 18 would refuse the whole file; 19 has no such choice, and keeps the odd bytes as surrogates
    choice: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    container: Any = av.open(file, "r", **choice)
    return container


def open_video(path: Path) -> "InputContainer":
    """Open a video file, or a single image. Raises InputError if it is missing, empty, unreadable or not a
    video.
    """
    import av.error

    check_exists(path)
    try:
        container = open_file(f"file:{path}")
    except PermissionError as error:
        raise InputError(
            f"{path} cannot be read (permission denied); allow reading it or copy it elsewhere"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or "unknown format"
        raise InputError(
            f"{path} is not a video that can be read, or its end is missing ({reason}); "
            f"{_REMEDY}, or copy it again"
        ) from error
    if not _video_streams(container):
        only = ", only sound" if container.streams.audio else ""
        container.close()
        raise InputError(f"{path} has no video track{only}; {_REMEDY}")
    return container


def check_exists(path: Path) -> None:
    """Raise InputError if there is nothing at `path`, or an empty file."""
    if not path.exists():
        raise InputError(f"{path} does not exist; {_REMEDY}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); {_REMEDY}")


def is_stills(path: Path) -> bool:
    """True for a folder of images and for a single image."""
    return path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES


def video_stream(container: "InputContainer") -> Any:
    """The track that is enhanced: the first that is no cover picture."""
    return _video_streams(container)[0]


def decoder_of(stream: Any) -> Any:
    """The track's decoder; for VP8 and VP9 with transparency libvpx's, as FFmpeg's own drop the alpha
    plane.
    """
    import av

    context = stream.codec_context
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
        if library in av.codecs_available:
            context = av.CodecContext.create(library, "r")
    context.thread_type = "AUTO"
    return context


def decoded_video(
    path: Path, note: Note, default_rate: Fraction = DEFAULT_RATE
) -> Iterator[tuple[Any, Fraction]]:
    """Every picture of a video file in the order of display, as (av.VideoFrame, time in seconds).

    Times are the file's own, counted from its start, and strictly increase; where the file has none (raw
    H.264) they follow `default_rate`. A packet
    that cannot be decoded is left out and the rest is kept; `note` gets a sentence for everything that was
    not as it should be.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        decoder = decoder_of(stream)
        step = 1 / default_rate
        offset = start_of(container, stream)
        count, time, corrupt = 0, -step, []
        hidden = 0
        for packet in chain(
            packets(container, stream, path, note), [None]
        ):  # None: hand out what is held back
            hidden += packet is not None and bool(packet.is_discard)
            for frame in _decode(decoder, packet, path, note, max(time, Fraction(0))):
                stamp = None if frame.pts is None else frame.pts * stream.time_base - offset
                if stamp is None:
                    stamp = time + step
                elif stamp <= time and count:
                    note(f"{path.name}: frame {count} is not later than the one before it; it was moved")
                    stamp = time + step / 2
                time = stamp
                if frame.is_corrupt:
                    corrupt.append(count)
                count += 1
                yield frame, time
        if corrupt:
            note(f"{path.name}: {len(corrupt)} damaged frame(s), the first is number {corrupt[0]}")
        _check_complete(container, stream, path, count + hidden, time + step, note)


def image_files(folder: Path) -> list[Path]:
    """A folder's images in natural order (2 before 10), or the one image itself. Raises InputError if there
    is none.
    """
    check_exists(folder)
    if folder.is_file():
        return [folder]
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise InputError(
            f"{folder} holds no images; put {', '.join(IMAGE_SUFFIXES)} files in it or give a video file"
        )
    return sorted(
        files, key=lambda f: [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", f.name)]
    )


def decoded_image(path: Path) -> tuple[Any, Any]:
    """One image file as (av.VideoFrame, its codec context). Raises InputError if it cannot be decoded."""
    import av.error

    try:
        # Opened by content: by name, "a%d.png" would be taken for a numbered sequence.
        with path.open("rb") as file, open_file(file) as container:
            stream = video_stream(container)
            for frame in container.decode(stream):
                return frame, stream.codec_context
    except (av.error.FFmpegError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "no picture in it"
        raise InputError(
            f"{path} is not an image that can be read ({reason}); replace or remove it"
        ) from error
    raise InputError(f"{path} holds no picture; replace or remove it")


def rate_of(stream: Any) -> Fraction | None:
    """Frames per second as the file gives it, None where it gives none or nonsense."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return None


def start_of(container: Any, stream: Any) -> Fraction:
    """Seconds at which a file starts, if above 0, in whole ticks of `stream`: broadcasts and camera files
    count from some hour of their own. Taken off all tracks alike, so sound and picture stay together."""
    start = Fraction(max(container.start_time or 0, 0), 1_000_000)
    return round(start / stream.time_base) * stream.time_base if stream.time_base else start


def orientation(frame: Any) -> tuple[int, bool]:
    """How to show a picture upright: (clockwise degrees, mirrored), by the file's display matrix.

    Apply the mirror (left-right) first, then the turn. Angles that are no multiple of 90 count as the
    nearest.
    """
    import numpy as np
    from av.sidedata.sidedata import Type

    try:
        found = frame.side_data.get(Type.DISPLAYMATRIX)
    except (
        ValueError
    ):  # PyAV 18 cannot list side data newer than itself (EXIF): all that it tells then is the angle
        return -getattr(frame, "rotation", 0) % 360 // 90 * 90, False
    if found is None:
        return 0, False
    matrix = np.frombuffer(bytes(found), "<i4").astype(float)
    a, b, c, d = matrix[[0, 1, 3, 4]]
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    turn = round(np.degrees(np.arctan2(b, a)) / 90) * 90 % 360
    return int(turn), bool(mirrored)


def _video_streams(container: "InputContainer") -> list[Any]:
    from av.stream import Disposition

    streams = [s for s in container.streams.video if s.codec_context and s.name not in _NOT_VIDEO]
    return [s for s in streams if not s.disposition & Disposition.attached_pic]  # the cover of a song


def packets(container: "InputContainer", stream: Any, path: Path, note: Note) -> Iterator[Any]:
    """The track's packets that hold data. A read error ends them and is noted."""
    import av.error

    stream_packets = container.demux(stream)
    while True:
        try:
            packet = next(stream_packets)
            if packet.size:
                yield packet
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError) as error:
            note(f"{path.name}: reading stopped early ({error.strerror}); the frames before that are kept")
            return


def _decode(decoder: Any, packet: Any, path: Path, note: Note, time: Fraction) -> "list[av.VideoFrame]":
    import av.error

    try:
        return decoder.decode(packet)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        note(
            f"{path.name}: damaged near {float(time):.2f} s ({reason}); what could not be decoded is left out"
        )
        return []


def _check_complete(container: Any, stream: Any, path: Path, count: int, end: Fraction, note: Note) -> None:
    """Note if the file announces more than it held: a frame count, or a duration of the picture track."""
    if 0 < count < stream.frames:
        note(
            f"{path.name} announces {stream.frames} frames, only {count} could be read, to {float(end):.2f} s"
        )
        return
    announced = _seconds(stream)
    if announced is None and len(container.streams) == 1 and container.duration:
        announced = container.duration / 1e6
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    if count and announced is not None and not stream.frames and announced + start > float(end) + 0.25:
        note(f"{path.name} announces {announced:.2f} s of video, but it ends at {float(end):.2f} s")


def _seconds(stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    return None if tag is None else int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
