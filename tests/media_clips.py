"""Tiny clips made with PyAV directly, so that reader and writer are not tested against each other alone."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from av.filter import Graph
from torch import Tensor

from genve_core.media import VideoInfo

LOSSLESS = {"level": "3", "slicecrc": "1"}


def smooth_video(frames: int = 5, h: int = 23, w: int = 37, seed: int = 0) -> Tensor:
    """(f, 3, h, w) in [-1, 1] of soft random colours, different in every frame."""
    coarse = torch.rand(frames, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(h, w), mode="bicubic").clamp(0, 1) * 2 - 1


def moving_pattern(frames: int, h: int, w: int) -> Tensor:
    """(f, 3, h, w) in [-0.8, 0.8] of smooth waves, most of which move right by a pixel a frame."""
    ys, xs = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    waves = [torch.stack([torch.sin((xs - i) / 3), torch.cos(ys / 4), torch.sin((xs + ys - i) / 5)]) for i in range(frames)]
    return torch.stack(waves) * 0.8


def moving_frames(count: int, size: int = 64) -> np.ndarray:
    """A smooth scene that moves right by 2 pixels a frame, uint8 (count, size, size, 3)."""
    noise = np.random.default_rng(0).normal(0, 1, (size, size + 2 * count, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    scene = (127.5 + 127.5 * np.clip(smooth / np.abs(smooth).max(), -1, 1)).astype(np.uint8)
    return np.stack([scene[:, 2 * (count - i) : 2 * (count - i) + size] for i in range(count)])


def to_bytes(video: Tensor) -> np.ndarray:
    return ((video + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def plane_frame(pixel_format: str, w: int, h: int, values: list[int]) -> av.VideoFrame:
    """One flat colour, given in sample values per plane."""
    frame = av.VideoFrame(w, h, pixel_format)
    for plane, value in zip(frame.planes, values, strict=True):
        dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        np.frombuffer(plane, dtype)[:] = value
    return frame


def interlaced(frame: av.VideoFrame) -> av.VideoFrame:
    """The same picture, flagged as two fields with the top one first."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()  # type: ignore[return-value]


def moving_bars(pixel_format, frames=7, h=48, w=64):
    """Vertical bars that move 2 px a field: as woven frames, and as whole ones at the time of each first field."""
    across = np.arange(w)[None] - 2 * np.arange(2 * frames)[:, None]
    fields = np.clip(np.abs(across % 16 - 8) - 2, 0, 4) / 4 * 200 + 16  # (2 frames, w)
    whole = np.repeat(fields[::2, None], h, axis=1)
    woven = whole.copy()
    woven[:, 1::2] = fields[1::2, None]
    scale = 4 if "10" in pixel_format else 1

    def pictures(values):
        for luma in values:
            frame = plane_frame(pixel_format, w, h, [0, 128 * scale, 128 * scale])
            plane = np.frombuffer(frame.planes[0], np.uint16 if scale > 1 else np.uint8)
            plane.reshape(h, -1)[:, :w] = (luma * scale).round()
            yield frame

    return list(pictures(woven)), list(pictures(whole))


def combing(frames):
    """How much the rows of upright bars differ from their neighbours; 0 without combing."""
    x = torch.stack([f.rgb for f in frames])
    return float((x[..., 1:-1, :] - (x[..., :-2, :] + x[..., 2:, :]) / 2).abs().mean())


def write_clip(
    path: Path, pictures: list, *, codec: str = "ffv1", pixel_format: str | None = None,
    times: list[int] | None = None, time_base: Fraction = Fraction(1, 25), rate: int = 25,
    options: dict | None = None, tags: dict | None = None,
    container_options: dict | None = None, sound: str | None = None,
    container: str | None = None,
) -> Path:  # fmt: skip
    """pictures: av.VideoFrames, or (h, w, 3) bytes. tags: of the codec context. sound: an encoder."""
    frames = [p if isinstance(p, av.VideoFrame) else av.VideoFrame.from_ndarray(p, "rgb24") for p in pictures]
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = pixel_format or frames[0].format.name
        stream.codec_context.time_base = stream.time_base = time_base
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        track = _add_sound(out, sound) if sound else None
        for index, frame in enumerate(frames):
            frame = frame.reformat(format=stream.pix_fmt) if frame.format.name != stream.pix_fmt else frame
            frame.colorspace = (tags or {}).get("colorspace", frame.colorspace)
            frame.color_range = (tags or {}).get("color_range", frame.color_range)
            frame.pts, frame.time_base = (times[index] if times else index), time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if track is not None:
            _encode_sound(out, track, seconds=len(frames) / rate)
    return path


def _add_sound(out, codec: str):
    track = out.add_stream(codec, rate=48000)
    track.layout = "mono"
    return track


def _encode_sound(out, track, seconds: float) -> None:
    samples = int(48000 * seconds)
    wave = (8000 * np.sin(np.arange(samples) * 0.05)).astype(np.int16)
    for start in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set the display matrix (a, b, c, d) of an MP4's only track, as a phone does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (v << 16 for v in matrix)
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    return path


def packets(path: Path, kind: str) -> list[bytes]:
    """The coded packets of the first track of a kind."""
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.get({kind: 0})) if p.size]


def info_like(path: Path = Path("input.mp4"), **changes) -> VideoInfo:
    defaults = VideoInfo(
        path=path, width=37, height=23, frames=5, rate=Fraction(25), duration=Fraction(1, 5),
        time_base=Fraction(1, 25), variable_rate=False, codec="h264", pixel_format="yuv420p", bit_depth=8,
    )  # fmt: skip
    return replace(defaults, **changes)
