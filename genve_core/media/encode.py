"""What actually writes: one video file through PyAV, or one PNG file per frame."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

from torch import Tensor

from .hdr import needs_conversion
from .info import MATRIX, PRIMARIES, TRANSFER, VideoInfo
from .pixels import LUMA, Colour, to_rgb_frame, to_yuv_frame
from .source import is_stills, open_video, start_of

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
H264_CRF = 14  # close to transparent: the enhanced detail is what the person came for; of HEVC too
VP9_CRF = 24
HEVC_SMALLEST = 16  # px a side; x265 refuses less
_LIMITED, _FULL, _TOP_LEFT = 1, 2, 2


class VideoFile:
    """Encodes frames into one container, with the sound and subtitle tracks of another file copied in
    step.
    """

    def __init__(
        self,
        path: Path,
        like: VideoInfo,
        width: int,
        height: int,
        *,
        suffix: str,
        lossless: bool,
        crf: int | None,
        audio_from: Path | None,
    ):
        import av

        self.notes: list[str] = []
        self._colour, self._suffix = _written_colour(like), suffix
        self._container: Any = av.open(
            # no random identifiers and no version of the writer: same frames, same bytes
            str(path), "w", format=CONTAINERS[suffix], options={"fflags": "+bitexact"},
        )  # fmt: skip
        self._extras: list[_Extras] = []
        try:
            codec, self._format, options = self._choose(suffix, like, width, height, lossless, crf)
            self._stream: Any = self._container.add_stream(
                codec, rate=like.rate.limit_denominator(100_000), options=options
            )
            self._set_up(like, width, height)
            if audio_from is not None and not is_stills(audio_from):
                self._extras.append(_Extras(audio_from, self._container, suffix, self.notes))
        except BaseException:
            self.abort()
            raise
        self._rate = like.rate
        self._end = Fraction(0)

    def write(self, rgb: Tensor, time: Fraction, alpha: Tensor | None) -> None:
        rgb_format = self._format.startswith(("gbr", "bgr"))
        alpha = self._with_alpha(rgb, alpha)
        frame = (
            to_rgb_frame(rgb, self._format, alpha)
            if rgb_format
            else to_yuv_frame(rgb, self._format, alpha, self._colour)
        )
        context = self._stream.codec_context
        frame.colorspace, frame.color_range = context.colorspace, context.color_range
        frame.time_base = context.time_base
        frame.pts = round(time / context.time_base)
        self._mux(self._stream.encode(frame))
        self._end = time + 1 / self._rate
        for extra in self._extras:
            extra.copy_until(time)

    def finish(self, complete: bool) -> None:
        """Write what the encoder holds back, the rest of the other tracks (cut at the video's end if it is
        not `complete`), and the index."""
        self._mux(self._stream.encode(None))
        for extra in self._extras:
            extra.copy_until(None if complete else self._end)
            extra.close()
        self._container.close()

    def abort(self) -> None:
        for extra in self._extras:
            extra.close()
        # The file is about to be removed, and the first error is the one to show.
        with suppress(OSError, ValueError, RuntimeError):
            self._container.close()

    def _choose(
        self, suffix: str, like: VideoInfo, width: int, height: int, lossless: bool, crf: int | None
    ) -> tuple[str, str, dict[str, str]]:
        """Codec, pixel format and codec options; notes what is lost."""
        if lossless:
            deep = like.is_deep
            kind = ("gbrap16le" if deep else "bgra") if like.has_alpha else ("gbrp16le" if deep else "bgr0")
            return "ffv1", kind, {"level": "3", "slicecrc": "1"}
        if suffix == ".webm":
            quality = {"crf": str(VP9_CRF if crf is None else crf), "b": "0", "row-mt": "1", "cpu-used": "4"}
            if like.has_alpha:
                quality["auto-alt-ref"] = "0"  # libvpx refuses alpha with hidden frames
            return "libvpx-vp9", "yuva420p" if like.has_alpha else "yuv420p", quality
        name = "HEVC" if like.is_wide else "H.264"
        if like.has_alpha:
            keepers = "lossless .mkv keeps it" if like.is_wide else "lossless .mkv, .webm and PNG keep it"
            self.notes.append(f"{name} ({suffix}) has no transparency, so it is lost; {keepers}")
        odd = width % 2 or height % 2
        if odd:
            self.notes.append(
                f"{width}x{height} px is odd, so {name} is written as 4:4:4, which some players do not play; "
                "even sizes are safe"
            )
        if like.is_wide:
            kept = f"{like.colour.transfer}, {like.colour.primaries}"
            self.notes.append(f"the input's values ({kept}) are kept as they are, and written as HEVC of 10 bits")
            return "libx265", "yuv444p10le" if odd else "yuv420p10le", self._hevc_options(like, crf)
        # with mbtree, x264 wrote other bytes in one of three runs over the same frames; without, the same in all three
        options = {"crf": str(H264_CRF if crf is None else crf), "x264-params": "mbtree=0"}
        return "libx264", "yuv444p" if odd else "yuv420p", options

    def _hevc_options(self, like: VideoInfo, crf: int | None) -> dict[str, str]:
        # with cutree, x265 4.2 writes beyond its arrays for frames of less than 64 px across, and the process dies
        said = ["log-level=error", "info=0", "cutree=0"]
        if self._colour.siting == "topleft":
            said.append(f"chromaloc={_TOP_LEFT}")
        if like.light.mastering:
            said.append(f"master-display={like.light.mastering}")
        if like.light.content:
            said.append(f"max-cll={like.light.content}")
        return {"crf": str(H264_CRF if crf is None else crf), "x265-params": ":".join(said)}

    def _set_up(self, like: VideoInfo, width: int, height: int) -> None:
        stream, context = self._stream, self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, self._format
        context.time_base = stream.time_base = _time_base(like)
        context.thread_type = "AUTO"
        if like.pixel_aspect != 1:
            context.sample_aspect_ratio = like.pixel_aspect
        rgb = self._format.startswith(("gbr", "bgr"))
        context.colorspace = _code(MATRIX, "rgb" if rgb else self._colour.matrix)
        context.color_range = _FULL if rgb else _LIMITED
        context.color_primaries = _code(PRIMARIES, self._colour.primaries)
        context.color_trc = _code(TRANSFER, self._colour.transfer)
        if context.name == "libx265" and self._suffix in (".mp4", ".mov"):
            context.codec_tag = "hvc1"  # Apple's players want it

    def _with_alpha(self, rgb: Tensor, alpha: Tensor | None) -> Tensor | None:
        if not self._format.startswith(("yuva", "bgra", "gbrap")):
            return None
        return rgb.new_ones(rgb.shape[1:]) if alpha is None else alpha

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            packet.duration = packet.duration or round(
                1 / self._rate / packet.time_base
            )  # the last frame has no next
            self._container.mux(packet)


def _written_colour(like: VideoInfo) -> Colour:
    """How YUV output is coded for an input that was read as `like` says: BT.709, or as the input where that is kept."""
    colour, wide = like.colour, needs_conversion(like.colour.transfer, like.colour.primaries)
    if not like.is_wide:
        # primaries that differ little were not converted, so they keep their tag
        primaries = "bt709" if wide else colour.primaries
        return Colour(primaries=primaries, transfer="srgb" if colour.transfer == "srgb" else "bt709")
    own = "bt2020" if colour.primaries == "bt2020" else "bt709"  # of a picture that was stored as RGB
    siting = "topleft" if like.is_hdr else "left"  # as `info` reads them
    return replace(colour, matrix=colour.matrix if colour.matrix in LUMA else own, range="limited", siting=siting)


def _code(names: dict[int, str], name: str) -> int:
    """The first code of H.273 with this name."""
    return next(code for code, known in names.items() if known == name)


class PngFolder:
    """One PNG per frame, 16 bit if the input has more than 8; `frame_000000.png` is the first."""

    def __init__(self, folder: Path, like: VideoInfo):
        self.notes: list[str] = []
        if like.variable_rate:
            self.notes.append("a folder of frames keeps no times, and this video's frame rate varies")
        if like.has_audio:
            self.notes.append("a folder of frames holds no sound, so the sound is left out")
        self._folder, self._deep, self._count = folder, like.is_deep, 0

    @staticmethod
    def owns(path: Path) -> bool:
        """True if `path` is named like a frame of ours, so that overwriting may remove it."""
        return re.fullmatch(r"frame_\d{6,}\.png", path.name) is not None

    def write(self, rgb: Tensor, time: Fraction, alpha: Tensor | None) -> None:
        import av

        pixel_format = {
            (False, False): "rgb24",
            (False, True): "rgba",
            (True, False): "rgb48be",
            (True, True): "rgba64be",
        }[self._deep, alpha is not None]
        encoder: Any = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.pix_fmt = rgb.shape[2], rgb.shape[1], pixel_format
        encoder.time_base = Fraction(1, 25)
        frame = to_rgb_frame(rgb, pixel_format, alpha)
        coded = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        (self._folder / f"frame_{self._count:06d}.png").write_bytes(coded)
        self._count += 1

    def finish(self, complete: bool) -> None: ...

    def abort(self) -> None: ...


class _Extras:
    """The sound and subtitle tracks of a file, copied without decoding."""

    def __init__(self, path: Path, output: Any, suffix: str, notes: list[str]):
        self._input = open_video(path)
        self._output = output
        self._tracks: dict[int, Any] = {}
        streams: list[Any] = [*self._input.streams.audio, *self._input.streams.subtitles]
        for stream in streams:
            kind = "sound" if stream.type == "audio" else "subtitle"
            name = (
                stream.codec_context.codec.canonical_name
            )  # of the codec: some decoders are named unlike it (mp3float)
            try:
                if suffix != ".mkv" and name not in output.supported_codecs:
                    raise ValueError
                self._tracks[stream.index] = output.add_stream_from_template(stream)
            except (ValueError, TypeError, OSError):
                notes.append(
                    f"the {kind} track ({name}) cannot be put in {suffix}, so it is left out; .mkv holds it"
                )
        self._starts = {index: start_of(self._input, self._input.streams[index]) for index in self._tracks}
        tracks = [self._input.streams[index] for index in self._tracks]
        self._packets: Iterator[Any] = self._input.demux(*tracks) if tracks else iter(())
        self._next: Any = None
        self._notes, self._name = notes, path.name

    def copy_until(self, time: Fraction | None) -> None:
        """Copy packets that begin before `time`, in seconds; None: all that are left."""
        while (packet := self._peek()) is not None:
            start = self._starts[packet.stream.index]
            if time is not None and packet.dts * packet.time_base - start >= time:
                return
            self._next = None
            ticks = round(start / packet.time_base)
            packet.dts -= ticks
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.stream = self._tracks[packet.stream.index]
            self._output.mux(packet)

    def close(self) -> None:
        self._input.close()

    def _peek(self) -> Any:
        import av.error

        while self._next is None:
            try:
                packet = next(self._packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self._notes.append(f"{self._name}: sound could be read only in part ({error.strerror})")
                self._packets, packet = iter(()), None
            if packet is None:
                return None
            if packet.size and packet.dts is not None:
                self._next = packet
        return self._next


def _time_base(like: VideoInfo) -> Fraction:
    """Fine enough for every frame time of the input, and for evenly spaced frames at its rate."""
    fine = Fraction(1, lcm(like.time_base.denominator, like.rate.numerator))
    return fine if fine.denominator <= 2**31 - 1 else Fraction(1, like.time_base.denominator)
