"""Stored clips written anew, one by one, in all processes that there are: what `precleaned` and `taught` have in common."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from glob import glob
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .clip_store import save_record

Rewrite = Callable[[Path], dict[str, Tensor]]  # the file of a clip -> the new record
JOB = 8  # clips


def rewrite_clips(clips: Path, out: Path, begin: Callable[[], Rewrite], what: str, share: float = 1.0, seed: int = 0) -> None:
    """Write `share` of the clips below `clips`, picked at random, to `out`, under the same names; goes on where it was.

    begin: gives what makes a record anew; called in every process, so it must be picklable.   what: for the progress bar.
    Raises InputError if there are none.
    """
    from tqdm import tqdm

    found = sorted(glob("**/clip_*.safetensors", root_dir=clips, recursive=True))  # follows links
    names = [name for name in found if not (clips / name).is_relative_to(out)]  # out may lie in clips
    picked = np.random.default_rng(seed).permutation(names)[: round(share * len(names))]
    if not len(picked):
        raise InputError(f"{clips} has no clips to take {share:g} of; make them with `genve train clips --out {clips}`")
    pairs = [(clips / name, out / name) for name in picked]
    jobs = [(begin, pairs[k : k + JOB]) for k in range(0, len(pairs), JOB)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for _ in tqdm(pool.map(_work, jobs), total=len(jobs), unit=f"{JOB} clips", desc=what):
            pass


def _work(job: tuple[Callable[[], Rewrite], list[tuple[Path, Path]]]) -> None:
    begin, pairs = job
    torch.set_num_threads(1)
    rewrite = begin()
    for source, made in pairs:
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            save_record(rewrite(source), made)
