"""`genve enhance`: a poor video in, a better one out. Whatever can be refused is refused before the weights load."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from .bundle import DEFAULT_BUNDLE, find_bundle, load_bundle
from .cli_progress import PeakMemory, Progress
from .devices import pick_device
from .errors import InputError
from .media import ColourConfig, VideoInfo, VideoReader, VideoWriter
from .media.colour import Method
from .pipeline import EnhanceConfig, Enhancer
from .reference.key_frame import check_key_frame, parse_key_frame
from .reference.user_image import SMALLEST, Fit, fit_reference
from .video_codec import upsample


def add_enhance(commands: argparse._SubParsersAction) -> None:
    d = EnhanceConfig()
    p = commands.add_parser("enhance", help="enhance one video")
    p.add_argument("input", type=Path, help="a video file, or a folder of images")
    p.add_argument("-o", "--output", required=True,
                   help=".mp4, .mov, .mkv or .webm; without a suffix, a folder of PNG frames")
    p.add_argument("--reference", action="append", metavar="IMAGE[@FRAME]",
                   help="a good picture of the key frame (default: made here); with @ and a frame number, of that "
                        "frame, and then repeatable: each governs the frames nearest to its own")
    p.add_argument("--key-frame", default="auto", metavar="auto|N",
                   help="the frame that the reference shows, from 0 (default: auto, a sharp and central one)")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--scale", type=float, default=d.scale, help="of width and height, up to 8 (default: %(default)g)")
    size.add_argument("--size", metavar="WxH", help="of the output in pixels, in place of --scale")
    p.add_argument("--noise-level", type=int, default=d.noise_level, metavar="N",
                   help="0 keeps the input, 999 invents most (default: the bundle's, usually 250)")
    p.add_argument("--reference-strength", type=float, default=d.reference_strength, metavar="S",
                   help="0 is as without a reference, 1 is all of it (default: %(default)g)")
    p.add_argument("--steps", type=int, default=d.steps, help="of sampling (default: the bundle's)")
    p.add_argument("--seed", type=int, default=d.seed, help="same seed, same output (default: %(default)s)")
    p.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|PATH", help="weights (default: %(default)s)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    p.add_argument("--fit", choices=get_args(Fit), default=d.fit,
                   help="how a reference of another aspect is fitted (default: %(default)s)")
    p.add_argument("--no-colour-match", dest="match_colour", action="store_false",
                   help="keep the reference's own colours")
    p.add_argument("--colour", choices=get_args(Method), default=d.colour.method,
                   help="what the output takes from the input's colours: low frequencies, statistics, or nothing "
                        "(default: %(default)s)")
    p.add_argument("--steadiness", type=float, default=d.steadiness, metavar="S",
                   help="how much neighbouring frames are fused against flicker, 0 to 1 (default: %(default)g)")
    p.add_argument("--lossless", action="store_true", help="FFV1 in .mkv")
    p.add_argument("--frames", type=int, metavar="N", help="enhance only the first N")
    p.add_argument("--overwrite", action="store_true", help="replace an existing output")
    p.set_defaults(run=enhance, stopped="stopped by Ctrl-C; no output was written")


def enhance(args: argparse.Namespace) -> None:
    """Read, enhance, write. Raises InputError before any long work where the arguments do not fit."""
    diffusers_logging.set_verbosity_error()  # its advice is for programmers
    begin, memory = time.perf_counter(), PeakMemory()
    config = parse_config(args)
    pick_device(args.device)
    find_bundle(args.bundle)
    given = parse_references(args.reference or [], config.key_frame)
    with Progress() as progress, VideoReader(args.input) as video:
        config = fit_to_input(config, video.info, args.frames, given)
        assert config.size is not None
        h, w = config.size
        for picture in given.values():
            progress.notes(fit_reference(picture, (h, w), fit=config.fit).notes)
        with VideoWriter(args.output, video.info, width=w, height=h, overwrite=args.overwrite, lossless=args.lossless,
                         audio_from=args.input) as out:
            progress.notes(out.notes)
            enhancer = Enhancer(load_bundle(args.bundle), config, args.device)
            frames, alpha, times = read(video, args.frames, progress)
            progress.notes(video.notes)
            # one picture without a frame shows the key frame, whichever that is
            reference = given[None] if None in given else {key: given[key] for key in given if key is not None} or None
            for chunk in enhancer.run(frames, reference, progress):
                for rgb in chunk:
                    out.write(rgb, times[out.frames], _alpha(alpha[out.frames], (h, w)))
        progress.close()
        progress.notes([*enhancer.notes, *out.notes])
    seconds = (time.perf_counter() - begin) / out.frames
    keys = f"key frame{'s' if len(enhancer.keys) > 1 else ''} {', '.join(map(str, enhancer.keys))}"
    print(f"{args.output}: {out.frames} frames, {w}x{h} px, {keys}, "
          f"{seconds:.2f} s per frame, {memory.describe(enhancer.device)}")


def parse_config(args: argparse.Namespace) -> EnhanceConfig:
    """The configuration that the arguments ask for; `EnhanceConfig` checks the ranges."""
    if args.frames is not None and args.frames < 1:
        raise InputError(f"--frames must be 1 or more, got {args.frames}")
    return EnhanceConfig(
        scale=args.scale, size=None if args.size is None else parse_size(args.size),
        key_frame=parse_key_frame(args.key_frame), noise_level=args.noise_level,
        reference_strength=args.reference_strength, steps=args.steps, seed=args.seed, fit=args.fit,
        match_colour=args.match_colour, colour=ColourConfig(args.colour), steadiness=args.steadiness,
    )


def parse_size(text: str) -> tuple[int, int]:
    """'704x448' (width first, as people say it) -> (448, 704). Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip(), re.ASCII)
    if match is None:
        raise InputError(f"--size must be WIDTHxHEIGHT in pixels, like 1280x720, got {text!r}")
    return int(match[2]), int(match[1])


