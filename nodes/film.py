"""Enhance Video on a file: shot by shot and segment by segment, as `genve enhance` does it; its frames are never all read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .convert import images_of
from .run import Progress, free_memory, retrying, to_host

if TYPE_CHECKING:
    from ..genve_core.media import VideoInfo
    from ..genve_core.pipeline import Enhancer

Finished = Iterator[tuple[Fraction, Tensor, Tensor | None]]  # s, (3, H, W) in [-1, 1], alpha (H, W) in [0, 1]


@dataclass(frozen=True)
class Enhanced:
    """What came of a file."""

    images: Tensor  # IMAGE: all frames, or the first
    notes: tuple[str, ...]


def enhance_file(source: Path, enhancer: Enhancer, picture: Tensor | None, key_frame: int | None, progress: Progress,
                 out: Path | None) -> Enhanced:
    """Enhance a video file.

    picture, key_frame: the reference and the frame it shows; None = made, chosen.
    out: the video file to write; then only the first frame is kept as an IMAGE.
    Raises InputError for a key frame that the video lacks, and for a window that the bundle does not know.
    """
    from ..genve_core.film import FilmRun, assign, pieces, scan
    from ..genve_core.fit import film_task, fitted
    from ..genve_core.media import VideoReader
    from ..genve_core.reference.key_frame import check_key_frame
    from ..genve_core.sizes import Sizes
    from ..genve_core.steps import check_window

    size = enhancer.config.size
    assert size is not None
    with VideoReader(source) as video:
        film = scan(video, report=progress)
        if key_frame is not None:
            check_key_frame(key_frame, len(film))
        film, pictures, said = assign(film, [] if picture is None else [(None, picture)], size, key_frame)
        info, free = video.info, free_memory(enhancer.device)
        task = film_task(enhancer, film, pictures, (info.height, info.width), free)
        check_window(enhancer.models, enhancer.config.window.length, task.frames)
        sizes = fitted(Sizes.of(enhancer.config), task, free, {"window"})  # a widget says how long windows are
        enhancer.config = sizes.into(enhancer.config)
        retry = retrying(sizes, ("chunk", "tile", "segment"), ("window",))
        work, run = pieces(enhancer, film), FilmRun(enhancer, video, film, pictures, retry)

        def finished() -> Finished:
            times = iter(film.times)
            for number, piece in enumerate(work):
                progress.piece(number, len(work))
                for rgb, alpha in run.piece(piece, progress):
                    progress.with_frame(rgb)
                    yield next(times), rgb, alpha

        if out is None:
            images, written = _collected(finished(), len(film), size, info), []
        else:
            images, written = _written(finished(), out, size, info)
        return Enhanced(images, (*video.notes, *said, *enhancer.notes, *written, *retry.notes))


def _collected(frames: Finished, count: int, size: tuple[int, int], info: VideoInfo) -> Tensor:
    """All frames as an IMAGE, with the input's transparency."""
    images = to_host(torch.empty(count, *size, 4 if info.has_alpha else 3))
    for i, (_, rgb, alpha) in enumerate(frames):
        images[i] = images_of(rgb.unsqueeze(0), None if alpha is None else alpha.unsqueeze(0))[0]
    return images


def _written(frames: Finished, out: Path, size: tuple[int, int], info: VideoInfo) -> tuple[Tensor, list[str]]:
    """The first frame as an IMAGE, once all are in the file `out`; and what a person should know of that."""
    from ..genve_core.job import as_stored
    from ..genve_core.media import VideoWriter

    first = None
    with VideoWriter(out, info, width=size[1], height=size[0], audio_from=info.path) as writer:
        for time, rgb, _ in frames:
            first = images_of(rgb.unsqueeze(0)) if first is None else first
            writer.write(as_stored(rgb, info), time)
    assert first is not None
    return first, writer.notes
