"""Keeping the input's colours: the result may invent detail, but not another white balance or brightness.

"low": the low frequencies of each frame are those of the up-sampled input ("wavelet colour fix" in other
work, here with one Gaussian split), give or take `tolerance`: a codec moves colours by a grey level or two itself, and a
good reference knows better. The low-pass is tied to the input's own frames, so it cannot flicker more than the input does. A
grey input stays grey: networks draw thin coloured fringes into old films.
"adain": mean and deviation per channel, measured over the whole clip; per-frame statistics would flicker.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Method = Literal["low", "adain", "none"]

# Deviation of a frame's colours, in [-1, 1] units, from which on it is in colour. A compressed black-and-white film has up
# to 0.3 grey levels of 255, nine clips in colour have 4.5 and more.
COLOURFUL = 2 / 127.5


@dataclass(frozen=True)
class ColourConfig:
    method: Method = "low"
    sigma: float = 1 / 16  # of the Gaussian, in shorter sides of the frame; smaller keeps more of the input
    tolerance: float = 2.0  # of "low": grey levels of 255 by which the result may differ; 0 = not at all

    def __post_init__(self) -> None:
        if self.method not in ("low", "adain", "none"):
            raise ValueError(f"colour method must be low, adain or none, got {self.method!r}")
        if not 0 < self.sigma <= 1:
            raise ValueError(f"sigma must be in (0, 1] of the shorter side, got {self.sigma}")
        if self.tolerance < 0:
            raise ValueError(f"tolerance must be 0 grey levels or more, got {self.tolerance}")


class ColourMatch:
    """Give a clip's frames the colours of its up-sampled input, chunk by chunk.

    "adain" needs a first pass of `observe` over all chunks; "low" and "none" need none. `strength` 0 changes
    nothing.
    """

    def __init__(self, config: ColourConfig = ColourConfig()):
        self.config = config
        self._result, self._input = ClipStatistics(), ClipStatistics()

    @property
    def needs_first_pass(self) -> bool:
        return self.config.method == "adain"

    def observe(self, result: Tensor, upsampled: Tensor) -> None:
        """First pass: add one chunk, both (f, 3, h, w) in [-1, 1], to the clip's statistics."""
        self._result.add(result)
        self._input.add(upsampled)

    def apply(self, result: Tensor, upsampled: Tensor, strength: float = 1.0) -> Tensor:
        """One chunk, both (f, 3, h, w) in [-1, 1]; returns the same shape and type, clipped to [-1, 1].

        Raises ValueError on unequal shapes, and for "adain" before anything was observed.
        """
        if result.shape != upsampled.shape:
            raise ValueError(
                f"upsampled must be {tuple(result.shape)} like result, got {tuple(upsampled.shape)}"
            )
        if self.config.method == "none" or strength == 0:
            return result
        x, reference = result.float(), upsampled.float()
        if self.config.method == "low":
            change = F.softshrink(low_pass(reference - x, self.config.sigma), self.config.tolerance / 127.5)
            greyness = 1 - colourfulness(reference)
            if greyness.any():
                change -= greyness * chroma(x + change - reference)
        else:
            change = self._adain(x) - x
        return (x + strength * change).clamp(-1, 1).to(result.dtype)

    def _adain(self, x: Tensor) -> Tensor:
        if not self._result.count:
            raise ValueError(
                "adain needs the clip's statistics, but nothing was observed; call observe() first"
            )
        scale = self._input.deviation / self._result.deviation.clamp(min=1e-4)
        mean, wanted = self._result.mean, self._input.mean
        shift, scale = ((v.float().to(x.device).view(1, 3, 1, 1)) for v in (wanted - mean * scale, scale))
        return x * scale + shift


def chroma(x: Tensor) -> Tensor:
    """What makes (f, 3, h, w) differ from grey: the channels without their mean."""
    return x - x.mean(1, keepdim=True)


def colourfulness(x: Tensor) -> Tensor:
    """0 for grey frames (f, 3, h, w) or frames of one tint, 1 for frames in colour, (f, 1, 1, 1). See `COLOURFUL`."""
    deviation = chroma(x[..., ::4, ::4]).std(dim=(2, 3), correction=0).square().mean(1).sqrt()
    return (deviation / COLOURFUL).clamp(max=1).view(-1, 1, 1, 1)


class ClipStatistics:
    """Mean and deviation per channel over every pixel of a clip, gathered in chunks; independent of the
    chunking.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = torch.zeros(3, dtype=torch.float64)
        self._squares = torch.zeros(3, dtype=torch.float64)

    def add(self, frames: Tensor) -> None:
        """frames: (f, 3, h, w)."""
        x = frames.detach().double()
        self.count += x.numel() // 3
        self._sum += x.sum(dim=(0, 2, 3)).cpu()
        self._squares += x.square().sum(dim=(0, 2, 3)).cpu()

    @property
    def mean(self) -> Tensor:
        return self._sum / self.count

    @property
    def deviation(self) -> Tensor:
        return (self._squares / self.count - self.mean.square()).clamp(min=0).sqrt()


def grey_levels(frames: Tensor) -> Tensor:
    """Luma of RGB frames (n, 3, h, w) in [-1, 1]: (n, h, w) float32 in [0, 255], not rounded."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=frames.device).view(3, 1, 1)
    return ((frames.float() + 1) * 127.5 * weights).sum(1)


def low_pass(x: Tensor, sigma: float) -> Tensor:
    """Gaussian low-pass of (f, c, h, w), borders mirrored; sigma as a fraction of the shorter side.

    Wide Gaussians are taken on a box-reduced picture and brought back bilinearly: within one grey level of
    the same, much faster.
    """
    h, w = x.shape[-2:]
    pixels = sigma * min(h, w)
    reduce = max(1, int(pixels / 6))
    if reduce > 1:
        small = F.interpolate(x, size=(-(-h // reduce), -(-w // reduce)), mode="area")
        # The box blurs by a variance of 1/12, the bilinear step by 1/6 small pixels: this does the rest.
        small = gaussian(small, ((pixels / reduce) ** 2 - 0.25) ** 0.5)
        return F.interpolate(small, size=(h, w), mode="bilinear", align_corners=False)
    return gaussian(x, pixels)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Gaussian low-pass of (f, c, h, w), borders mirrored; sigma in pixels."""
    radius = max(1, round(3 * sigma))
    at = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / max(sigma, 1e-3)) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    f, c, h, w = x.shape
    x = F.conv2d(_mirror(x, radius, -1).reshape(f * c, 1, h, -1), kernel)
    x = F.conv2d(_mirror(x, radius, -2), kernel.transpose(2, 3))
    return x.reshape(f, c, h, w)


def _mirror(x: Tensor, radius: int, dim: int) -> Tensor:
    """Reflect at the borders, edge pixel included, as often as a small picture needs."""
    size = x.shape[dim]
    at = torch.arange(-radius, size + radius, device=x.device) % (2 * size)
    return x.index_select(dim, torch.where(at < size, at, 2 * size - 1 - at))
