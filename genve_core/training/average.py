"""Average one component of several bundles: fine-tunes of one start often do better together than each alone
(Wortsman et al. 2022, *Model soups*).

    python -m genve_core.training.average decoder genve-mini=0.5 runs/a/bundle=0.25 runs/b/bundle=0.25 --into runs/mean/bundle

The other components, and all that is said about them, are those of the first bundle; with `--as` the averaged one too, and
the mean becomes another component (`genve-mini=0` then gives the rest alone; one bundle, `genve-mini=1`, copies it within).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch

from ..bundle import BUILDERS, load_bundle, save_component
from ..errors import InputError
from .start import copy_bundle


def average(part: str, shares: dict[str, float], into: Path, target: str | None = None, bits: int = 16) -> None:
    """Write a copy of the first bundle into the folder `into`, its component `part` the weighted mean of all.

    shares: {bundle's name or folder: weight}, whose weights add up to 1; two or more, unless it becomes another component or is
    stored in 8 bits.
    target: the component that becomes the mean, `part` staying as it is; None = `part` itself.   bits: of its weights, 16 or 8.
    Raises InputError if they do not, if a bundle with a share lacks the component or has it in another size.
    """
    target = target or part
    if (len(shares) < 2 and target == part and bits == 16) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise InputError(f"bundles must be two or more whose weights add up to 1, got {shares}")
    modules = {name: load_bundle(name, only=(part,))[part] for name, share in shares.items() if share}
    first = next(iter(modules.values()))  # its config counts too, such as emphasis
    mean = {key: torch.zeros(x.shape) for key, x in first.state_dict().items()}
    for name, module in modules.items():
        state = module.state_dict()
        if {key: x.shape for key, x in state.items()} != {key: x.shape for key, x in mean.items()}:
            raise InputError(f"{part} of bundle {name} has another size than that of {next(iter(modules))}; average like ones")
        for key in mean:
            mean[key] += shares[name] * state[key].float()
    first.float().load_state_dict(mean)
    copy_bundle(next(iter(shares)), into)
    save_component(into, target, first, {"stage": f"{target}: mean of fine-tunes", "weights": list(shares.values())},
                   bits=bits)


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description="Average one component of several bundles.")
    p.add_argument("part", help="component, such as decoder")
    p.add_argument("bundles", nargs="+", metavar="BUNDLE=WEIGHT", help="name or folder; the first gives the rest of the bundle")
    p.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder for the new bundle")
    p.add_argument("--as", dest="target", choices=tuple(BUILDERS), help="what the mean becomes, such as decoder_precleaned")
    p.add_argument("--bits", type=int, choices=(16, 8), default=16, help="of its weights in the file (default: 16)")
    args = p.parse_args(arguments)
    average(args.part, _shares(args.bundles), args.into, args.target, args.bits)


def _shares(texts: list[str]) -> dict[str, float]:
    try:
        return {name: float(weight) for name, _, weight in (text.rpartition("=") for text in texts)}
    except ValueError as error:
        raise InputError(f"bundles must be given as BUNDLE=WEIGHT, such as genve-mini=0.5, got {' '.join(texts)}") from error


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"average: error: {error}")
