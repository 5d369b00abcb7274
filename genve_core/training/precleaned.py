"""Stored clips again, with poor frames as a first pass leaves them (`preclean.py`), to train the second pass on.

    python -m genve_core.training.precleaned CLIPS --out PRECLEANED --share 0.5

The flow stays that of the poor frames: what the first pass changes is fine detail, and flow is sought in coarse detail.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from glob import glob
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..bundle import load_bundle
from ..errors import InputError
from ..models import Models
from ..pipeline import EnhanceConfig, Enhancer
from ..segments import InMemory
from .clip_store import save_record, to_uint8


def preclean_record(record: dict[str, Tensor], enhancer: Enhancer) -> dict[str, Tensor]:
    """A clip as `make_record` has it, its `lq` replaced by what the second pass of `enhancer` would see."""
    def cleaned(frames: Tensor) -> Tensor:
        return enhancer.precleaned(InMemory(frames.float() / 127.5 - 1)).read(range(len(frames)))

    key, row = record["lq"][:1], cleaned(record["lq"][1:])
    in_row = (record["lq"][1:] == key).flatten(1).all(1).nonzero()
    key = row[in_row[0]] if len(in_row) else cleaned(key)  # a far key frame is cleaned without its neighbours
    return record | {"lq": to_uint8(torch.cat([key, row]))}


def _work(job: tuple[str, list[tuple[Path, Path]]]) -> None:
    bundle, pairs = job
    torch.set_num_threads(1)
    enhancer = Enhancer(Models(load_bundle(bundle), "cpu"), EnhanceConfig(preclean=1.0))
    for source, made in pairs:
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            save_record(preclean_record(load_file(source), enhancer), made)


def preclean_clips(clips: Path, out: Path, share: float, bundle: str, seed: int = 0) -> None:
    """Write `share` of the clips below `clips`, picked at random, to `out`; goes on where it was."""
    from tqdm import tqdm

    if not 0 < share <= 1:
        raise InputError(f"--share must be above 0 and at most 1, got {share:g}")
    found = sorted(glob("**/clip_*.safetensors", root_dir=clips, recursive=True))  # follows links
    names = [name for name in found if not (clips / name).is_relative_to(out)]  # out may lie in clips
    picked = np.random.default_rng(seed).permutation(names)[: round(share * len(names))]
    if not len(picked):
        raise InputError(f"{clips} has no clips to take {share:g} of; make them with `genve train clips --out {clips}`")
    pairs = [(clips / name, out / name) for name in picked]
    jobs = [(bundle, pairs[k : k + 16]) for k in range(0, len(pairs), 16)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for _ in tqdm(pool.map(_work, jobs), total=len(jobs), unit="16 clips", desc="preclean"):
            pass


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description="Make stored clips anew, with poor frames as a first pass leaves them.")
    p.add_argument("clips", type=Path, help="folder of clips made by `genve train clips`")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the new clips")
    p.add_argument("--share", type=float, default=1.0, help="of the clips, picked at random (default: 1)")
    p.add_argument("--bundle", default="genve-mini", help="name or folder of the bundle that makes the first pass")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(arguments)
    preclean_clips(args.clips, args.out, args.share, args.bundle, args.seed)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"precleaned: error: {error}")
