"""Stage `views`: how latents of a turned frame follow from those of the frame, for a decoder that is asked in several ways.

Least squares, solved at once. What is fitted belongs to the VAE; the decoder's own weights stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..bundle import load_bundle, save_component
from ..decoder.detail_decoder import DetailDecoder
from ..decoder.views import KERNEL, VIEWS
from ..errors import InputError
from ..vae import MiniVAE
from .clip_store import ClipStore
from .stages.latents import encode_frames

SMALLEST = 96  # px
EDGE = 4  # latent positions: nearer to a crop's edge the VAE sees its own padding, which is the same in all views


@dataclass(frozen=True)
class ViewsConfig:
    """How many views, and what the turns are fitted on."""

    views: int = 5  # 1, 3, 5 or 7
    crops: int = 300
    crop: int = 256  # pixels

    def __post_init__(self) -> None:
        if self.crop < SMALLEST:
            raise InputError(f"crops of stage views must be {SMALLEST} px or more, got {self.crop}; nothing is fitted near "
                             f"their edges")


def fit_views(store: ClipStore, out: Path, config: ViewsConfig, seed: int) -> list[float]:
    """Give the decoder in `out`/bundle its views.

    Returns the share of the variance of each view's latents that is left, away from the edges of crops that were not fitted on.
    Raises InputError if the bundle has no VAE or decoder, or if `config.views` is no number of views.
    """
    bundle = load_bundle(out / "bundle", only=("vae", "decoder"))
    vae, decoder = bundle["vae"], bundle["decoder"]
    assert isinstance(vae, MiniVAE) and isinstance(decoder, DetailDecoder)
    decoder = decoder.with_views(config.views)
    rng, left = np.random.default_rng(seed), []
    if decoder.turn is not None:
        crops = [store.crop(rng, config.crop, 1)["up"] for _ in range(config.crops + config.crops // 10 + 1)]
        latents = [encode_frames(vae, crop) for crop in crops]
        for view in range(1, config.views):
            turned = [encode_frames(vae, VIEWS[view].of(crop).contiguous()) for crop in crops]
            weight, bias = fit_turn(latents[: config.crops], turned[: config.crops], view)
            rows = decoder.turn.rows(view)
            decoder.turn.weight[rows], decoder.turn.bias[rows] = weight, bias
            made, wanted = (_inner(torch.cat(x[config.crops :])) for x in ([decoder.turn(z, view) for z in latents], turned))
            left.append(round(float((made - wanted).square().mean() / wanted.var()), 4))
    save_component(out / "bundle", "decoder", decoder, {"stage": "views", "settings": vars(config), "clips": len(store),
                                                        "left": left})
    return left


def fit_turn(latents: list[Tensor], turned: list[Tensor], view: int) -> tuple[Tensor, Tensor]:
    """The convolution that brings latents, seen as VIEWS[view], closest to those of the turned frames.

    latents, turned: of the same frames as they lie and so seen, (n, c, h, w) each.
    Returns weight (c, c, KERNEL, KERNEL) and bias (c,).
    """
    c = latents[0].shape[1]
    size = c * KERNEL**2 + 1
    squares, products = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, c, dtype=torch.float64)
    for z, wanted in zip(latents, turned, strict=True):
        around = _inner(VIEWS[view].of(z).float(), EDGE - KERNEL // 2)
        patches = F.unfold(around, KERNEL).transpose(1, 2).reshape(-1, size - 1)
        rows = torch.cat([patches, torch.ones_like(patches[:, :1])], 1).double()
        squares += rows.T @ rows
        products += rows.T @ _inner(wanted).permute(0, 2, 3, 1).reshape(-1, c).double()
    found = torch.linalg.lstsq(squares, products, driver="gelsd").solution.float()
    return found[:-1].T.reshape(c, c, KERNEL, KERNEL), found[-1]


def _inner(x: Tensor, edge: int = EDGE) -> Tensor:
    """x (..., h, w) without its edges."""
    return x[..., edge:-edge, edge:-edge]
