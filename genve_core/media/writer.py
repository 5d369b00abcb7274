"""Writing a video whole or not at all: frames go to a hidden neighbour, which takes the final name when all
went well.
"""

import errno
import shutil
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

from torch import Tensor

from ..errors import InputError
from .encode import CONTAINERS, HEVC_SMALLEST, PngFolder, VideoFile
from .info import VideoInfo
from .source import IMAGE_SUFFIXES

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Sink(Protocol):
    notes: list[str]

    def write(self, rgb: Tensor, time: Fraction, alpha: Tensor | None) -> None: ...
    def finish(self, complete: bool) -> None: ...
    def abort(self) -> None: ...


class VideoWriter:
    """Writes frames to .mp4, .mov, .mkv (H.264; HEVC of 10 bits where HDR is kept), .webm (VP9), lossless .mkv (FFV1) or a
    folder of PNG files.

    `with VideoWriter(path, info, width=w, height=h) as out: out.write(rgb, time)`. Nothing appears under
    `path` before the block ends well; on any exception, Ctrl-C included, what was written is removed. `notes`
    holds, in one sentence each, what a person should be told (a sound track the container cannot hold, for
    example).
    """

    def __init__(
        self,
        path: str | Path,
        like: VideoInfo,
        *,
        width: int,
        height: int,
        overwrite: bool = False,
        lossless: bool = False,
        crf: int | None = None,
        audio_from: str | Path | None = None,
    ):
        """like: the input, from which time base, rate, alpha, depth and colour tags are taken.

        width, height: of the frames, in pixels; any size from 1x1.
        lossless: FFV1, only in .mkv; 16 bit if the input needs more than 8, alpha kept.
        crf: quality of the lossy codecs, smaller is better; 14 for H.264 and HEVC, 24 for VP9 if None.
        audio_from: a file whose sound and subtitle tracks are copied, packet by packet.

        Raises InputError, before any work: unknown suffix, existing output without `overwrite`, output equal
        to the input, missing or unwritable folder, a size below 1, `lossless` outside .mkv, HDR kept for what
        cannot hold it.
        """
        self.path = Path(path)
        self.like = like
        self.size = (width, height)
        self.notes: list[str] = []
        self.frames = 0
        """How many frames were written."""
        self._folder = not self.path.suffix or str(path).endswith(("/", "\\")) or self.path.is_dir()
        self._overwrite = overwrite
        self._check(lossless, crf)
        self._last = Fraction(-1, 1)
        self.part = self._reserve()
        """The temporary name under which it is written."""
        try:
            self._sink: _Sink = (
                PngFolder(self.part, like)
                if self._folder
                else VideoFile(
                    self.part, like, width, height, suffix=self.path.suffix.lower(), lossless=lossless,
                    crf=crf, audio_from=None if audio_from is None else Path(audio_from),
                )
            )  # fmt: skip
        except BaseException:
            _remove(self.part)
            raise
        self.notes = self._sink.notes

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def write(self, rgb: Tensor, time: Fraction, alpha: Tensor | None = None) -> None:
        """Add one frame.

        rgb: (3, height, width), float, in [-1, 1] (clipped), on any device.   alpha: (height, width) in [0,
        1].
        time: seconds, later than the frame before. Containers that count coarser (.mkv and .webm:
        milliseconds) round it.
        Raises ValueError on another shape, on NaN, and on times that do not increase; OSError if the disk is
        full.
        """
        w, h = self.size
        if rgb.shape != (3, h, w):
            raise ValueError(f"rgb must have shape (3, height, width)=(3, {h}, {w}), got {tuple(rgb.shape)}")
        if alpha is not None and alpha.shape != (h, w):
            raise ValueError(f"alpha must have shape (height, width)=({h}, {w}), got {tuple(alpha.shape)}")
        if self.frames and time <= self._last:
            raise ValueError(f"frame times must increase, got {time} s after {self._last} s")
        rgb = rgb.detach().float().cpu()
        if not rgb.isfinite().all():
            raise ValueError(
                f"frame {self.frames} holds NaN or infinite values; nothing sensible can be written"
            )
        self._guard(self._sink.write, rgb, time, None if alpha is None else alpha.detach().float().cpu())
        self._last = time
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. Raises ValueError if no frame was written."""
        try:
            if not self.frames:
                raise ValueError(f"no frame was written, so {self.path} was not made")
            self._guard(self._sink.finish, self.like.frames is None or self.frames >= self.like.frames)
            self._guard(self._publish)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove everything that was written; `path` stays as it was."""
        try:
            self._sink.abort()
        finally:
            _remove(self.part)

    def _check(self, lossless: bool, crf: int | None) -> None:
        path, suffix = self.path, self.path.suffix.lower()
        known = f"{', '.join(CONTAINERS)}, or no suffix for a folder of PNG frames"
        if min(self.size) < 1:
            raise InputError(f"output size must be at least 1x1 px, got {self.size[0]}x{self.size[1]}")
        if not self._folder and suffix not in CONTAINERS:
            hint = "; leave the suffix out to write PNG frames" if suffix in IMAGE_SUFFIXES else ""
            raise InputError(
                f"output {path.name} ends in {suffix!r}, which cannot be written; wanted {known}{hint}"
            )
        if lossless and (self._folder or suffix != ".mkv"):
            raise InputError(
                f"lossless video is written as .mkv, got {path.name}; use .mkv, or a folder of PNG frames"
            )
        if self.like.is_wide and not lossless:
            self._check_wide(suffix)
        if crf is not None and not 0 <= crf <= (63 if suffix == ".webm" else 51):
            raise InputError(f"crf must be 0 (best) to 51 for H.264, to 63 for VP9, got {crf}")
        if path.exists() and self.like.path.exists() and path.samefile(self.like.path):
            raise InputError(f"output {path} is the input itself; give another name")
        if path.exists() and not (self._folder and path.is_dir() and not any(path.iterdir())):
            self._check_existing()
        if not path.absolute().parent.is_dir():
            raise InputError(
                f"output folder {path.absolute().parent} does not exist; make it or give another path"
            )

    def _check_wide(self, suffix: str) -> None:
        colour = f"{self.like.colour.transfer}, {self.like.colour.primaries}"
        if self._folder or suffix == ".webm":
            kind = "a folder of PNG frames" if self._folder else f"{suffix} (VP9 of 8 bits)"
            raise InputError(
                f"{kind} cannot hold kept HDR ({colour}), got {self.path.name}; use .mp4, .mov or .mkv, or let it be "
                f"tone-mapped (--hdr tone-map)"
            )
        if min(self.size) < HEVC_SMALLEST:
            raise InputError(
                f"kept HDR ({colour}) is written as HEVC of {HEVC_SMALLEST} px a side or more, got "
                f"{self.size[0]}x{self.size[1]}; use a larger size or lossless .mkv"
            )

    def _check_existing(self) -> None:
        if not self._overwrite:
            raise InputError(
                f"output {self.path} exists already; give another name or allow overwriting (--overwrite)"
            )
        if self._folder and not self.path.is_dir():
            raise InputError(f"output {self.path} is a file, but a folder was asked for; give another name")
        if self._folder and not all(PngFolder.owns(f) for f in self.path.iterdir()):
            raise InputError(
                f"output folder {self.path} holds files that are not frames of ours; give another folder"
            )

    def _reserve(self) -> Path:
        """A hidden name beside the output, so that renaming stays on one disk. It exists when this
        returns.
        """
        folder, name = self.path.absolute().parent, f".{self.path.name}."
        try:
            if self._folder:
                return Path(tempfile.mkdtemp(prefix=name, suffix=".part", dir=folder))
            handle, part = tempfile.mkstemp(prefix=name, suffix=f".part{self.path.suffix}", dir=folder)
        except PermissionError as error:
            raise InputError(
                f"output folder {folder} cannot be written to; allow writing or give another path"
            ) from error
        except OSError as error:
            raise self._full(error) if error.errno in _FULL else error from None
        open(handle, "wb").close()
        return Path(part)

    def _publish(self) -> None:
        self.part.chmod(
            0o777 & ~_umask() if self._folder else 0o666 & ~_umask()
        )  # temporary names are private
        if self._folder and self.path.is_dir():
            old = self.part.with_name(f"{self.part.name}.old")
            self.path.rename(old)
            self.part.rename(self.path)
            shutil.rmtree(old)
        else:
            self.part.replace(self.path)

    def _guard(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(error) from error
            if not (folder := self.path.absolute().parent).is_dir():
                raise OSError(error.errno, f"the folder {folder} was removed while {self.path.name} was written; make it and "
                                           f"run the same command again") from error
            raise

    def _full(self, error: OSError) -> OSError:
        folder = self.path.absolute().parent
        return OSError(
            error.errno, f"no space left for {self.path.name} in {folder}; free some or write elsewhere"
        )


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _umask() -> int:
    import os

    mask = os.umask(0o022)
    os.umask(mask)
    return mask
