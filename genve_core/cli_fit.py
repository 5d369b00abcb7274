"""`genve enhance`: how much is worked on at once, by what was asked for and by the memory that is free."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .errors import InputError
from .film import Film
from .fit import Free, described, film_task, fitted
from .media import VideoInfo
from .memory import free_ram, free_vram
from .pipeline import Enhancer
from .settings import CHUNK
from .sizes import Part, Sizes, window_of
from .steps import check_window
from .video_codec import SMALLEST_TILE, TilingConfig

LEAST: dict[Part, int] = {"segment": 1, "window": 1, "chunk": 1, "tile": 256}


def add_sizes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sizes", "chosen by the free memory where they are not given")
    group.add_argument("--segment", type=int, metavar="N", help="frames of a shot worked on together, about (at most 96)")
    group.add_argument("--window", type=int, metavar="N",
                       help="frames denoised together (16); fewer take less memory and change the picture a little")
    group.add_argument("--chunk", type=int, metavar="N", help=f"frames worked on at once, of small ones more ({CHUNK})")
    group.add_argument("--tile", type=int, metavar="PX", help="side of the parts in which large frames are worked on (768)")


def asked_sizes(args: argparse.Namespace) -> tuple[Sizes, set[Part]]:
    """The usual sizes with those that were given, and which were. Raises InputError for one that is too small."""
    given: set[Part] = set()
    for part, least in LEAST.items():
        value = getattr(args, part)
        if value is not None and value < least:
            raise InputError(f"--{part} must be {least} or more, got {value}")
        if value is not None:
            given.add(part)
    sizes = Sizes(segment=args.segment or Sizes().segment, chunk=args.chunk or Sizes().chunk)
    if args.window is not None:
        sizes = replace(sizes, window=window_of(args.window))
    if args.tile is not None:
        overlap = min(TilingConfig().overlap, args.tile // 4)
        sizes = replace(sizes, tiling=TilingConfig(tile=args.tile, overlap=overlap, decode=max(args.tile, SMALLEST_TILE)))
    return replace(sizes, tiling=replace(sizes.tiling, frames=min(sizes.chunk, sizes.tiling.frames))), given


def choose_sizes(asked: Sizes, given: set[Part], recorded: Sizes | None, enhancer: Enhancer, film: Film,
                 pictures: Sequence[Mapping[int, object]], info: VideoInfo) -> tuple[Sizes, str]:
    """Sizes that fit, and a line that says why.

    recorded: of an earlier run of this job: its segments and windows stay as they are, since its pieces were cut by them.
    """
    free = Free(free_ram(), free_vram(enhancer.device))
    task = film_task(enhancer, film, pictures, (info.height, info.width), free)
    check_window(enhancer.models, asked.window.length, task.frames)
    cut_already: set[Part] = set() if recorded is None else {"segment", "window"}
    sizes = fitted(recorded or asked, task, free, given | cut_already)
    return sizes, described(sizes, task, free) + ("" if recorded is None else " (as the earlier run)")
