"""The protocol's own optical flow and warping (OpenCV DIS), apart from the product's so that it never moves.

Flow is (dx, dy) in pixels, (h, w, 2) float32: `flow_a_to_b[y, x]` says where pixel (x, y) of a lies in b.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Motion(NamedTuple):
    """How frame a is found in frame b."""

    flow: np.ndarray  # a to b, (h, w, 2)
    valid: np.ndarray  # (h, w) bool: pixels that pass the forward-backward check


def dis_flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Flow a to b between RGB frames (h, w, 3) uint8: OpenCV DIS, medium preset, on grey."""
    import cv2

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    grey_a, grey_b = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (a, b))
    # a fresh object per pair: DIS would start from what it found before
    return dis.calc(grey_a, grey_b, None)  # type: ignore[call-overload]


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Backward warp: sample `image` (h, w[, c]) of frame b on a's grid, bilinear, edge pixels repeated."""
    import cv2

    h, w = flow.shape[:2]
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def checked_motion(a: np.ndarray, b: np.ndarray) -> Motion:
    """Flow a to b with the forward-backward check |f+b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5 (Sundaram et al. 2010)."""
    forward = dis_flow(a, b)
    backward = warp(dis_flow(b, a), forward)
    mismatch = np.square(forward + backward).sum(-1)
    length = np.square(forward).sum(-1) + np.square(backward).sum(-1)
    return Motion(forward, mismatch < 0.01 * length + 0.5)
