"""The noise level n and what it does: a bundle's measured curve, read as a creativity from 0 to 1.

`genve study noise --write-dial` measures the curve: a row for each n with `n` and `creativity`, the share of the way that the
dial can take a result from the input. It is about the same for every bundle, where n is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .bundle import Defaults
from .errors import InputError

Dial = Sequence[Mapping[str, float]]  # rows from small to large n, see `bundle.save_dial`


def creativity_of(dial: Dial, n: int) -> float | None:
    """How far n goes from the input, 0 to 1, between the rows in a straight line. None for a bundle without a curve."""
    if not dial:
        return None
    return float(np.interp(n, [row["n"] for row in dial], [row["creativity"] for row in dial]))


def noise_level_for(dial: Dial, creativity: float) -> int:
    """The n of a creativity in [0, 1]. Raises InputError out of range, and for a bundle without a rising curve."""
    if not 0 <= creativity <= 1:
        raise InputError(f"creativity must be in [0, 1], got {creativity}")
    reached = [row["creativity"] for row in dial]
    if not dial or any(b <= a for a, b in zip(reached, reached[1:])):
        raise InputError("this bundle has no measured curve of its noise level that rises; give the noise level itself, or "
                         "measure it with `genve study noise --write-dial`")
    return round(float(np.interp(creativity, reached, [row["n"] for row in dial])))


def detail_level(n: int, defaults: Defaults, enlargement: float) -> float:
    """The n that the decoder is asked with, for a clip that is enlarged by `enlargement`.

    Up to the default it is n itself from 4 on. Enlarged by less, genve-mini's decoder adds less than least squares would have
    it: n then counts up to `detail_at_2x` times, most from 2 down. Above the default n counts `detail_above` times at any size;
    there the decoder leaves no rims (`decoder.detail_decoder.without_rims`).
    """
    finer = min(max((4 - enlargement) / 2, 0.0), 1.0)
    usual, above = min(n, defaults.noise_level), max(n - defaults.noise_level, 0)
    return usual * (1 + finer * (defaults.detail_at_2x - 1)) + above * defaults.detail_above


def decoder_shares(enlargement: float) -> dict[str, float]:
    """How much of each decoder for certain enlargements decodes a clip that is enlarged by `enlargement`, in [0, 1].

    All of `decoder_1x` up to 1 and none from 2 on, all of `decoder_2x` at 2, none at 1 and from 4 on; the rest is `decoder`'s.
    """
    of_1x, of_2x = 2 - enlargement, min(enlargement - 1, (4 - enlargement) / 2)
    return {name: min(max(share, 0.0), 1.0) for name, share in (("decoder_1x", of_1x), ("decoder_2x", of_2x))}
