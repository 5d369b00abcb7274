"""The methods that protocol v1 compares, behind one form.

`method(low, scale, reference)`: low (f, h, w, 3) uint8, scale an int, reference None or (image (H, W, 3) uint8 of the
result's size, key frame index) -> (f, scale h, scale w, 3) uint8. `uses_reference` says whether the setting matters.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import InputError
from ..media.eight_bit import as_bytes, to_video
from .motion import checked_motion, warp
from .protocol import read_frames

Reference = tuple[np.ndarray, int]
LOW_FREQUENCY_SIGMA = 6.0  # pixels; flow-warp takes what is coarser from the input


class Method(Protocol):
    """What the runner calls."""

    uses_reference: bool

    def __call__(self, low: np.ndarray, scale: int, reference: Reference | None = None) -> np.ndarray: ...


class Bicubic:
    """OpenCV's bicubic interpolation (a = -0.75): the floor."""

    uses_reference = False

    def __call__(self, low: np.ndarray, scale: int, reference: Reference | None = None) -> np.ndarray:
        import cv2

        size = (low.shape[2] * scale, low.shape[1] * scale)
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in low])


class RealESRGAN:
    """Any single-image up-scaler that spandrel loads; the protocol's is realesr-animevideov3 (x4), frame by frame.

    Where less is asked for than it enlarges, its frames are area-reduced, where more is, enlarged (bicubic), as its users do.
    """

    uses_reference = False

    def __init__(self, weights: Path, device: str = "cpu"):
        try:
            from spandrel import ImageModelDescriptor, ModelLoader
        except ImportError as error:
            raise InputError('method realesrgan needs spandrel; install it with pip install "genve[evaluate]"') from error
        if not Path(weights).is_file():
            raise InputError(f"Real-ESRGAN weights {weights} do not exist; give a .pth by --realesrgan-weights")
        try:
            model = ModelLoader(device).load_from_file(str(weights))
        except Exception as error:  # spandrel passes on whatever the unpickler met
            raise InputError(f"{weights} is no up-scaler that spandrel knows ({error}); give another file") from error
        if not isinstance(model, ImageModelDescriptor):
            raise InputError(f"{weights} holds a {type(model).__name__}; give a single-image up-scaler")
        self.model, self.device = model.eval(), device

    @torch.inference_mode()
    def __call__(self, low: np.ndarray, scale: int, reference: Reference | None = None) -> np.ndarray:
        return np.stack([self._one(frame, scale) for frame in low])

    def _one(self, frame: np.ndarray, scale: int) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None].float() / 255
        enlarged = self.model(x).clamp(0, 1)
        if self.model.scale != scale:
            size = (scale * frame.shape[0], scale * frame.shape[1])
            mode = "area" if scale < self.model.scale else "bicubic"
            enlarged = torch.nn.functional.interpolate(enlarged, size=size, mode=mode).clamp(0, 1)
        return (enlarged[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()


class FlowWarp:
    """The good frame warped onto every frame: what one gets without a network.

    OpenCV DIS on the bicubic frames with the forward-backward check; low frequencies from the input; bicubic where
    the flow is invalid.
    """

    uses_reference = True

    def __call__(self, low: np.ndarray, scale: int, reference: Reference | None = None) -> np.ndarray:
        if reference is None:
            raise InputError("flow-warp has no reference to warp; use it in the setting one-good-frame")
        image, key = reference
        frames = Bicubic()(low, scale)
        if image.shape != frames.shape[1:] or not 0 <= key < len(frames):
            raise InputError(
                f"the reference is {image.shape} at frame {key}, but must be {frames.shape[1:]} at one of {len(frames)} frames"
            )
        result = [self._carry(image, frames[key], frame) for frame in frames]
        result[key] = image
        return np.stack(result)

    @staticmethod
    def _carry(image: np.ndarray, key_frame: np.ndarray, frame: np.ndarray) -> np.ndarray:
        import cv2

        flow, valid = checked_motion(frame, key_frame)
        warped = warp(image.astype(np.float32), flow)
        low = [cv2.GaussianBlur(x.astype(np.float32), (0, 0), LOW_FREQUENCY_SIGMA) for x in (frame, warped)]
        detailed = np.clip(np.rint(warped + low[0] - low[1]), 0, 255).astype(np.uint8)
        return np.where(valid[..., None], detailed, frame)


class GenVE:
    """This project's method: a callable of `pipeline.enhance`'s form behind the peers' form.

    enhance(frames (f, 3, h, w) in [-1, 1], size=(H, W), reference=None | (3, H, W) in [-1, 1], key_frame=None | int,
    **options) -> (f, 3, H, W) in [-1, 1]. `options` (bundle, device, steps, noise_level, seed, ...) pass through.
    """

    uses_reference = True

    def __init__(self, enhance: Callable[..., torch.Tensor], **options: Any):
        self.enhance, self.options = enhance, options

    def __call__(self, low: np.ndarray, scale: int, reference: Reference | None = None) -> np.ndarray:
        size = (low.shape[1] * scale, low.shape[2] * scale)
        given: dict[str, Any] = {"reference": None, "key_frame": None}
        if reference is not None:
            given = {"reference": to_video(reference[0][None])[0], "key_frame": reference[1]}
        return as_bytes(self.enhance(to_video(low), size=size, **given, **self.options))


class FrameFolder:
    """The result of any tool, as a folder of PNG frames sorted by name: measured without running the tool."""

    uses_reference = True  # what the tool was given, only its user knows

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def __call__(self, low: np.ndarray, scale: int, reference: Reference | None = None) -> np.ndarray:
        if not self.folder.is_dir():
            raise InputError(f"results folder {self.folder} does not exist; put the frames of this clip there as PNG")
        frames = read_frames(self.folder, 0, len(low) + 1)
        wanted = (len(low), low.shape[1] * scale, low.shape[2] * scale, 3)
        if frames.shape != wanted:
            raise InputError(f"{self.folder} holds frames {frames.shape} (at least), but the clip needs {wanted}")
        return frames
