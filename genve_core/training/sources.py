"""Where training clips come from: photographs under a moving camera, and real video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..media.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, open_file
from .camera import CameraConfig, MovingCamera
from .look import LookConfig, recorded


def find_sources(data: Path) -> tuple[list[Path], list[Path]]:
    """Photographs and videos below `data`, sorted. A folder named `validation` is never trained on."""
    if not data.is_dir():
        raise InputError(f"--data {data} is not a folder; give one that holds photographs and videos")
    files = [p for p in sorted(data.rglob("*")) if "validation" not in p.relative_to(data).parts]
    stills = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    if not stills and not videos:
        raise InputError(f"--data {data} holds no photograph and no video; wanted files like .png, .jpg or .mp4")
    return stills, videos


def read_still(path: Path) -> np.ndarray:
    """RGB uint8 (h, w, 3). Raises InputError if the file is not a picture."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path} is not a picture that can be read; remove it from the training data")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def camera_clip(stills: list[Path], frames: int, size: int, config: CameraConfig, look: LookConfig,
                rng: np.random.Generator) -> np.ndarray:
    """One clip of a synthetic camera over random photographs: uint8 (frames, size, size, 3)."""
    layers = 2 if rng.random() < config.foreground else 1
    images = [read_still(stills[rng.integers(len(stills))]) for _ in range(layers)]
    camera = MovingCamera(images, frames, size, config, rng)
    return recorded(np.stack([camera.frame(i) for i in range(frames)]), look, rng)


def _decode(path: Path, short_side: int) -> Iterator[np.ndarray]:
    with open_file(str(path)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            factor = short_side / min(image.shape[:2])
            if factor < 1:
                size_wh = (round(image.shape[1] * factor), round(image.shape[0] * factor))
                image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
            yield image


def video_clips(path: Path, frames: int, size: int, count: int, rng: np.random.Generator,
                crops_per_stretch: int = 3) -> Iterator[np.ndarray]:
    """Up to `count` clips uint8 (frames, size, size, 3) from all over one video, decoded once.

    Frames are reduced to a random short side first: what a camera's codec took away is not worth learning.
    A stretch that holds a cut is left out.
    """
    short = int(rng.integers(max(size, 400), 641))
    stretch: list[np.ndarray] = []
    made = 0
    for image in _decode(path, short):
        if min(image.shape[:2]) < size:
            return
        stretch.append(image)
        if len(stretch) < frames:
            continue
        if not _has_cut(stretch):
            for _ in range(crops_per_stretch):
                y = int(rng.integers(image.shape[0] - size + 1))
                x = int(rng.integers(image.shape[1] - size + 1))
                if made < count:
                    made += 1
                    yield np.stack([f[y : y + size, x : x + size] for f in stretch])
        stretch = []
        if made >= count:
            return


def _has_cut(frames: list[np.ndarray], jump: float = 40.0) -> bool:
    small = [cv2.resize(f, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32) for f in frames]
    return max(float(np.abs(a - b).mean()) for a, b in zip(small, small[1:], strict=False)) > jump
