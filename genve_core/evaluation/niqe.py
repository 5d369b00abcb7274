"""NIQE: how far a picture's statistics lie from those of good photographs (Mittal et al. 2013). Lower is better.

The parameters of the good photographs (mean and covariance of 36 features) come from a file; see `load_model`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError

PATCH = 96  # pixels a side at the first scale, half of it at the second
WINDOW_SIGMA = 7 / 6  # of the 7x7 Gaussian window, section II-A
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, columns): horizontal, vertical, two diagonals


class NiqeModel(NamedTuple):
    """The multivariate Gaussian of good photographs."""

    mean: np.ndarray  # (36,)
    covariance: np.ndarray  # (36, 36)


def load_model(path: Path) -> NiqeModel:
    """Read an .npz with `mu_pris_param` (36 numbers) and `cov_pris_param` (36, 36). Raises InputError otherwise."""
    try:
        with np.load(path) as arrays:
            model = NiqeModel(arrays["mu_pris_param"].reshape(36), arrays["cov_pris_param"].reshape(36, 36))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"NIQE parameters {path} cannot be used ({error}); give niqe_pris_params.npz") from error
    return model


def niqe(frames: np.ndarray, model: NiqeModel) -> float:
    """Mean NIQE of uint8 RGB frames (f, h, w, 3). Raises InputError below 96x192 px: two patches are needed."""
    import cv2

    return float(np.mean([niqe_grey(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), model) for frame in frames]))


def niqe_grey(grey: np.ndarray, model: NiqeModel) -> float:
    """NIQE of one grey picture (h, w) in [0, 255], by Eq. 10 of the paper."""
    rows, columns = (side // PATCH for side in grey.shape)
    if rows * columns < 2:
        h, w = grey.shape
        raise InputError(f"NIQE needs two patches of {PATCH}x{PATCH} px, got a picture of {w}x{h} px")
    first = grey[: rows * PATCH, : columns * PATCH].astype(np.float64)
    features = np.hstack([patch_features(mscn(first), PATCH), patch_features(mscn(_half(first)), PATCH // 2)])
    features = features[np.isfinite(features).all(1)]  # a flat patch has no statistics
    if len(features) < 2:
        return float("nan")
    difference = model.mean - features.mean(0)
    pooled = (model.covariance + np.cov(features, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def _half(grey: np.ndarray) -> np.ndarray:
    """Antialiased bicubic reduction by 2, as the authors' imresize (a = -0.5)."""
    import torch
    import torch.nn.functional as F

    x = torch.from_numpy(grey)[None, None]
    size = (grey.shape[0] // 2, grey.shape[1] // 2)
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)[0, 0].numpy()


def mscn(grey: np.ndarray) -> np.ndarray:
    """Mean-subtracted, contrast-normalised coefficients (h, w), Eq. 1 to 3."""
    import cv2

    def local(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (7, 7), WINDOW_SIGMA, borderType=cv2.BORDER_REPLICATE)

    mean = local(grey)
    deviation = np.sqrt(np.abs(local(grey * grey) - mean * mean))
    return (grey - mean) / (deviation + 1)


def patch_features(coefficients: np.ndarray, patch: int) -> np.ndarray:
    """18 features of every patch, (patches, 18): shape and spread of the coefficients, then shape, mean, left and right
    spread of the products of neighbours in four directions (Eq. 4 to 8)."""
    h, w = coefficients.shape
    tiles = coefficients.reshape(h // patch, patch, w // patch, patch).swapaxes(1, 2).reshape(-1, patch, patch)
    shape, left, right = fit_aggd(tiles)
    columns = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = fit_aggd(tiles * np.roll(tiles, shift, axis=(1, 2)))
        gamma = _gammas()
        spread = np.interp(shape, gamma.alpha, gamma.of_2 / gamma.of_1)
        columns += [shape, (right - left) * spread, left, right]
    return np.stack(columns, axis=1)


def fit_aggd(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an asymmetric generalised Gaussian to each tile (n, h, w) by moments (Lasmar et al. 2009).

    Returns (shape, left scale, right scale), each (n,); NaN for a tile without negative or positive values.
    """
    x = tiles.reshape(len(tiles), -1)
    with np.errstate(all="ignore"):
        left, right = (np.sqrt((x**2 * side).sum(1) / side.sum(1)) for side in (x < 0, x > 0))
        balance = left / right
        ratio = np.abs(x).mean(1) ** 2 / (x**2).mean(1)
        ratio = ratio * (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    gamma = _gammas()
    # gamma.ratio grows with alpha, so the nearest entry is an interpolation
    shape = np.where(np.isfinite(ratio), np.interp(ratio, gamma.ratio, gamma.alpha), np.nan)
    scale = np.interp(shape, gamma.alpha, np.sqrt(gamma.of_1 / gamma.of_3))
    return shape, left * scale, right * scale


class _Gammas(NamedTuple):
    """Gamma(k / alpha) over the grid of shapes that the authors search."""

    alpha: np.ndarray
    of_1: np.ndarray
    of_2: np.ndarray
    of_3: np.ndarray
    ratio: np.ndarray  # Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)): what (E|x|)^2 / E[x^2] is for a shape


@lru_cache(maxsize=1)
def _gammas() -> _Gammas:
    from math import gamma

    alpha = np.arange(0.2, 10.0005, 0.001)
    of_1, of_2, of_3 = (np.array([gamma(k / a) for a in alpha]) for k in (1, 2, 3))
    return _Gammas(alpha, of_1, of_2, of_3, of_2**2 / (of_1 * of_3))
