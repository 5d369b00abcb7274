"""Does a user's picture show what the key frame shows, and in the same places? Ours, not the paper's.

Image tools shift and crop, and people drop the wrong file. A picture that lies beside the key frame is moved onto it along the
optical flow; one that shows something else is used nowhere but where it happens to agree, so that it does no harm.
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ..conditioning.flow import FlowConfig, dis_flow, reduce_frames
from ..conditioning.warp import inside, resize_flow, warp
from ..media.colour import gaussian
from .user_image import FittedReference

SIDE = 112  # px of the shorter side at which structure is compared: what a poor key frame still shows
AROUND = 4.0  # px there, sigma of the window
NOISE = (4 / 127.5) ** 2  # variance that is nothing to agree on
# Mean agreement, measured on six clips (up-sampled key frame of protocol v1, real4x): the truth of the key frame 0.97 to
# 0.99, sharpened by an image tool 1.00; shifted or cropped by a few per cent 0.26 to 0.82, moved onto it 0.95 to 0.98 (by a
# quarter: 0.76 to 0.83); a picture of something else -0.01 to 0.07, "moved onto it" 0.24 to 0.46.
ALIKE, ALIGNED, UNRELATED = 0.9, 0.7, 0.2
GAIN = 0.1  # that moving must bring: it cannot make a repainted place agree, and that is to be carried as it is
AGREES = 0.5  # at a place, from which on a picture that is moved or unrelated is used there


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """How alike two pictures (3, h, w) in [-1, 1] are in structure, place by place: (1, h', w'), 1 = equal, 0 = unrelated.

    Contrast and structure of SSIM on reduced grey pictures: brightness and colours may differ.
    """
    h, w = a.shape[-2:]
    by = max(1.0, min(h, w) / SIDE)
    x, y = (gaussian(F.interpolate(picture.float().mean(0)[None, None], size=(round(h / by), round(w / by)), mode="area"), 1.0)
            for picture in (a, b))
    mean_x, mean_y = gaussian(x, AROUND), gaussian(y, AROUND)
    squares = gaussian(x * x + y * y, AROUND) - mean_x.square() - mean_y.square()
    products = gaussian(x * y, AROUND) - mean_x * mean_y
    return ((2 * products + NOISE) / (squares.clamp(min=0) + NOISE))[0]


def onto_key_frame(fitted: FittedReference, key_frame: Tensor, config: FlowConfig = FlowConfig()) -> FittedReference:
    """A fitted picture, moved onto the key frame (3, h, w) in [-1, 1] if it lies beside it; `valid` says where it can be used.

    A picture that agrees, repainted in places or not, comes back as it is.
    """
    found = agreement(fitted.image, key_frame)
    mean = _mean(found, fitted.valid)
    if mean >= ALIKE:
        return fitted
    moved, by = _moved(fitted, key_frame, config)
    after = agreement(moved.image, key_frame)
    better = _mean(after, moved.valid)
    if better >= max(ALIGNED, mean + GAIN):
        return _noted(_where(moved, after), f"the reference lay beside the key frame and is moved onto it, half of it by "
                                            f"{by:.0f} px or more")
    if mean >= ALIGNED:
        return fitted
    if mean >= UNRELATED:
        return _noted(fitted, f"the reference and the key frame differ much (alike by {mean:.2f} of 1): where they do, so will "
                              f"the result; is the key frame the right one?")
    used = _where(fitted, found)
    return _noted(used, f"the reference shows something else than the key frame (alike by {mean:.2f} of 1): it is used on "
                        f"{100 * float(used.valid.mean()):.0f} % of the frame only; give a picture of that frame, or set its "
                        f"number")


def _moved(fitted: FittedReference, key_frame: Tensor, config: FlowConfig) -> tuple[FittedReference, float]:
    """The picture along the flow, valid as far as it reaches, and the median way in pixels."""
    image, frame = (reduce_frames(x.float().unsqueeze(0), config) for x in (fitted.image, key_frame))
    flow = resize_flow(dis_flow(frame, image), (fitted.image.shape[-2], fitted.image.shape[-1]))
    picture = warp(fitted.image.unsqueeze(0), flow, "bicubic").clamp(-1, 1)
    reach = warp(fitted.valid.unsqueeze(0), flow) * inside(flow)
    return replace(fitted, image=picture[0], valid=reach[0]), float(flow.square().sum(1).sqrt().median())


def _where(fitted: FittedReference, found: Tensor) -> FittedReference:
    """Valid only where it agrees."""
    size = (fitted.valid.shape[-2], fitted.valid.shape[-1])
    agrees = F.interpolate((found >= AGREES).float().unsqueeze(0), size=size, mode="bilinear")[0]
    return replace(fitted, valid=fitted.valid * agrees)


def _mean(found: Tensor, valid: Tensor) -> float:
    """Mean agreement where there is a picture; 0 if there is none."""
    weight = F.interpolate(valid.unsqueeze(0), size=found.shape[-2:], mode="area")[0]
    return float((found * weight).sum() / weight.sum().clamp(min=1e-6))


def _noted(fitted: FittedReference, note: str) -> FittedReference:
    return replace(fitted, notes=(*fitted.notes, note))
