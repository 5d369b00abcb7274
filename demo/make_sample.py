"""Make a poor clip whose truth is known: a camera moves over a photograph, then optics, sensor and codec spoil it.

    python demo/make_sample.py out/demo

leaves sample.mp4 (the poor clip), truth/ (the good frames) and key_frame.png (the good frame of KEY_FRAME). The
photograph is scikit-image's `astronaut`: Eileen Collins, by NASA, in the public domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import cv2
import numpy as np

FRAMES, RATE = 32, 25
WIDTH, HEIGHT = 448, 320  # of the truth; the clip has a quarter of it
KEY_FRAME = FRAMES // 2
SCALE = 4
BLUR = 1.6  # sigma in pixels of the truth
NOISE = 6.0  # sigma in grey levels, on the small frame
CRF = 28


def camera(frames: int) -> np.ndarray:
    """Centre x, y and zoom of each view, (frames, 3), in pixels of the photograph; slow at both ends.

    The camera sinks from the face to the badge and draws back a little. Zoom is photograph pixels per view pixel.
    """
    t = np.linspace(0, 1, frames)
    ease = (1 - np.cos(np.pi * t)) / 2
    return np.stack([230 + 30 * ease, 165 + 80 * ease, 1.0 + 0.1 * ease], axis=1)


def render(photograph: np.ndarray, views: np.ndarray) -> np.ndarray:
    """What the camera sees: photograph (h, w, 3) uint8, views (f, 3) -> (f, HEIGHT, WIDTH, 3) uint8, cubic."""
    frames = []
    for x, y, zoom in views:
        to_photograph = np.array([[zoom, 0, x - zoom * (WIDTH - 1) / 2], [0, zoom, y - zoom * (HEIGHT - 1) / 2]])
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(photograph, to_photograph, (WIDTH, HEIGHT), flags=how, borderMode=cv2.BORDER_REFLECT))
    return np.stack(frames)


def spoil(frames: np.ndarray) -> np.ndarray:
    """Blur, a quarter of the size, sensor noise: (f, h, w, 3) uint8 -> (f, h/4, w/4, 3) uint8."""
    rng = np.random.default_rng(0)
    size = (frames.shape[2] // SCALE, frames.shape[1] // SCALE)
    blurred = (cv2.GaussianBlur(frame.astype(np.float32), (0, 0), BLUR) for frame in frames)
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in blurred])
    return np.clip(np.rint(small + rng.normal(0, NOISE, small.shape)), 0, 255).astype(np.uint8)


def compress(frames: np.ndarray, path: Path) -> None:
    """Write H.264 that is visibly compressed. x264, on one thread and without assembler, gives the same everywhere."""
    with av.open(str(path), "w") as container:
        options = {"crf": str(CRF), "x264-params": "no-asm=1:threads=1"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def make_sample(folder: Path, frames: int = FRAMES) -> None:
    """Write sample.mp4, truth/ and key_frame.png into `folder`."""
    from PIL import Image
    from skimage.data import astronaut

    (folder / "truth").mkdir(parents=True, exist_ok=True)
    truth = render(astronaut(), camera(frames))
    for index, frame in enumerate(truth):
        Image.fromarray(frame).save(folder / "truth" / f"{index:03d}.png")
    Image.fromarray(truth[frames // 2]).save(folder / "key_frame.png")
    compress(spoil(truth), folder / "sample.mp4")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a poor clip whose truth is known.")
    parser.add_argument("folder", type=Path, help="where to write sample.mp4, truth/ and key_frame.png")
    out = parser.parse_args().folder
    make_sample(out)
    print(f"{out / 'sample.mp4'}: {FRAMES} frames, {WIDTH // SCALE}x{HEIGHT // SCALE} px; its key frame is {KEY_FRAME}")
