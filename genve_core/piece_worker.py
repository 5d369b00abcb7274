"""What a worker does for a film: it takes the files, makes pieces, and gives each back as a file. It knows nothing of Ray."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import torch

from . import __version__
from .bundle import load_bundle, sha256
from .errors import InputError
from .film import Film, FilmRun, Piece, retrying
from .job import store_piece
from .lock import only_run_on
from .media import VideoReader
from .media.info import Hdr
from .media.shots import Shot
from .models import Models
from .pipeline import EnhanceConfig, Enhancer

CHUNK = 8 << 20  # bytes of a file sent at once
PREFIX = "genve-ray-"


@dataclass(frozen=True)
class Sent:
    """A file or a folder that workers read."""

    path: Path
    hashes: Mapping[str, str]  # name in the folder, or "" for a file, and its sha256

    @staticmethod
    def of(path: Path) -> Sent:
        """What is there now."""
        names = sorted(p.name for p in path.iterdir() if p.is_file()) if path.is_dir() else [""]
        return Sent(path, {name: sha256(path / name) for name in names})

    def is_at(self, path: Path) -> bool:
        """Whether `path` holds the same."""
        return all((path / name).is_file() and sha256(path / name) == wanted for name, wanted in self.hashes.items())

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """All contents as (name, the next bytes of that file); an empty file is one empty chunk."""
        for name in self.hashes:
            with (self.path / name).open("rb") as file:
                yield name, file.read(CHUNK)
                while data := file.read(CHUNK):
                    yield name, data


@dataclass(frozen=True)
class Order:
    """A film, as a worker needs it to make any of its pieces. Paths are absolute, of the machine that orders."""

    input: Path
    bundle: Path
    config: EnhanceConfig
    device: str
    shots: Sequence[Shot]
    pieces: Sequence[Piece]
    pictures: Sequence[Mapping[int, Path | None]]  # of each shot, from `assign`
    hdr: Hdr = "tone-map"  # how the input is read
    deinterlace: bool = True

    def files(self) -> list[Sent]:
        """All that it reads."""
        pictures = {picture for own in self.pictures for picture in own.values() if picture is not None}
        return [Sent.of(path) for path in (self.input, self.bundle, *sorted(pictures))]


class PieceWorker:
    """Call `versions`; for a film `lacks` and `take` for each of its files, `begin`, then `make` as often as wanted."""

    def __init__(self, threads: int):
        """threads: on a CPU."""
        torch.set_num_threads(threads)
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):  # by workers that were killed
            with suppress(InputError), only_run_on(left):
                shutil.rmtree(left, ignore_errors=True)
        self._folder = Path(tempfile.gettempdir()) / f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex}"
        self._open = ExitStack()
        self._open.enter_context(only_run_on(self._folder))
        self._folder.mkdir()
        self._at: dict[Path, Path] = {}
        self._models: tuple[Mapping[str, str], str, Models] | None = None

    def versions(self) -> dict[str, str]:
        """Of what the frames depend on, and where it is."""
        return {**versions(), "host": socket.gethostname()}

    def lacks(self, sent: Sent) -> bool:
        """Whether `sent` must be sent: it is not on this machine under its own path."""
        if sent.is_at(sent.path):
            self._at[sent.path] = sent.path
            return False
        local = self._folder / str(len(self._at)) / sent.path.name
        (local.parent if "" in sent.hashes else local).mkdir(parents=True)
        self._at[sent.path] = local
        return True

    def take(self, sent: Sent, name: str, data: bytes) -> None:
        """The next bytes of one of its files."""
        with (self._at[sent.path] / name).open("ab") as file:
            file.write(data)

    def begin(self, order: Order, files: Sequence[Sent]) -> None:
        """A film whose files are all here. Raises OSError if other bytes arrived than were sent."""
        for sent in files:
            if not sent.is_at(self._at[sent.path]):
                raise OSError(f"{sent.path} was damaged on its way to {socket.gethostname()}; run the same command again")
        at = {path: self._at[path] for path in (order.input, order.bundle)}
        pictures = [{key: picture and self._at[picture] for key, picture in own.items()} for own in order.pictures]
        weights = next(sent.hashes for sent in files if sent.path == order.bundle)
        if self._models is None or self._models[:2] != (weights, order.device):
            self._models = weights, order.device, Models(load_bundle(at[order.bundle]), order.device, order.config.precision)
        self._order = order
        self._video = VideoReader(at[order.input], hdr=order.hdr, deinterlace=order.deinterlace)
        self._enhancer = Enhancer(self._models[2], order.config)
        film = Film([], list(order.shots), torch.empty(0))
        self._retrying = retrying(self._enhancer, lambda note: None)  # it is told with the piece
        self._run = FilmRun(self._enhancer, self._video, film, pictures, self._retrying)

    def make(self, piece: int) -> Iterator[tuple[str, Sequence[str]] | bytes]:
        """A finished piece: first (its file's name, notes), then the file's bytes."""
        size = cast(tuple[int, int], self._order.config.size)
        file = store_piece(self._folder, piece, self._run.piece(self._order.pieces[piece]), self._video.info, size)
        yield file.name, (*self._enhancer.notes, *self._retrying.notes)
        for _, data in Sent(file, {"": ""}).chunks():
            yield data
        file.unlink()

    def end(self) -> None:
        """The film is finished: close and remove its files."""
        self._video.close()
        self._at = {}
        for local in self._folder.iterdir():
            shutil.rmtree(local) if local.is_dir() else local.unlink()

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._open.close()


def versions() -> dict[str, str]:
    """Of what decides the bytes of a frame."""
    return {"genve": __version__, "torch": torch.__version__, "av": av.__version__}
