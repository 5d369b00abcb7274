"""What the detail decoder sees besides the latents: aligned neighbours, the warped reference and its validity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.warp import compose, resize_flow, warp
from ..media.colour import low_pass
from .detail_decoder import DecoderInputs, neighbours

# Logarithms of the ratio of detail. In six poor clips it is below 0.05 nearly everywhere, and about 0.25 where the small frame
# has been blurred by half a pixel, 0.8 by one.
SHARPER = (0.15, 0.4)
SURROUND = 1 / 16  # deviation of the Gaussian over which detail is compared, in shorter sides of the frame
FLAT = 1e-5  # energy of a gradient that is nothing but rounding


def halve(frames: Tensor) -> Tensor:
    """Area-reduce (n, c, h, w) to half its height and width."""
    return F.avg_pool2d(frames, 2)


def aligned_neighbours(shown: Tensor, forward: Tensor, backward: Tensor, reach: int, frames: slice = slice(None)) -> Tensor:
    """Bring the frames around each frame onto its grid.

    shown: (b, f, 3, h, w), poor frames in a row.   forward, backward: (b, f, 2, h, w), flow to the next and to the
    previous frame in pixels of that grid, zero at the ends of the row.   frames: those of the row that are asked for, k.
    Returns (b, k, 3 * 2 * reach, h, w): neighbour minus frame. Beyond the ends the last frame repeats.
    """
    f = shown.shape[1]
    here = torch.arange(f, device=shown.device)[frames]
    frame = shown[:, frames]
    aligned = {}
    for flow, step in ((backward, -1), (forward, 1)):
        path = flow[:, frames]
        for reached in range(1, reach + 1):
            other = shown[:, (here + step * reached).clamp(0, f - 1)]
            aligned[step * reached] = warp(other.flatten(0, 1), path.flatten(0, 1)).view_as(frame) - frame
            if reached < reach:
                then = flow[:, (here + step * reached).clamp(0, f - 1)]
                path = compose(path.flatten(0, 1), then.flatten(0, 1)).view_as(path)
    return torch.cat([aligned[offset] for offset in neighbours(reach)], dim=2)


def sharper(key: Tensor, frames: Tensor) -> Tensor:
    """Where the poor key frame shows clearly more detail than a poor frame: only there can a reference made from it help.

    Of a frame as sharp as the key frame the decoder finds as much itself; a guess carried there on top makes it softer and less
    faithful (`docs/model-design/self.md`, *A reference of its own*).

    key, frames: (n, 3, h, w), the key frame warped onto the frames.   Returns (n, 1, h, w) in [0, 1]: 0 up to `SHARPER[0]` in
    the logarithm of the ratio of their gradients' energies, 1 from `SHARPER[1]` on.
    """
    energies = []
    for x in (key, frames):
        dx, dy = (F.pad(x.float().mean(1, keepdim=True).diff(dim=dim), pad) for dim, pad in ((-1, (0, 1)), (-2, (0, 0, 0, 1))))
        energies.append(low_pass(dx.square() + dy.square(), SURROUND) + FLAT)
    none, full = SHARPER
    return (((energies[0] / energies[1]).log() - none) / (full - none)).clamp(0, 1).to(frames)


def without_reference(up: Tensor, half: Tensor, near: Tensor) -> DecoderInputs:
    """Inputs of which a reference says nothing. half: (n, 3, h/2, w/2), `up` reduced."""
    return DecoderInputs(up, torch.zeros_like(up), torch.zeros_like(half[:, :1]), torch.zeros_like(half), near)


def decoder_inputs(
    up: Tensor,
    forward: Tensor,
    backward: Tensor,
    *,
    reference: Tensor | None = None,
    key: Tensor | None = None,
    to_key: Tensor | None = None,
    valid: Tensor | None = None,
    strength: float | Tensor = 1.0,
    guess: bool | Tensor = False,
    reach: int = 2,
    fine: bool = False,
    frames: slice = slice(None),
) -> DecoderInputs:
    """Gather the decoder's inputs for `frames` of each row; frames and batch are folded together.

    up: (b, f, 3, h, w) up-sampled poor frames, sides multiples of 8.   forward, backward: (b, f, 2, hf, wf), any grid.
    reference, key: (b, 3, h, w), the reference and the poor key frame; None = no reference.
    to_key: (b, f, 2, hf, wf), frame -> key frame.   valid: (b, f, 1, hf, wf) in [0, 1].
    strength: how much of the reference's detail is let in; 0 gives exactly what no reference gives. One, or (b,) for the rows.
    guess: the reference was made from `key`, so it is let in only where that is `sharper` than the frame. One, or (b,).
    reach, fine: of the decoder (`DetailDecoder`).
    """
    b, f, _, h, w = up.shape
    half_size = (h // 2, w // 2)
    half = halve(up.flatten(0, 1)).unflatten(0, (b, f))
    seen = up if fine else half
    grid = (seen.shape[-2], seen.shape[-1])

    def on_grid(flow: Tensor) -> Tensor:
        return resize_flow(flow.flatten(0, 1), grid).unflatten(0, (b, f))

    near = aligned_neighbours(seen, on_grid(forward), on_grid(backward), reach, frames).flatten(0, 1)
    chosen, chosen_half = up[:, frames].flatten(0, 1), half[:, frames].flatten(0, 1)
    if reference is None or (isinstance(strength, float | int) and strength == 0):
        return without_reference(chosen, chosen_half, near)
    assert key is not None and to_key is not None and valid is not None
    count = len(chosen) // b
    flow = to_key[:, frames].flatten(0, 1)

    def of_rows(x: float | Tensor) -> Tensor:
        return torch.as_tensor(x).to(flow).expand(b).repeat_interleave(count).view(-1, 1, 1, 1)

    share = F.interpolate(valid[:, frames].flatten(0, 1), size=half_size, mode="bilinear") * of_rows(strength)

    def carried(image: Tensor, grid_flow: Tensor, how: str) -> Tensor:
        return warp(image.repeat_interleave(count, 0), grid_flow, how)  # type: ignore[arg-type]

    poor_key = carried(halve(key), resize_flow(flow, half_size), "bilinear") - chosen_half
    if guess is not False:
        better = sharper(chosen_half + poor_key * share, chosen_half)
        share = share * torch.where(of_rows(guess) > 0, better, 1.0)
        if guess is True and not share.any():
            return without_reference(chosen, chosen_half, near)
    detail = carried(reference, resize_flow(flow, (h, w)), "bicubic") - chosen
    full_share = share.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return DecoderInputs(chosen, detail * full_share, share, poor_key * share, near)
