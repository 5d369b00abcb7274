"""A job: the finished pieces of a video, kept beside the output until it is whole, so that an interrupted run goes on.

A hidden folder `.NAME.genve-job` holds `job.json`, which says what the pieces were made with, and one lossless video a
piece, under its name only when whole: its number and the beginning of its hash. No state is ever updated: a piece is
finished if its file is there and has this hash.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from . import __version__
from .bundle import sha256
from .errors import InputError
from .lock import only_run_on
from .media import VideoInfo, VideoReader, VideoWriter
from .sizes import Sizes

SUFFIX = ".genve-job"
_FINISHED = re.compile(r"\d{5}-[0-9a-f]{16}\.mkv")
Finished = tuple[Tensor, Tensor | None]  # (3, H, W) in [-1, 1] and alpha (H, W) in [0, 1]


def fingerprint(inputs: Iterable[Path], settings: dict[str, Any]) -> str:
    """Of everything that the finished frames depend on: the files' contents, the settings, this version."""
    told = hashlib.sha256(json.dumps([__version__, settings], sort_keys=True, default=str).encode())
    for path in inputs:
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        for file in files:
            told.update(f"{file.name} {sha256(file)}".encode())
    return told.hexdigest()


def job_folder(output: str | Path) -> Path:
    """Where the pieces of an output are kept."""
    path = Path(output).absolute()
    return path.with_name(f".{path.name}{SUFFIX}")


def is_there(output: str | Path) -> bool:
    """Whether an output exists; an empty folder is none."""
    path = Path(output)
    return any(path.iterdir()) if path.is_dir() else path.exists()


def remove_half_written(output: str | Path, keep: Path) -> None:
    """Remove what killed runs of the same output left under temporary names. keep: that of the run under way."""
    path = Path(output).absolute()
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part*"):
        if part != keep:
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def store_piece(folder: Path, piece: int, frames: Iterable[Finished], like: VideoInfo, size: tuple[int, int]) -> Path:
    """Write a piece's frames to a file of its own, named when it is whole. Raises OSError if the disk is full.

    like: the input.   size: (h, w) of the frames.
    """
    h, w = size
    tick = like.time_base
    step = tick * max(1, round(1 / (25 * tick)))  # any time will do, as long as the container can tell them apart
    file = folder / f"{piece:05}.mkv"
    with VideoWriter(file, replace(like, frames=None), width=w, height=h, lossless=True, overwrite=True) as out:
        for i, (rgb, alpha) in enumerate(frames):
            out.write(rgb, i * step, alpha)
    return file.replace(folder / _name(piece, file))


def as_stored(rgb: Tensor, like: VideoInfo) -> Tensor:
    """A frame (3, H, W) in [-1, 1] as it comes back from a piece: of 8 bits, or 16 where the input needs more than 8.

    For who writes an output without pieces, and wants what the command line writes.
    """
    top = 65535 if like.is_deep else 255
    whole = (((rgb.float().clamp(-1, 1) + 1) / 2).double() * top).round()  # in double, as the piece's writer rounds
    return whole.float() / (top / 2) - 1


def _name(piece: int, file: Path) -> str:
    """Of a finished piece with these contents."""
    return f"{piece:05}-{sha256(file)[:16]}.mkv"


