"""How much memory the activations of a network take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from .decoder.detail_decoder import DetailDecoder
from .models import Models

# Peak of genve-mini's live tensors in a call, float32, by torch's memory profiler on a CPU: 160 (VAE) and 316 (decoder,
# with its inputs) at 352x224 and 704x448, one and four frames; 408 for a decoder made fine, and 300 for it before that in the
# same run. Rounded up. The diffuser with its controller: see benchmarks/memory.py.
BYTES_PER_PIXEL = {"vae": 165, "decoder": 320, "fine decoder": 430, "diffuser": 80}


def activation_bytes(network: str, frames: int, size: Sequence[int], tile: int | None = None) -> int:
    """Bytes that a network's activations take for `frames` frames of `size` (..., H, W), or for one tile px a side of it."""
    pixels = size[-2] * size[-1]
    return BYTES_PER_PIXEL[network] * (tile**2 if tile is not None and pixels > tile**2 else frames * pixels)


def decoder_bytes(models: Models, frames: int, size: Sequence[int], tile: int) -> int:
    """`activation_bytes` of the decoder that decodes."""
    fine = cast(DetailDecoder, models.build(models.decoder)).fine
    return activation_bytes("fine decoder" if fine else "decoder", frames, size, tile)
