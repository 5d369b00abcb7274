"""Stored clips with what a better teacher makes of some of their frames: the decoder at twice their size, reduced.

    python -m genve_core.training.taught CLIPS --out TAUGHT

That is what `--supersample` does, without diffusion and a reference, for four times the work. A decoder that is trained on it
in the place of the truth (`DecoderConfig.taught`) learns faster: unlike the truth, it holds nothing that cannot be known
(Hinton et al. 2015, *Distilling the Knowledge in a Neural Network*). Clips at 1x and 2x alone have such a teacher.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..bundle import load_bundle
from ..decoder.detail_decoder import DetailDecoder
from ..decoder.inputs import decoder_inputs
from ..errors import InputError
from ..models import Models
from ..pyramid import LEARNT
from ..vae import MiniVAE
from ..video_codec import upsample
from .clip_store import CLIP_FRAMES, to_uint8
from .rewrite import Rewrite, rewrite_clips
from .stages.latents import encode_frames


def taught_record(record: dict[str, Tensor], frames: list[int], models: Models) -> dict[str, Tensor]:
    """A clip as `make_record` has it with taught (CLIP_FRAMES, 3, h, w), the teacher's `frames` and elsewhere the truth, uint8,
    and is_taught (CLIP_FRAMES,), 1 where it is the teacher's.

    Raises InputError if the clip is enlarged by more than 2.
    """
    side, scale = record["hq"].shape[-1], record["hq"].shape[-1] // record["lq"].shape[-1]
    if 2 * scale > LEARNT[-1]:
        raise InputError(f"clips must be at 1x or 2x to be taught at twice their size, got {scale}x; leave such clips out")
    taught, made = record["hq"][1:].clone(), torch.zeros(CLIP_FRAMES, dtype=torch.uint8)
    models = models.for_enlargement(2 * scale)
    for frame in frames:
        finer = supersampled(record, frame, 2 * side, models)
        taught[frame], made[frame] = to_uint8(upsample(finer.unsqueeze(0), (side, side))[0, 0]), 1
    return record | {"taught": taught, "is_taught": made}


def supersampled(record: dict[str, Tensor], frame: int, side: int, models: Models) -> Tensor:
    """One frame of a clip, decoded at n = 0 and `side` pixels: (1, 3, side, side) in [-1, 1]."""
    vae, decoder = cast(tuple[MiniVAE, DetailDecoder], models.ready("vae", models.decoder))
    row = torch.arange(frame - decoder.reach, frame + decoder.reach + 1).clamp(0, CLIP_FRAMES - 1)
    up = upsample(record["lq"][1:][row].unsqueeze(0).float() / 127.5 - 1, (side, side))
    forward, backward = (record[name].float() for name in ("forward", "backward"))
    forward[-1], backward[0] = 0, 0  # the row ends there
    with models.computing():
        inputs = decoder_inputs(up, forward[row].unsqueeze(0), backward[row].unsqueeze(0), reach=decoder.reach,
                                fine=decoder.fine, frames=slice(decoder.reach, decoder.reach + 1))
        return decoder(encode_frames(vae, inputs.up), inputs).float().clamp(-1, 1)


def _begin(bundle: str, frames: int, seed: int) -> Rewrite:
    models = Models(load_bundle(bundle), "cpu")

    def rewrite(source: Path) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, zlib.crc32(source.name.encode())])
        return taught_record(load_file(source), rng.choice(CLIP_FRAMES, frames, replace=False).tolist(), models)

    return rewrite


def teach(clips: Path, out: Path, bundle: str, frames: int = 2, seed: int = 0) -> None:
    """Write all clips below `clips` to `out`, `frames` of each with what the decoders of `bundle` teach; goes on where it was.

    Raises InputError for another number of frames than 1 to CLIP_FRAMES, for no clips, and for clips at more than 2x.
    """
    if not 1 <= frames <= CLIP_FRAMES:
        raise InputError(f"--frames must be 1 to {CLIP_FRAMES}, got {frames}")
    rewrite_clips(clips, out, partial(_begin, bundle, frames, seed), "taught")


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description="Add what decoding at twice the size makes of some frames to stored clips.")
    p.add_argument("clips", type=Path, help="folder of clips at 1x or 2x made by `genve train clips`")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the new clips")
    p.add_argument("--frames", type=int, default=2, help=f"of each clip, picked at random, 1 to {CLIP_FRAMES} (default: 2)")
    p.add_argument("--bundle", default="genve-mini", help="name or folder of the bundle whose decoders teach")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(arguments)
    teach(args.clips, args.out, args.bundle, args.frames, args.seed)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"taught: error: {error}")
