"""Metrics of pretrained networks through pyiqa, for machines that can fetch its weights. None is needed by the protocol."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import InputError

# name here -> (name in pyiqa, compares with the truth)
PERCEPTUAL = {
    "lpips": ("lpips", True),
    "dists": ("dists", True),
    "musiq": ("musiq", False),
    "clip-iqa": ("clipiqa", False),
    "dover": ("dover", False),
}


class Perceptual:
    """One such metric, loaded once. Raises InputError where pyiqa, this metric in it, or its weights are missing."""

    def __init__(self, name: str, device: str = "cpu"):
        if name not in PERCEPTUAL:
            raise InputError(f"metric {name!r} is unknown; choose from {', '.join(PERCEPTUAL)}")
        try:
            import pyiqa  # type: ignore[import-not-found]
        except ImportError as error:
            raise InputError(f'metric {name} needs pyiqa; install it with pip install "genve[metrics]"') from error
        known, self.needs_truth = PERCEPTUAL[name]
        if known not in pyiqa.list_models():
            raise InputError(f"metric {name} is not in pyiqa {pyiqa.__version__}; leave it out")
        try:
            self.metric, self.device = pyiqa.create_metric(known, device=torch.device(device)), device
        except OSError as error:
            raise InputError(f"the weights of metric {name} cannot be fetched ({error}); leave it out") from error

    @torch.inference_mode()
    def __call__(self, result: np.ndarray, truth: np.ndarray | None) -> float | None:
        """Mean over frames (f, h, w, 3) uint8; None where a truth is needed and there is none."""
        if self.needs_truth and truth is None:
            return None
        pairs = zip(result, truth) if self.needs_truth and truth is not None else ((frame,) for frame in result)
        return float(np.mean([float(self.metric(*(self._input(frame) for frame in pair))) for pair in pairs]))

    def _input(self, frame: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None].float() / 255
