"""Windows: a long clip is denoised in overlapping pieces, whose clean-latent estimates are fused.

Pure integers in, `range`s of absolute frames out. The noise of a frame depends on the frame alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class WindowConfig:
    """How a long clip is cut. Lengths are in frames."""

    length: int = 16  # frames denoised together; the motion modules were trained at 16
    overlap: int = 4  # frames shared by neighbours and cross-faded

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length:
            raise InputError(f"need 0 <= overlap < window length, got {self.overlap} and {self.length}")


def windows(frames: int, config: WindowConfig = WindowConfig()) -> list[range]:
    """Cut frames 0 to `frames` - 1 into windows of `config.length` that share `config.overlap`.

    The last window is shifted back to have full length, and so may share more. A clip no longer than a
    window is one window.
    Raises InputError if there are no frames.
    """
    if frames < 1:
        raise InputError(f"a clip needs at least 1 frame, got {frames}")
    if frames <= config.length:
        return [range(frames)]
    last = frames - config.length
    starts = [*range(0, last, config.length - config.overlap), last]
    return [range(start, start + config.length) for start in starts]


def window_weights(spans: Sequence[range]) -> list[Tensor]:
    """One weight per frame of each window, float32 (len(span),): a triangle, scaled to sum to 1 at a frame.

    A frame that lies in one window only has weight 1 there.
    """
    raw = [torch.tensor([min(i + 1, len(s) - i) for i in range(len(s))], dtype=torch.float32) for s in spans]
    total = torch.zeros(max(s.stop for s in spans))
    for span, weight in zip(spans, raw, strict=True):
        total[span.start : span.stop] += weight
    return [weight / total[span.start : span.stop] for span, weight in zip(spans, raw, strict=True)]


def fuse(parts: Sequence[Tensor], spans: Sequence[range], weights: Sequence[Tensor], frames: int) -> Tensor:
    """Blend windows to one clip.

    parts: one (b, len(span), c, h, w) per span.   weights: from `window_weights`.
    Returns (b, frames, c, h, w), summed in float32, in the dtype of the parts.
    Raises ValueError if a part does not fit its span, or the spans do not reach from 0 to `frames`.
    """
    covered = {i for span in spans for i in span}
    if covered != set(range(frames)):
        raise ValueError(f"the windows must hold frames 0 to {frames - 1}, got {list(spans)}")
    first = parts[0]
    out = first.new_zeros((first.shape[0], frames, *first.shape[2:]), dtype=torch.float32)
    for part, span, weight in zip(parts, spans, weights, strict=True):
        if part.shape[1] != len(span):
            raise ValueError(f"window {span} must have {len(span)} frames, got {part.shape[1]}")
        column = weight.to(part.device).view(1, -1, 1, 1, 1)
        out[:, span.start : span.stop] += column * part.float()
    return out.to(first.dtype)


def frame_noise(shape_per_frame: Sequence[int], frames: range, seed: int, stream: str) -> Tensor:
    """Gaussian noise (len(frames), *shape_per_frame), float32, on the CPU.

    Each frame's noise depends only on (seed, stream, absolute frame): not on the window or chunk in which it
    is asked for, nor on the device that will use it. `stream` names the purpose: two
    purposes never share noise.
    """
    def draw(frame: int) -> Tensor:
        digest = hashlib.blake2b(f"{seed}/{stream}/{frame}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        return torch.randn(tuple(shape_per_frame), generator=generator)

    # torch draws with one thread, which a GPU would wait for
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        return torch.stack(list(pool.map(draw, frames)))
