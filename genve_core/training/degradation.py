"""Random degradation of clips: two stages with random-walk parameters, and a real codec round trip.

Values follow the RealBasicVSR family (field notes, C7). Every step is a pure function of a video and of numbers
drawn from one `numpy.random.Generator`, in torch operations, so it runs where the video lies; only the codec
runs on the CPU (`codec=False` replaces it by JPEG when clips are degraded on a GPU).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels
from .damage import damage


@dataclass(frozen=True)
class DegradationConfig:
    """Shares and ranges. Noise is in grey levels of 255, blur in pixels of the full-size frame at scale 4."""

    mild: float = 0.6  # share of clips with one stage near what cameras and web sites do
    clean: float = 0.1  # share of clips that are only made smaller
    damaged: float = 0.0  # share of clips that are worn film or badly woven fields before anything else happens to them
    mild_blur: tuple[float, float] = (0.8, 2.4)
    mild_noise: tuple[float, float] = (0.0, 12.0)
    crf: tuple[int, int] = (20, 34)  # libx264
    blocky: float = 0.0  # share of encoded clips whose codec is old or in haste and leaves its blocks as they are, see `BLOCKY`
    aliased: float = 0.0  # share of mild clips made smaller as fields and cheap cameras are, with steps in long edges
    sharpened: float = 0.0  # share of mild clips that the camera sharpened at their own size, with rims at edges
    sharpening: tuple[float, float] = (0.3, 1.2)  # times what a Gaussian takes away
    radius: tuple[float, float] = (0.6, 1.2)  # its sigma in pixels of the small frame
    wide_noise: tuple[float, float] = (1.0, 25.0)
    wide_jpeg: tuple[float, float] = (30.0, 95.0)


# Codecs without a filter for their blocks' edges, and their quantiser (of libx264: crf) from good to poor.
BLOCKY = {"mpeg2video": (4, 14), "mpeg4": (4, 12), "mjpeg": (4, 14), "libx264": (25, 37)}


def drawn(rng: np.random.Generator, share: float) -> bool:
    """Whether something happens to this clip; what is switched off (0) changes no other draw."""
    return share > 0 and rng.random() < share


def walk(start: float, step: float, frames: int, low: float, high: float, rng: np.random.Generator) -> Tensor:
    """A parameter that drifts from frame to frame by up to `step`, kept in [low, high]: (frames,)."""
    values = start + np.concatenate([[0.0], np.cumsum(rng.uniform(-step, step, frames - 1))])
    return torch.from_numpy(values.clip(low, high)).float()


def random_blur(video: Tensor, sigma: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """Blur with a random kind of kernel whose widths and angle walk over the frames."""
    f, device = len(video), video.device
    kind = rng.choice(kernels.KINDS, p=[0.62, 0.14, 0.14, 0.1])
    if kind == "sinc":
        return kernels.blur(video, kernels.sinc(rng.uniform(np.pi / 3, np.pi), 13, device))
    sx = rng.uniform(*sigma)
    sy = sx if rng.random() < 0.7 else rng.uniform(*sigma)
    beta = rng.uniform(0.5, 4) if kind == "generalised" else rng.uniform(1, 2)
    angle = walk(rng.uniform(-np.pi, np.pi), 0.314, f, -10, 10, rng)
    width_x, width_y = (walk(s, 0.02, f, sigma[0], sigma[1], rng).to(device) for s in (sx, sy))
    size = kernels.gaussian_size(max(sx, sy))
    return kernels.blur(video, kernels.anisotropic(width_x, width_y, angle.to(device), str(kind), beta, size))


def add_grain(video: Tensor, level: tuple[float, float], step: float, rng: np.random.Generator) -> Tensor:
    """Gaussian or signal-dependent noise, in colour or grey, whose strength walks over the frames."""
    f, c, h, w = video.shape
    sigma = walk(rng.uniform(*level), step, f, level[0], level[1], rng).view(f, 1, 1, 1) / 127.5
    channels = 1 if rng.random() < 0.4 else c
    grain = torch.from_numpy(rng.standard_normal((f, channels, h, w), dtype=np.float32)).to(video.device)
    strength = sigma.to(video.device)
    if rng.random() < 0.4:  # shot noise: stronger where it is brighter
        strength = strength * ((video + 1) / 2).clamp(0, 1).mean(1, keepdim=True).sqrt() * 1.4
    return video + strength * grain


def resize(video: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """Resample frames to `size` = (h, w) by 'area', 'bilinear' or 'bicubic', antialiased when shrinking."""
    if video.shape[-2:] == tuple(size):
        return video
    if kind == "area" and size[0] < video.shape[-2]:
        return F.interpolate(video, size=size, mode="area")
    mode = "bilinear" if kind == "area" else kind
    return F.interpolate(video, size=size, mode=mode, align_corners=False, antialias=True)


def alias(video: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Reduce frames to `size` and leave lines out unfiltered: a field alone, every third pixel, or a field made a frame again.

    What is kept lies in the middle of what is left out, so nothing moves.
    """
    h, w = size
    kind = rng.choice(["field", "decimated", "doubled"])
    if kind == "field":
        return resize(video, (3 * h, w), "area")[..., 1::3, :]
    if kind == "decimated":
        return resize(video, (3 * h, 3 * w), "area")[..., 1::3, 1::3]
    return resize(resize(video, (3 * (h // 2), w), "area")[..., 1::3, :], size, "bilinear")


def jpeg(video: Tensor, quality: Tensor) -> Tensor:
    """JPEG compression on the video's device; quality (f,) in [1, 100]."""
    from kornia.enhance import jpeg_codec_differentiable

    h, w = video.shape[-2:]
    padded = F.pad(video, (0, -w % 16, 0, -h % 16), mode="replicate")
    out = jpeg_codec_differentiable(((padded + 1) / 2).clamp(0, 1), quality.to(video.device))
    return out[..., :h, :w] * 2 - 1


def quantise(video: Tensor) -> Tensor:
    """Round to 8 bit."""
    return ((video + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def codec_round_trip(video: Tensor, quantiser: int, codec: str = "libx264", preset: str = "medium") -> Tensor:
    """Encode and decode a clip (f, 3, h, w) in memory as 4:2:0 video; odd sides are padded and cropped back.

    quantiser: crf of libx264, else what every block is quantised with.   preset: of libx264; "ultrafast" leaves its blocks.
    """
    import av

    h, w = video.shape[-2:]
    padded = F.pad(video, (0, w % 2, 0, h % 2), mode="replicate")
    frames = ((padded + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        fixed = {"qmin": str(quantiser), "qmax": str(quantiser)}
        stream.options = {**({"crf": str(quantiser), "preset": preset} if codec == "libx264" else fixed), "threads": "1"}
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as source:
        back = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    decoded = torch.from_numpy(np.stack(back)).permute(0, 3, 1, 2).to(video.device, torch.float32)
    return (decoded / 127.5 - 1)[..., :h, :w]


def _compress(video: Tensor, config: DegradationConfig, rng: np.random.Generator, codec: bool) -> Tensor:
    if not codec:
        return jpeg(video, walk(rng.uniform(*config.wide_jpeg), 3, len(video), *config.wide_jpeg, rng))
    if drawn(rng, config.blocky):
        name = str(rng.choice(list(BLOCKY)))
        return codec_round_trip(video, int(rng.integers(BLOCKY[name][0], BLOCKY[name][1] + 1)), name, preset="ultrafast")
    return codec_round_trip(video, int(rng.integers(config.crf[0], config.crf[1] + 1)),
                            preset=str(rng.choice(["medium", "veryfast"])))


def _stage(video: Tensor, sigma: tuple[float, float], scale: tuple[float, float], config: DegradationConfig,
           rng: np.random.Generator) -> Tensor:
    video = random_blur(video, sigma, rng)
    factor = rng.uniform(*scale)
    size = (max(16, round(video.shape[-2] * factor)), max(16, round(video.shape[-1] * factor)))
    video = resize(video, size, str(rng.choice(["area", "bilinear", "bicubic"])))
    video = add_grain(video, config.wide_noise, 0.1, rng)
    return jpeg(video, walk(rng.uniform(*config.wide_jpeg), 3, len(video), *config.wide_jpeg, rng))


def degrade(video: Tensor, scale: int, config: DegradationConfig, rng: np.random.Generator,
            codec: bool = True) -> Tensor:
    """Make a clip poor.

    video: (f, 3, h, w) in [-1, 1], h and w multiples of `scale`.   codec: a real codec round trip (CPU), else JPEG.
    Returns (f, 3, h / scale, w / scale) in [-1, 1], rounded to 8 bit.
    """
    size = (video.shape[-2] // scale, video.shape[-1] // scale)
    if drawn(rng, config.damaged):
        video = damage(video, scale, rng)
    draw = rng.random()
    if draw < config.clean:
        return quantise(resize(video, size, "bicubic"))
    if draw < config.clean + config.mild:
        low, high = (s * (scale / 4) ** 0.5 for s in config.mild_blur)
        sigma = rng.uniform(low, high)
        soft = kernels.gaussian_blur(video, sigma)
        if drawn(rng, config.aliased):
            small = alias(soft, size, rng)
        else:
            small = resize(soft, size, str(rng.choice(["area", "area", "bicubic", "bilinear"])))
        small = add_grain(small, config.mild_noise, 0.1, rng)
        if drawn(rng, config.sharpened):
            small = kernels.sharpen(small, rng.uniform(*config.sharpening), rng.uniform(*config.radius))
        return quantise(_compress(quantise(small), config, rng, codec) if rng.random() < 0.9 else small)
    step = scale**0.5  # two stages share the reduction
    poor = _stage(video, (0.2, 3.0), (0.7 / step, 1.2 / step), config, rng)
    poor = _stage(poor, (0.2, 1.5), (0.7, 1.2), config, rng)
    poor = resize(poor, size, str(rng.choice(["area", "bilinear", "bicubic"])))
    return quantise(_compress(quantise(poor), config, rng, codec))
