"""Clips with exact optical flow: a synthetic camera over a photograph, with a second layer that occludes it.

Real video is scarce, photographs are not (model notes). Every view is a homography of the photograph, so the
flow between any two frames, and where it is occluded, is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class CameraConfig:
    """How a synthetic camera moves. Speeds are per frame."""

    max_speed: float = 24.0  # pixels
    max_zoom: float = 0.008  # relative change of scale
    max_rotation: float = 0.6  # degrees
    max_tilt: float = 6e-5  # change of the perspective terms per frame, 1/pixel
    shake: float = 1.5  # pixels, hand-held
    foreground: float = 0.4  # share of clips with a second layer
    motion_blur: float = 0.15  # share of clips whose shutter stays open for half a frame
    static: float = 0.1  # share of clips where nothing moves


def _trajectory(frames: int, size: int, config: CameraConfig, rng: np.random.Generator) -> np.ndarray:
    """Homographies (frames, 3, 3) from view pixels to scene pixels, centred on the view."""
    t = np.arange(frames) - (frames - 1) / 2
    centre = (size - 1) / 2
    to_centre = np.array([[1, 0, -centre], [0, 1, -centre], [0, 0, 1.0]])
    if rng.random() < config.static:
        return np.tile(to_centre, (frames, 1, 1))
    speed = config.max_speed * rng.random() ** 2.5  # most real motion is slow
    angle = rng.uniform(0, 2 * np.pi)
    bend = rng.normal(0, 0.3) * speed / frames
    shake = config.shake * rng.random() * np.cumsum(rng.normal(0, 0.4, (frames, 2)), axis=0) * 0.5
    dx = speed * np.cos(angle) * t + bend * t**2 * np.sin(angle) + shake[:, 0]
    dy = speed * np.sin(angle) * t - bend * t**2 * np.cos(angle) + shake[:, 1]
    scale = np.exp(config.max_zoom * rng.normal(0, 0.5) * t)
    rotation = np.deg2rad(config.max_rotation * rng.normal(0, 0.5)) * t
    tilt = config.max_tilt * rng.normal(0, 0.5, 2)
    views = np.zeros((frames, 3, 3))
    for i in range(frames):
        c, s = scale[i] * np.cos(rotation[i]), scale[i] * np.sin(rotation[i])
        views[i] = np.array([[c, -s, dx[i]], [s, c, dy[i]], [*(tilt * t[i]), 1.0]]) @ to_centre
    return views


def _blob(size: int, rng: np.random.Generator) -> np.ndarray:
    """A soft-edged random shape, (size, size, 1) float32 in [0, 1]."""
    field = cv2.resize(rng.normal(0, 1, (5, 5)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    sharpness = rng.uniform(8, 40)
    return (0.5 + 0.5 * np.tanh(0.5 * sharpness * (field - 0.4)))[..., None].astype(np.float32)


def _fit(still: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Reduce a photograph so that its pixels are sharp, keeping room around the view."""
    smallest = min(still.shape[:2])
    factor = min(1.0, max(rng.uniform(0.35, 1.0), 1.15 * size / smallest))
    size_wh = (max(1, round(still.shape[1] * factor)), max(1, round(still.shape[0] * factor)))
    return cv2.resize(still, size_wh, interpolation=cv2.INTER_AREA) if factor < 1 else still