def parse_references(texts: list[str], key_frame: int | None) -> dict[int | None, Path]:
    """`--reference` as {frame: picture}; the frame is None for a single picture that names none.

    A text is split at its last @ if a number follows; any other @ belongs to the path. Raises InputError for a frame
    named twice, for several pictures of which one names no frame, and for --key-frame beside a frame named here.
    """
    given: dict[int | None, Path] = {}
    for text in texts:
        path, at, frame = text.rpartition("@")
        named = bool(at and path) and frame.isascii() and frame.isdigit()
        if not named and at and Path(path).is_file() and not Path(text).exists():
            raise InputError(f"--reference {text}: wanted a frame number from 0 after the @, got {frame!r}")
        key, picture = (int(frame), Path(path)) if named else (None, Path(text))
        if key is None and len(texts) > 1:
            raise InputError(f"--reference {text} names no frame; of several references each must, like {text}@12")
        if key is not None and key_frame is not None:
            raise InputError(f"--reference {text} and --key-frame {key_frame} both name a frame; leave --key-frame out")
        if key in given:
            raise InputError(f"--reference names frame {key} twice, {given[key]} and {picture}; give one a frame")
        given[key] = picture
    return given


def fit_to_input(config: EnhanceConfig, info: VideoInfo, frames: int | None, references: Iterable[int | None]) -> EnhanceConfig:
    """`config` with the output size for this input. Raises InputError if the input lacks what is asked of it."""
    if min(info.width, info.height) < SMALLEST:
        raise InputError(f"{info.path} is {info.width}x{info.height} px, but needs {SMALLEST} px a side or more")
    if info.frames is not None:
        _check_frames(info.path, frames, info.frames)
        for key in (config.key_frame, *references):
            if key is not None:
                check_key_frame(key, frames or info.frames)
    return replace(config, size=config.size or (round(info.height * config.scale), round(info.width * config.scale)))


def read(video: VideoReader, count: int | None, progress: Progress) -> tuple[Tensor, list[Tensor | None], list[Fraction]]:
    """The first `count` frames, or all: (f, 3, h, w) in [-1, 1], the alpha (h, w) of each, the time of each in s.

    Raises InputError if there are none, or fewer than `count`.
    """
    rgb, alpha, times = [], [], []
    for frame in video.frames(stop=count):
        rgb.append(frame.rgb)
        alpha.append(frame.alpha)
        times.append(frame.time)
        progress("read", len(rgb), max(count or video.info.frames or 0, len(rgb)))
    progress.close()
    if not rgb:
        raise InputError(f"{video.info.path} holds no frame that can be decoded; it may be cut short, copy it again")
    _check_frames(video.info.path, count, len(rgb))
    return torch.stack(rgb), alpha, times


def _check_frames(path: Path, wanted: int | None, there: int) -> None:
    if wanted is not None and wanted > there:
        raise InputError(f"--frames {wanted} is more than {path} has ({there}); ask for {there} or fewer, or leave it out")


def _alpha(alpha: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """Alpha (h, w) at the output's size, bicubic; the network knows nothing of transparency."""
    if alpha is None:
        return None
    return upsample(alpha[None, None, None], size, clamp=False)[0, 0, 0].clamp(0, 1)
