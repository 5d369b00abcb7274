"""A whole video: looked at once for its cuts, then enhanced shot by shot and segment by segment, never held in memory.

Nothing crosses a cut: windows, neighbours, references and the numbering of frames begin anew with every shot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import Reference
from .conditioning.calm import context
from .errors import InputError
from .footage import Footage, ShotFrames
from .media.reader import VideoReader
from .media.shots import Shot, ShotConfig, ShotFinder, with_keys
from .pipeline import Enhancer, Picture
from .reference.key_frame import KeyFrameScorer
from .reference.user_image import fit_reference
from .segments import Segment, widened
from .sizes import Retrying, Sizes, free_cache
from .steps import OnProgress, silent
from .video_codec import upsample

GLANCE = 16  # px a side at which a picture is compared with the frames
ALIKE = 0.5  # correlation below which a person should know that their picture fits no frame well


@dataclass(frozen=True)
class Film:
    """What one pass over a video tells."""

    times: list[Fraction]  # s, of each frame
    shots: list[Shot]
    glances: Tensor  # (f, 3 GLANCE GLANCE) float16: each frame small, with mean 0 and length 1

    def __len__(self) -> int:
        return len(self.times)

    def shot_of(self, frame: int) -> int:
        """Index of the shot that holds a frame."""
        return next(i for i, shot in enumerate(self.shots) if frame < shot.stop)


@dataclass(frozen=True)
class Piece:
    """A segment of one of the shots."""

    shot: int  # its index
    segment: Segment


def scan(video: VideoReader, count: int | None = None, cuts: ShotConfig | None = ShotConfig(),
         report: OnProgress = silent) -> Film:
    """Read the first `count` frames, or all, once. cuts: None takes them as one shot.

    Raises InputError if there is no frame, or PySceneDetect is needed and not installed.
    """
    finder = KeyFrameScorer() if cuts is None else ShotFinder(cuts)
    times, glances = [], []
    for frame in video.frames(stop=count):
        finder.add(frame.rgb)
        times.append(frame.time)
        glances.append(glance(frame.rgb).half())  # 1.5 KB for every frame of the film
        report("look", len(times), max(count or video.info.frames or 0, len(times)))
    if not times:
        raise InputError(f"{video.info.path} holds no frame that can be decoded; it may be cut short, copy it again")
    shots = [Shot(0, len(times), finder.best())] if isinstance(finder, KeyFrameScorer) else finder.shots()
    return Film(times, shots, torch.stack(glances))


def glance(picture: Tensor) -> Tensor:
    """A picture (3, h, w) as it is compared: small, each channel with mean 0, all with length 1."""
    small = F.interpolate(picture.float().unsqueeze(0), size=(GLANCE, GLANCE), mode="area")[0]
    flat = (small - small.mean((1, 2), keepdim=True)).flatten()
    return flat / flat.norm().clamp(min=1e-6)


def assign(film: Film, given: Sequence[tuple[int | None, Picture]], size: tuple[int, int],
           key_frame: int | None = None) -> tuple[Film, list[dict[int, Picture | None]], list[str]]:
    """Decide which frame each picture depicts.

    given: (frame of the video, picture); None: the frame that the picture resembles most, but in a video of one shot a
    single picture depicts its key frame.   key_frame: in place of the one chosen in the shot that holds it.
    Returns the film with its key frames, for each shot {frame of the shot: picture, or None where one is to be made}, and
    notes. Raises InputError for frames that are not in the video and for two pictures of one frame.
    """
    shots = film.shots if key_frame is None else with_keys(film.shots, [key_frame])
    film = Film(film.times, shots, film.glances)
    pictures: list[dict[int, Picture | None]] = [{} for _ in shots]
    notes = []
    for frame, picture in given:
        if frame is None and len(given) == 1 and (len(shots) == 1 or key_frame is not None):
            frame = shots[0].key if key_frame is None else key_frame
        elif frame is None:
            likeness = film.glances.float() @ glance(fit_reference(picture, size).image)
            frame = int(likeness.argmax())
            notes.append(f"{_named(picture)} is taken for frame {frame}"
                         + ("" if likeness[frame] >= ALIKE else ", but is like no frame of this video; is it of another?"))
        if not 0 <= frame < len(film):
            raise InputError(f"the reference, {_named(picture)}, is of frame {frame}, but the video has frames 0 to "
                             f"{len(film) - 1}")
        index = film.shot_of(frame)
        number = frame - shots[index].start
        if number in pictures[index]:
            raise InputError(f"{_named(pictures[index][number])} and {_named(picture)} both show frame {frame}; "
                             f"give one a frame")
        pictures[index][number] = picture
    for shot, own in zip(shots, pictures, strict=True):
        if not own:
            own[shot.key - shot.start] = None
    return film, pictures, notes


def _named(picture: Picture | None) -> str:
    return "the picture given" if isinstance(picture, Tensor) else str(picture)


def pieces(enhancer: Enhancer, film: Film) -> list[Piece]:
    """The work, in order."""
    return [Piece(i, segment) for i, shot in enumerate(film.shots) for segment in enhancer.segments(len(shot))]


class FilmRun:
    """A film under way: pieces in order, each shot's references made once."""

    def __init__(self, enhancer: Enhancer, video: VideoReader, film: Film, pictures: Sequence[Mapping[int, Picture | None]],
                 retry: Retrying | None = None):
        """pictures: of each shot, from `assign`.   retry: from `retrying`; None = memory that runs out is an error."""
        self._enhancer, self._film, self._pictures = enhancer, film, pictures
        self._retry = retry or Retrying(Sizes.of(enhancer.config), ())
        reach = context(enhancer.config.flow)
        keys = {shot.start + i for shot, own in zip(film.shots, pictures, strict=True) for number in own
                for i in widened(range(number, number + 1), reach, len(shot))}
        self._footage = Footage(video, keys)
        self._shot = -1

    def piece(self, piece: Piece, report: OnProgress = silent) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Finished frames (3, H, W) in [-1, 1] of one piece, with the input's own alpha (H, W) in [0, 1]."""
        if piece.shot != self._shot:
            self._given = ShotFrames(self._footage, self._film.shots[piece.shot])
            self._frames = self._enhancer.prepared(self._given, report)
            self._references = self._retry.call(partial(self._make_references, self._pictures[piece.shot]))
            self._shot = piece.shot
        yield from self._retry.items(partial(self._frames_of, piece.segment, report))

    def _make_references(self, pictures: Mapping[int, Picture | None], sizes: Sizes) -> list[Reference]:
        self._enhancer.config = sizes.into(self._enhancer.config)
        return self._enhancer.references(self._frames, pictures)

    def _frames_of(self, segment: Segment, report: OnProgress, sizes: Sizes) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The segment's frames; in smaller segments, if memory ran out since it was cut."""
        self._enhancer.config = sizes.into(self._enhancer.config)
        for part in self._enhancer.segments(len(self._frames), segment.own):
            alpha: list[Tensor | None] = []
            for i, frame in enumerate(self._enhancer.run_segment(self._frames, part, self._references, report)):
                alpha = alpha or self._given.alpha(part.own)
                yield frame[0], enlarged(alpha[i], (frame.shape[-2], frame.shape[-1]))


def retrying(enhancer: Enhancer, tell: Callable[[str], None]) -> Retrying:
    """For `FilmRun`: smaller sizes when memory runs out; windows, which change the picture, last. tell: hears a sentence."""
    return Retrying(Sizes.of(enhancer.config), ("chunk", "tile", "segment"), ("window",),
                    free=partial(free_cache, enhancer.device), tell=tell)


def enlarged(alpha: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """Alpha (h, w) at the output's size, bicubic; the network knows nothing of transparency."""
    if alpha is None:
        return None
    return upsample(alpha[None, None, None], size, clamp=False)[0, 0, 0].clamp(0, 1)