class MovingCamera:
    """A clip over one or two photographs: `frames` (f, size, size, 3) uint8 and exact flow between any two.

    stills: RGB uint8 (h, w, 3); the second, where given, is a layer in front that moves on its own.
    """

    def __init__(self, stills: list[np.ndarray], frames: int, size: int, config: CameraConfig,
                 rng: np.random.Generator):
        self.size, self.count = size, frames
        self.blur = rng.random() < config.motion_blur
        self.layers = []
        for depth, still in enumerate(stills[:2]):
            scene = _fit(still, size, rng)
            if rng.random() < 0.5:
                scene = np.ascontiguousarray(scene[:, ::-1])
            anchor = np.eye(3)
            anchor[0, 2] = rng.uniform(size / 2, max(size / 2, scene.shape[1] - size / 2))
            anchor[1, 2] = rng.uniform(size / 2, max(size / 2, scene.shape[0] - size / 2))
            views = anchor @ _trajectory(frames, size, config, rng)
            # the mask lives in the view of the middle frame and moves with its layer
            mask = _blob(size, rng) if depth else None
            self.layers.append((scene, views, mask))

    def _view(self, image: np.ndarray, view: np.ndarray, border: int) -> np.ndarray:
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(image, view, (self.size, self.size), flags=flags, borderMode=border)

    def _mask(self, depth: int, i: float) -> np.ndarray:
        _, _, mask = self.layers[depth]
        if mask is None:  # the layer behind all others is everywhere
            return np.ones((self.size, self.size, 1), np.float32)
        back = np.linalg.inv(self._at(depth, self.count // 2)) @ self._at(depth, i)
        return self._view(mask[..., 0], back, cv2.BORDER_CONSTANT)[..., None].clip(0, 1)

    def _at(self, depth: int, i: float) -> np.ndarray:
        views = self.layers[depth][1]
        low = min(int(i), self.count - 1)
        high = min(low + 1, self.count - 1)
        return views[low] + (i - low) * (views[high] - views[low])

    def _render(self, i: float) -> np.ndarray:
        image = self._view(self.layers[0][0], self._at(0, i), cv2.BORDER_REFLECT_101).astype(np.float32)
        for depth in range(1, len(self.layers)):
            mask = self._mask(depth, i)
            front = self._view(self.layers[depth][0], self._at(depth, i), cv2.BORDER_REFLECT_101)
            image += mask * (front - image)
        return image

    def frame(self, i: int) -> np.ndarray:
        """Frame i, RGB uint8 (size, size, 3)."""
        times = [i + s / 8 for s in range(-2, 3)] if self.blur else [i]
        image = np.mean([self._render(min(max(t, 0), self.count - 1)) for t in times], axis=0)
        return image.round().clip(0, 255).astype(np.uint8)

    def flow(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact flow frame i -> frame j, (2, size, size) pixels, and its validity (1, size, size), 0 or 1.

        Invalid: outside frame j, hidden by the other layer in j, or on the soft edge of a layer in i or j.
        The flow itself is that of the point's own layer, also where it is hidden.
        """
        ys, xs = np.mgrid[: self.size, : self.size].astype(np.float64)
        points = np.stack([xs, ys, np.ones_like(xs)])
        flow = np.zeros((2, self.size, self.size), np.float32)
        valid = np.zeros((1, self.size, self.size), np.float32)
        for depth in range(len(self.layers)):
            to_j = np.linalg.inv(self._at(depth, j)) @ self._at(depth, i)
            x, y, z = np.einsum("ab,bhw->ahw", to_j, points)
            layer_flow = np.stack([x / z - xs, y / z - ys]).astype(np.float32)
            mine = self._mask(depth, i)[..., 0] > 0.5
            flow = np.where(mine, layer_flow, flow)
            px, py = (xs + layer_flow[0]).astype(np.float32), (ys + layer_flow[1]).astype(np.float32)
            edge = 1e-3  # rounding must not cost a still camera its border
            seen = (np.minimum(px, py) >= -edge) & (np.maximum(px, py) <= self.size - 1 + edge)
            if len(self.layers) > 1:  # in j the point must belong to the layer it came from
                front = cv2.remap(self._mask(1, j)[..., 0], px, py, cv2.INTER_LINEAR)
                here = self._mask(1, i)[..., 0]
                seen &= (front > 0.95) & (here > 0.95) if depth else (front < 0.05) & (here < 0.05)
            valid = np.where(mine, seen, valid)
        return flow, valid.astype(np.float32)
