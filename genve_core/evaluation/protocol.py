"""Evaluation protocol v1: which clips, how they are made poor, which settings.

This file is the definition. A change of a number here is a new version, else figures stop being comparable.
Frames are uint8 RGB arrays (f, h, w, 3) throughout `evaluation`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..media.source import open_file

PROTOCOL_VERSION = "v1"
SCALE = 4  # the protocol's own degradations, real4x and clean4x, reduce both sides by this factor
FRAMES = 48  # frames per clip, fewer where the clip ends
MAX_WIDTH, MAX_HEIGHT, MULTIPLE = 704, 448, 32  # the centre crop

BLUR_SIGMA = {8: 3.2, 4: 1.6, 2: 0.8, 1: 0.8}  # by the factor of reduction, pixels of the clean frame
NOISE_SIGMA = 6.0  # grey levels of 255, on the small frame
CRF, PRESET, FPS = 28, "medium", 25
# One thread, no assembler: with the threads that x264 takes by itself the bytes depend on the number of cores and, on a busy
# machine, differ from run to run (0.07 dB of one clip's result); with its assembler they can, too. These are the same always.
X264 = "no-asm=1:threads=1"

SETTINGS = ("self", "one-good-frame")


@dataclass(frozen=True)
class Clip:
    """One line of the protocol's table."""

    name: str  # how tables and `--clips` call it
    path: str  # below the data folder; a video file or a folder of PNG frames
    shrink: float = 1.0  # both sides are divided by this before the crop
    start: int = 0  # first frame used
    frames: int = FRAMES  # most frames used
    has_truth: bool = True  # False: the file itself is the poor input


CLIPS = (
    Clip("dog", "validation/hq/sam2_dog_720p.mp4", 1.5, 60),
    Clip("flower", "validation/hq/openh264_flower_720p.264", 1.5, 60),
    Clip("roof", "validation/hq/androidx_city_roof_1024x768.mp4", 1.5, 10),
    Clip("coast", "validation/hq/gopro_karma_drone_coast_480p.mp4", 1, 100),
    Clip("face", "validation/hq/androidx_face_indoor_1080x720.mp4", 1.5, 5, 25),
    Clip("sintel", "validation/hq/raft_sintel_alley_1024x436_png", 1, 0, 10),
)
POOR_CLIPS = (
    Clip("film1940", "validation/lq/friday_1940film_640x480.mp4", has_truth=False),
    Clip("street", "validation/lq/googlework_street_320x180.mp4", has_truth=False),
    Clip("webcam", "validation/lq/intel_asl_book_webcam_640x480.mkv", has_truth=False),
    Clip("foreman", "validation/lq/openh264_foreman_cif_CI1_FT_B.264", has_truth=False),
)


@dataclass(frozen=True)
class Sample:
    """What a method is given, and what its result is held against."""

    clip: Clip
    degradation: str  # "none" for a clip without ground truth
    low: np.ndarray  # (f, h, w, 3) uint8
    truth: np.ndarray | None  # (f, SCALE h, SCALE w, 3) uint8

    @property
    def key_frame(self) -> int:
        """The frame whose truth is given in the setting *one good frame*."""
        return len(self.low) // 2

    @property
    def scale(self) -> int:
        """By how much a method has to enlarge `low`."""
        return DEGRADATIONS[self.degradation].scale if self.degradation in DEGRADATIONS else SCALE


def find_clips(names: list[str] | None, data: Path | None = None) -> tuple[Clip, ...]:
    """Clips by name; None: the six with ground truth. "hq", "lq" and "all" name groups.

    Any other name is a good clip of the user's own, a file or a folder of PNG frames below `data`: it is measured as the
    protocol measures, but its figures are not the protocol's.
    """
    groups = {"hq": CLIPS, "lq": POOR_CLIPS, "all": CLIPS + POOR_CLIPS}
    known = groups | {clip.name: (clip,) for clip in CLIPS + POOR_CLIPS}
    for name in names or ():
        if name not in known and data is not None and (data / name).exists():
            known[name] = (Clip(Path(name).stem, name),)
        if name not in known:
            raise InputError(f"clip {name!r} is not in protocol {PROTOCOL_VERSION}; choose from {', '.join(known)}, "
                             f"or name a file below --data")
    chosen = itertools.chain.from_iterable(known[name] for name in names or ["hq"])
    return tuple(dict.fromkeys(chosen))


def load_sample(clip: Clip, degradation: str, data: Path, frames: int = FRAMES, cache: Path | None = None) -> Sample:
    """Read, crop and degrade one clip. `cache`: a folder that keeps the result for the next run.

    Raises InputError for a degradation that the protocol lacks and for a clip that is not below `data`.
    """
    if clip.has_truth and degradation not in DEGRADATIONS:
        raise InputError(f"degradation {degradation!r} is unknown; choose from {', '.join(DEGRADATIONS)}")
    source = Path(data) / clip.path
    if not source.exists():
        raise InputError(f"--data {data} holds no {clip.path}; give the folder that contains validation/")
    count = min(frames, clip.frames)
    if not clip.has_truth:
        return Sample(clip, "none", read_frames(source, clip.start, count), None)
    kept = cache and cache / f"{_fingerprint(clip, source, degradation, count)}.npz"
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return Sample(clip, degradation, arrays["low"], arrays["truth"])
    truth = shrink_and_crop(read_frames(source, clip.start, count), clip.shrink)
    low = DEGRADATIONS[degradation](truth)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.stem}.{os.getpid()}.part.npz")
        np.savez(part, low=low, truth=truth)
        part.replace(kept)  # under its name only when whole
    return Sample(clip, degradation, low, truth)