class Job:
    """The pieces of one output.

    `resumed` says how many were found finished; `notes` which were damaged, or why none of those found could be used.
    """

    def __init__(self, output: str | Path, made_with: str, lengths: Sequence[int], info: VideoInfo, size: tuple[int, int],
                 sizes: Sizes = Sizes()):
        """made_with: from `fingerprint`.   lengths: frames of each piece.   info: of the input.   size: (h, w) of the output.
        sizes: with which the work was cut into pieces; see `recorded_sizes`.

        Makes or reopens the folder.
        """
        self.folder, self.pieces, self.lengths = job_folder(output), len(lengths), lengths
        self.like, self.size = info, size
        self.notes: list[str] = []
        about = {"version": __version__, "made_with": made_with, "input": str(info.path), "output": str(output),
                 "pieces": self.pieces, "sizes": sizes.stored()}
        if self.folder.is_dir():
            found = _read(self.folder)
            if found is None or found.get("made_with") != made_with or found.get("pieces") != self.pieces:
                self.notes.append(("an earlier run's job file cannot be read" if found is None else
                                   "an earlier run had another input, other settings or another version") + ": begun anew")
                shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "job.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        self._files = self._whole()
        self.resumed = len(self._files)

    def has(self, piece: int) -> bool:
        """Whether a piece is finished."""
        return piece in self._files

    def keep(self, piece: int, frames: Iterable[Finished]) -> None:
        """Store a piece's frames. Raises OSError if the disk is full."""
        self._files[piece] = store_piece(self.folder, piece, frames, self.like, self.size)

    def receive(self, piece: int, name: str, parts: Iterable[bytes]) -> None:
        """Store a piece that `store_piece` made elsewhere, under the name it has there. Raises OSError if other bytes arrive
        than were sent, or the disk is full."""
        part = self.folder / f"{piece:05}.part.mkv"
        with part.open("wb") as out:
            for data in parts:
                out.write(data)
        if _name(piece, part) != name:
            raise OSError(f"piece {piece} was damaged on its way here; run the same command again to make it anew")
        self._files[piece] = part.replace(self.folder / name)

    def frames(self, piece: int) -> Iterator[Finished]:
        """The frames of a finished piece, as they were stored. Raises InputError, and removes it, if it was damaged since."""
        file, count, notes = self._files[piece], 0, []
        try:
            with VideoReader(file, hdr="keep", deinterlace=False) as video:  # what was stored is what is written
                notes = video.notes
                for frame in video:
                    count += 1
                    yield frame.rgb, frame.alpha
        except InputError as error:
            notes = [str(error)]
        if notes or count != self.lengths[piece]:
            self._files.pop(piece).unlink(missing_ok=True)
            raise InputError(f"piece {piece} was damaged since it was finished ({count} of {self.lengths[piece]} frames) "
                             f"and is removed; run the same command again to make it anew")

    def remove(self) -> None:
        """The output is whole; the pieces are not needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Nothing was finished, so there is nothing to go on with."""
        if not self._files:
            self.remove()

    def _whole(self) -> dict[int, Path]:
        """The finished pieces; all else in the folder is removed."""
        files = {}
        for file in self.folder.iterdir():
            piece = int(file.name[:5]) if _FINISHED.fullmatch(file.name) else None
            if piece is not None and _name(piece, file) == file.name:
                files[piece] = file
            elif file.name != "job.json":
                file.unlink()
                if piece is not None:
                    self.notes.append(f"piece {piece + 1} of {self.pieces} was damaged since it was finished; it is made anew")
        return files


@dataclass(frozen=True)
class FoundJob:
    """A job that lies in a folder."""

    folder: Path
    output: str  # as it was given
    input: str
    finished: int
    pieces: int
    bytes: int

    @property
    def path(self) -> Path:
        """Of the output."""
        return self.folder.with_name(self.folder.name[1 : -len(SUFFIX)])

    @property
    def over(self) -> bool:
        """The output is there, written after all that was kept for it: the run was killed before it could tidy up. An older
        output is one that a run was to replace."""
        if not is_there(self.path):
            return False
        named = self.path.stat().st_mtime_ns
        return all(file.stat().st_mtime_ns <= named for file in self.folder.iterdir())


def find_jobs(folder: Path) -> list[FoundJob]:
    """The jobs of outputs in `folder`, oldest first; one whose file cannot be read has 0 pieces."""
    return [_found(place) for place in sorted(folder.glob(f".*{SUFFIX}"), key=lambda p: p.stat().st_mtime)]


def _found(place: Path) -> FoundJob:
    about = _read(place) or {}
    files = [file for file in place.iterdir() if _FINISHED.fullmatch(file.name)]
    output = str(about.get("output", place.name[1 : -len(SUFFIX)]))
    pieces = about.get("pieces")
    return FoundJob(place, output, str(about.get("input", "unknown")), len(files), pieces if isinstance(pieces, int) else 0,
                    sum(file.stat().st_size for file in files))


def tidy_up(output: str | Path) -> None:
    """Remove the pieces of an output that is finished, which a run leaves if it is killed just after it named the output."""
    folder = job_folder(output)
    if folder.is_dir():
        with suppress(InputError), only_run_on(output):  # a run that is at work does it itself
            if _found(folder).over:
                shutil.rmtree(folder, ignore_errors=True)


def recorded_sizes(output: str | Path, made_with: str) -> Sizes | None:
    """The sizes of the job that a run with this fingerprint can go on with. They were fitted to the memory that was free
    then, so they are not in the fingerprint; only with them are its pieces cut, and computed, as those that are finished."""
    about = _read(job_folder(output)) or {}
    return Sizes.restored(about.get("sizes")) if about.get("made_with") == made_with else None


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def finished_frames(job: Job, make: Callable[[int], Iterable[Finished]]) -> Generator[Finished]:
    """All frames in order. A piece is made only if it is not there, and always taken from what was stored: so a run that was
    interrupted gives the same bytes as one that was not."""
    try:
        for piece in range(job.pieces):
            if not job.has(piece):
                job.keep(piece, make(piece))
            yield from job.frames(piece)
    finally:
        job.remove_if_empty()
