"""Stored clips again, to train the two passes of `preclean.py` on: what the first meets, and what it leaves to the second.

    python -m genve_core.training.precleaned CLIPS --out FIRST --first-pass
    python -m genve_core.training.precleaned CLIPS --out PRECLEANED --share 0.5

For the first pass, sharp frames are reduced to the size of the poor ones: to frames with edges a pixel wide, which a clip
made at scale 1 does not have. For the second, the poor frames become what the first pass makes of them; the flow stays that
of the poor frames, as the first pass changes fine detail, and flow is sought in coarse detail.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..bundle import load_bundle
from ..conditioning.flow import FlowConfig
from ..conditioning.warp import resize_flow
from ..errors import InputError
from ..models import Models
from ..pipeline import EnhanceConfig, Enhancer
from ..segments import InMemory
from .clip_store import CLIP_FRAMES, FLOW_GRID, FLOWS, poor_flow, to_uint8
from .degradation import resize
from .rewrite import Rewrite, rewrite_clips


def preclean_record(record: dict[str, Tensor], enhancer: Enhancer) -> dict[str, Tensor]:
    """A clip as `make_record` has it, its `lq` replaced by what the second pass of `enhancer` would see."""
    def cleaned(frames: Tensor) -> Tensor:
        return enhancer.prepared(InMemory(frames.float() / 127.5 - 1)).read(range(len(frames)))

    key, row = record["lq"][:1], cleaned(record["lq"][1:])
    in_row = (record["lq"][1:] == key).flatten(1).all(1).nonzero()
    key = row[in_row[0]] if len(in_row) else cleaned(key)  # a far key frame is cleaned without its neighbours
    return record | {"lq": to_uint8(torch.cat([key, row]))}


def first_pass_record(record: dict[str, Tensor]) -> dict[str, Tensor]:
    """A clip as `make_record` has it, its `hq` reduced to the size of its `lq`, and its flow between neighbours what the first
    pass would find.

    Raises InputError if no crop of 32 pixels fits its poor frames.
    """
    side = record["lq"].shape[-1]
    if side % 32:
        raise InputError(f"poor frames must be a multiple of 32 pixels for the first pass, got {side}; "
                         'make clips of 640 pixels ("size") at scale 4')
    grid, poor = (side // FLOW_GRID, side // FLOW_GRID), record["lq"][1:].float() / 127.5 - 1
    made = {name: resize_flow(record[name].float(), grid).half() for name in FLOWS}
    made |= {name: F.interpolate(record[name].float(), size=grid, mode="area").round().to(torch.uint8)
             for name in ("valid", "true_valid")}
    # the key frame may be far away, so the flow to it stays what it was
    for name, flow in zip(("forward", "backward"), poor_flow(poor, range(CLIP_FRAMES), 0, side, FlowConfig())[2:], strict=True):
        made[name] = resize_flow(flow, grid).half()
    sharp = resize(record["hq"].float() / 127.5 - 1, (side, side), "bicubic")
    return made | {"hq": to_uint8(sharp), "lq": record["lq"]}


def _begin(bundle: str | None) -> Rewrite:
    enhancer = Enhancer(Models(load_bundle(bundle), "cpu"), EnhanceConfig(preclean=1.0)) if bundle else None

    def rewrite(source: Path) -> dict[str, Tensor]:
        record = load_file(source)
        return preclean_record(record, enhancer) if enhancer else first_pass_record(record)

    return rewrite


def preclean_clips(clips: Path, out: Path, share: float, bundle: str | None, seed: int = 0) -> None:
    """Write `share` of the clips below `clips`, picked at random, to `out`; goes on where it was.

    bundle: makes the first pass, for clips to train the second on; None for clips to train the first on.
    """
    if not 0 < share <= 1:
        raise InputError(f"--share must be above 0 and at most 1, got {share:g}")
    rewrite_clips(clips, out, partial(_begin, bundle), "preclean", share, seed)


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description="Make stored clips anew, as one of the two passes of preclean meets them.")
    p.add_argument("clips", type=Path, help="folder of clips made by `genve train clips`")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the new clips")
    p.add_argument("--share", type=float, default=1.0, help="of the clips, picked at random (default: 1)")
    kind = p.add_mutually_exclusive_group()
    kind.add_argument("--bundle", default="genve-mini", help="name or folder of the bundle that makes the first pass")
    kind.add_argument("--first-pass", action="store_true", help="clips for the first pass to learn from instead")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(arguments)
    preclean_clips(args.clips, args.out, args.share, None if args.first_pass else args.bundle, args.seed)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"precleaned: error: {error}")