def _fingerprint(clip: Clip, source: Path, degradation: str, count: int) -> str:
    stat = source.stat()
    told = f"{PROTOCOL_VERSION}|{clip}|{stat.st_size}|{stat.st_mtime_ns}|{count}|{_codec_version()} {X264}"
    return f"{PROTOCOL_VERSION}-{clip.name}-{degradation}-{count}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _codec_version() -> str:
    import av

    return f"{av.__version__} {av.library_versions['libavcodec']}"


def read_frames(path: Path, start: int, count: int) -> np.ndarray:
    """Frames [start, start + count) of a video file or of a folder of PNG frames (sorted by name), uint8 RGB.

    Deliberately not the product's reader: a better reader must not move the protocol's numbers.
    """
    frames = list(itertools.islice(_png_frames(path) if path.is_dir() else _video_frames(path), start, start + count))
    if not frames:
        raise InputError(f"{path} ends before frame {start}; give the protocol's own file")
    return np.stack(frames)


def _png_frames(folder: Path) -> Iterator[np.ndarray]:
    import cv2

    for file in sorted(folder.glob("*.png")):
        picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)  # imread fails on some paths
        if picture is None:
            raise InputError(f"{file} cannot be read as a picture; put a whole PNG there")
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    from av.error import FFmpegError

    try:
        with open_file(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except FFmpegError as error:
        raise InputError(f"{path} cannot be decoded ({error}); give the protocol's own file") from error


def shrink_and_crop(frames: np.ndarray, shrink: float) -> np.ndarray:
    """Area-resize by 1 / `shrink` (sizes rounded down), then centre-crop to at most 704x448, multiples of 32.

    Raises InputError where less than 32 pixels are left of a side.
    """
    import cv2

    h, w = (int(side / shrink) for side in frames.shape[1:3])
    crop_h, crop_w = (min(side, most) // MULTIPLE * MULTIPLE for side, most in ((h, MAX_HEIGHT), (w, MAX_WIDTH)))
    if not crop_h or not crop_w:
        raise InputError(f"a clip of {w}x{h} px is too small; the protocol crops to multiples of {MULTIPLE}")
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    if shrink != 1:
        frames = np.stack([cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA) for frame in frames])
    return np.ascontiguousarray(frames[:, top : top + crop_h, left : left + crop_w])


def real(truth: np.ndarray, scale: int) -> np.ndarray:
    """Blur, area-reduce, add noise, round to 8 bit, and send through H.264. (f, h, w, 3) -> (f, h/scale, w/scale, 3)."""
    import cv2

    noise = np.random.default_rng(0)
    size = (truth.shape[2] // scale, truth.shape[1] // scale)
    small = []
    for frame in truth:
        blurred = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), BLUR_SIGMA[scale])
        reduced = cv2.resize(blurred, size, interpolation=cv2.INTER_AREA)
        small.append(_to_8_bit(reduced + noise.normal(0, NOISE_SIGMA, reduced.shape)))
    return h264_round_trip(np.stack(small))


def clean(truth: np.ndarray, scale: int) -> np.ndarray:
    """Antialiased bicubic (a = -0.5) reduction, 8 bit. (f, h, w, 3) -> (f, h/scale, w/scale, 3)."""
    import torch
    import torch.nn.functional as F

    def reduce(frame: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        size = (frame.shape[0] // scale, frame.shape[1] // scale)
        return _to_8_bit(F.interpolate(x, size=size, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy())

    return np.stack([reduce(frame) for frame in truth])


@dataclass(frozen=True)
class Degradation:
    """One way to make a good clip poor."""

    make: Callable[[np.ndarray, int], np.ndarray]
    scale: int  # both sides are reduced by it

    def __call__(self, truth: np.ndarray) -> np.ndarray:
        return self.make(truth, self.scale)


# The two at 4x are the protocol's; the others carry it to the scales that it leaves out, so that a bundle is measured at each.
DEGRADATIONS = {"real4x": Degradation(real, 4), "clean4x": Degradation(clean, 4), "real2x": Degradation(real, 2),
                "clean2x": Degradation(clean, 2), "real1x": Degradation(real, 1), "real8x": Degradation(real, 8)}


def _to_8_bit(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def h264_round_trip(frames: np.ndarray) -> np.ndarray:
    """Encode with libx264 (crf 28, medium, yuv420p, 25 fps) in memory and decode. Both sides must be even."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"crf": str(CRF), "preset": PRESET, "x264-params": X264}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
