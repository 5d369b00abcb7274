"""The sound of a video file, decoded: for those who hand it on as samples. Copying packets is `encode`'s work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .source import open_video


def decode_audio(path: str | Path) -> tuple[Tensor, int] | None:
    """The first sound track: float32 (channels, samples) in [-1, 1], and samples per second. None if there is none.

    Raises InputError if the file cannot be opened.
    """
    import av

    with open_video(Path(path)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        parts = [part.to_ndarray() for frame in container.decode(stream) for part in resampler.resample(frame)]
        rate = stream.codec_context.sample_rate
    if not parts:
        return None
    return torch.from_numpy(np.concatenate(parts, axis=1)), rate
