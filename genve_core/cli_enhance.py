"""`genve enhance`: poor videos in, better ones out. Whatever can be refused is refused before the weights load."""

from __future__ import annotations

import argparse
import functools
import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast, get_args

from diffusers.utils import logging as diffusers_logging

from .bundle import DEFAULT_BUNDLE, find_bundle, load_bundle, read_dial
from .cli_files import FORMATS, for_each, plan
from .cli_fit import add_sizes, asked_sizes, choose_sizes
from .cli_progress import PeakMemory, Progress, TimeLeft
from .cluster import Cluster
from .devices import pick_device
from .dial import noise_level_for
from .errors import InputError
from .film import Film, FilmRun, Piece, assign, pieces, retrying, scan
from .job import Finished, Job, fingerprint, finished_frames, recorded_sizes, remove_half_written, tidy_up
from .lock import only_run_on
from .media import ColourConfig, VideoInfo, VideoReader, VideoWriter
from .media.colour import Method
from .media.info import Hdr
from .media.shots import ShotConfig
from .models import Models
from .piece_worker import Order
from .pipeline import EnhanceConfig, Enhancer, Picture
from .preview import Preview
from .reference.key_frame import check_key_frame, parse_key_frame
from .reference.user_image import SMALLEST, Fit, fit_reference
from .spread import spread_frames

NOTHING = "stopped by Ctrl-C; no output was written"
Pictures = list[dict[int, Picture | None]]  # of each shot, from `assign`
Given = Sequence[tuple[int | None, Path]]  # frame or None, and its picture

def add_enhance(commands: argparse._SubParsersAction) -> None:
    d = EnhanceConfig()
    p = commands.add_parser("enhance", help="enhance videos")
    p.add_argument("input", nargs="+", help="a video file or a folder of images; or several of them, folders of videos, or "
                                            "patterns like 'old/*.mp4'")
    p.add_argument("-o", "--output", required=True,
                   help=".mp4, .mov, .mkv or .webm; without a suffix, a folder of PNG frames. For several inputs, or with "
                        "--format, a folder that takes an output of each input's name; those that are there are skipped")
    p.add_argument("--format", choices=FORMATS, help="of the outputs in the folder -o (default: each input's own where it "
                                                     "can be written, else mp4; folders of images give png)")
    p.add_argument("--reference", action="append", metavar="IMAGE[@FRAME]",
                   help="a good picture of the key frame (default: made here); with @ and a frame number, of that "
                        "frame. Repeatable: each governs the frames of its shot nearest to its own; one without a frame "
                        "is taken for the frame it resembles most")
    p.add_argument("--key-frame", default="auto", metavar="auto|N",
                   help="the frame that the reference shows, from 0 (default: auto, a sharp and central one)")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--scale", type=float, default=d.scale, help="of width and height, up to 8 (default: %(default)g)")
    size.add_argument("--size", metavar="WxH", help="of the output in pixels, in place of --scale")
    dial = p.add_mutually_exclusive_group()
    dial.add_argument("--noise-level", type=int, default=d.noise_level, metavar="N",
                      help="0 keeps to the input, 999 adds most detail (default: the bundle's, usually 250)")
    dial.add_argument("--creativity", type=float, metavar="C",
                      help="the noise level as 0 to 1, by the bundle's measured curve, which `genve info` prints")
    p.add_argument("--reference-strength", type=float, default=d.reference_strength, metavar="S",
                   help="0 is as without a reference, 1 is all of it (default: %(default)g)")
    p.add_argument("--preclean", type=float, default=d.preclean, metavar="S",
                   help="for clips much poorer than their size, of old cameras and codecs: clean them by a pass at their own "
                        "size before they are enlarged; 0 is none, 1 all that it changes (default: %(default)g)")
    p.add_argument("--dehalo", type=float, default=d.dehalo, metavar="S",
                   help="for cameras that sharpen: take away the light and dark rims beside edges; 0 is none, 1 all of them "
                        "(default: %(default)g)")
    p.add_argument("--supersample", action="store_true",
                   help="where no picture is given, work at twice the size wanted, at most at 4x, and reduce: crisper, and for "
                        "what is enlarged by 1 or 2 four times the work")
    p.add_argument("--steps", type=int, default=d.steps, help="of sampling (default: the bundle's)")
    p.add_argument("--seed", type=int, default=d.seed, help="same seed, same output (default: %(default)s)")
    p.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|PATH", help="weights (default: %(default)s)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    p.add_argument("--fit", choices=get_args(Fit), default=d.fit,
                   help="how a reference of another aspect is fitted (default: %(default)s)")
    p.add_argument("--no-colour-match", dest="match_colour", action="store_false",
                   help="keep the reference's own colours")
    p.add_argument("--no-align", dest="align", action="store_false",
                   help="take the reference as it lies, even if it is shifted against the key frame or shows something else")
    p.add_argument("--colour", choices=get_args(Method), default=d.colour.method,
                   help="what the output takes from the input's colours: low frequencies, statistics, or nothing "
                        "(default: %(default)s)")
    p.add_argument("--steadiness", type=float, default=d.steadiness, metavar="S",
                   help="how much neighbouring frames are fused against flicker, 0 to 1; below 1 the decoder is not asked in "
                        "several views (default: %(default)g)")
    p.add_argument("--one-shot", action="store_true", help="look for no cuts: the whole video is one scene")
    p.add_argument("--lossless", action="store_true", help="FFV1 in .mkv")
    p.add_argument("--hdr", choices=get_args(Hdr), default="tone-map",
                   help="make HDR and wide-gamut input SDR, or keep its values and tags: written as HEVC of 10 bits in .mp4, "
                        ".mov or .mkv, or --lossless (default: %(default)s)")
    p.add_argument("--deinterlace", choices=("auto", "off"), default="auto",
                   help="make pictures whole that are woven of two fields, flagged as interlaced or found by their combs; "
                        "off leaves all as they are (default: %(default)s)")
    p.add_argument("--frames", type=int, metavar="N", help="enhance only the first N")
    p.add_argument("--preview", action="store_true",
                   help="let finished pieces be watched in a small file beside the output, like new.preview.mp4, while the "
                        "rest is made; it is removed in the end")
    p.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_sizes(p)
    p.add_argument("--ray", nargs="?", const="auto", metavar="ADDRESS",
                   help="let the machines of a Ray cluster do the work: HOST:PORT, local, or by default auto, the cluster "
                        "that runs here, else one of this machine; see docs/cluster.md")
    p.set_defaults(run=enhance, stopped=NOTHING, label="")


def enhance(args: argparse.Namespace) -> int:
    """Every input, with weights that are loaded once. Raises InputError where the arguments do not fit."""
    diffusers_logging.set_verbosity_error()  # its advice is for programmers
    parse_references(args.reference or [], parse_config(args).key_frame)
    device = "cpu" if args.ray else str(pick_device(args.device))  # with --ray nothing is computed here
    bundle = find_bundle(args.bundle)
    if args.creativity is not None:
        args.noise_level = noise_level_for(read_dial(bundle), args.creativity)
    args.models = functools.cache(lambda: Models(load_bundle(args.bundle), device))
    work = plan(args.input, args.output, args.format, args.lossless)
    if not args.overwrite:  # with it, finished pieces still spare work
        for _, output in work.pairs:
            tidy_up(output)
    with Progress() as progress:
        progress.notes(work.notes)
    with Cluster(args.ray, args.device) if args.ray else nullcontext() as args.cluster:
        return for_each(args, work, enhance_one)


def enhance_one(args: argparse.Namespace) -> None:
    """Look, enhance, write. Raises InputError before any long work where the arguments do not fit."""
    begin, memory = time.perf_counter(), PeakMemory()
    config = parse_config(args)
    given = parse_references(args.reference or [], config.key_frame)
    with Progress(args.label) as progress, _reader(args) as video, only_run_on(args.output):
        config = fit_to_input(config, video.info, args.frames, [frame for frame, _ in given])
        assert config.size is not None
        h, w = config.size
        for _, picture in given:
            progress.notes(fit_reference(picture, (h, w), fit=config.fit).notes)
        with (VideoWriter(args.output, video.info, width=w, height=h, overwrite=args.overwrite, lossless=args.lossless,
                          audio_from=args.input) as out,
              Preview(args.output, video.info, (h, w)) if args.preview else nullcontext() as preview):
            progress.notes(out.notes)
            enhancer = Enhancer(args.models(), replace(config, key_frame=None))
            film = scan(video, args.frames, None if args.one_shot else ShotConfig(), progress)
            progress.close()
            _check_frames(video.info.path, args.frames, len(film))
            film, pictures, notes = assign(film, given, config.size, config.key_frame)
            progress.notes([*video.notes, *notes])
            work, job = _cut(args, enhancer, given, film, pictures, video.info, progress)
            remove_half_written(args.output, out.part)
            with closing(_frames(args, job, enhancer, video, film, pictures, work, progress)) as frames:
                for rgb, alpha in frames:
                    if preview is not None:
                        preview.write(rgb, film.times[out.frames])
                    out.write(rgb, film.times[out.frames], alpha)
        job.remove()
        progress.close()
        progress.notes([*enhancer.notes, *out.notes, *([preview.note] if preview and preview.note else [])])
    seconds = (time.perf_counter() - begin) / out.frames
    print(f"{args.output}: {out.frames} frames, {w}x{h} px, {_keys(film, pictures)}, "
          f"{seconds:.2f} s per frame, {memory.describe(enhancer.device)}")


def _reader(args: argparse.Namespace) -> VideoReader:
    return VideoReader(args.input, hdr=args.hdr, deinterlace=args.deinterlace == "auto")


def _frames(args: argparse.Namespace, job: Job, enhancer: Enhancer, video: VideoReader, film: Film, pictures: Pictures,
            work: list[Piece], progress: Progress) -> Generator[Finished]:
    """All finished frames, made here or by the workers of a cluster."""
    if args.cluster is not None:
        files = [{key: None if picture is None else Path(cast(str, picture)).absolute() for key, picture in own.items()}
                 for own in pictures]
        order = Order(video.info.path.absolute(), find_bundle(args.bundle).absolute(), enhancer.config, args.cluster.device,
                      film.shots, work, files, args.hdr, args.deinterlace == "auto")
        return spread_frames(args.cluster, job, order, progress, progress.notes)
    run = FilmRun(enhancer, video, film, pictures, retrying(enhancer, lambda note: progress.notes([note])))
    left = TimeLeft([len(piece.segment.own) for piece in work])

    def make(index: int) -> Iterator[Finished]:
        progress.piece(index, len(work), left.at(index))
        return run.piece(work[index], progress)

    return finished_frames(job, make)


def _cut(args: argparse.Namespace, enhancer: Enhancer, given: Given, film: Film, pictures: Pictures, info: VideoInfo,
         progress: Progress) -> tuple[list[Piece], Job]:
    """The work, in pieces that fit the memory, and its job, with what an earlier run finished if it was made with the same."""
    made_with = _made_with(args, enhancer, given, film)
    earlier = recorded_sizes(args.output, made_with)
    asked, fixed = asked_sizes(args)
    if args.cluster is None:
        sizes, why = choose_sizes(asked, fixed, earlier, enhancer, film, pictures, info)
        progress.notes([why])
    else:
        sizes = earlier or asked  # this machine's memory says nothing about the workers'
    enhancer.config = sizes.into(enhancer.config)
    work = pieces(enhancer, film)
    lengths = [len(piece.segment.own) for piece in work]
    job = Job(args.output, made_with, lengths, info, cast(tuple[int, int], enhancer.config.size), sizes)
    progress.notes(job.notes)
    if job.resumed:
        progress.notes([f"going on: {job.resumed} of {job.pieces} pieces are finished"])
    args.job = job.folder
    return work, job


def _made_with(args: argparse.Namespace, enhancer: Enhancer, given: Given, film: Film) -> str:
    """Of all that the output depends on; sizes that are fitted to the memory are not in it, see `recorded_sizes`."""
    weights = find_bundle(args.bundle) / "bundle.json"  # it holds the hashes of all weights
    settings = {"config": asdict(enhancer.config), "references": [frame for frame, _ in given], "one_shot": args.one_shot,
                "hdr": args.hdr, "deinterlace": args.deinterlace, "frames": args.frames,
                "device": args.cluster.device if args.cluster else enhancer.device.type,
                "shots": [str(shot) for shot in film.shots]}
    return fingerprint([args.input, weights, *(picture for _, picture in given)], settings)


def _keys(film: Film, pictures: Pictures) -> str:
    """`key frame 12`, or how many shots and key frames there are."""
    keys = [shot.start + number for shot, own in zip(film.shots, pictures, strict=True) for number in sorted(own)]
    shots = f"{len(film.shots)} shots, " if len(film.shots) > 1 else ""
    some = ", ".join(map(str, keys[:6])) + (", ..." if len(keys) > 6 else "")
    return f"{shots}key frame{'s' if len(keys) > 1 else ''} {some}"


def parse_config(args: argparse.Namespace) -> EnhanceConfig:
    """The configuration that the arguments ask for; `EnhanceConfig` checks the ranges."""
    if args.frames is not None and args.frames < 1:
        raise InputError(f"--frames must be 1 or more, got {args.frames}")
    return asked_sizes(args)[0].into(EnhanceConfig(
        scale=args.scale, size=None if args.size is None else parse_size(args.size),
        key_frame=parse_key_frame(args.key_frame), noise_level=args.noise_level,
        reference_strength=args.reference_strength, preclean=args.preclean, dehalo=args.dehalo,
        supersample=args.supersample, steps=args.steps, seed=args.seed, fit=args.fit, match_colour=args.match_colour,
        align=args.align, colour=ColourConfig(args.colour), steadiness=args.steadiness,
    ))


def parse_size(text: str) -> tuple[int, int]:
    """'704x448' (width first, as people say it) -> (448, 704). Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip(), re.ASCII)
    if match is None:
        raise InputError(f"--size must be WIDTHxHEIGHT in pixels, like 1280x720, got {text!r}")
    return int(match[2]), int(match[1])


def parse_references(texts: list[str], key_frame: int | None) -> Given:
    """`--reference` as (frame, picture); the frame is None for a picture that names none.

    A text is split at its last @ if a number follows; any other @ belongs to the path. Raises InputError for a frame
    named twice, and for --key-frame beside a frame named here.
    """
    given: list[tuple[int | None, Path]] = []
    for text in texts:
        path, at, frame = text.rpartition("@")
        named = bool(at and path) and frame.isascii() and frame.isdigit()
        if not named and at and Path(path).is_file() and not Path(text).exists():
            raise InputError(f"--reference {text}: wanted a frame number from 0 after the @, got {frame!r}")
        key, picture = (int(frame), Path(path)) if named else (None, Path(text))
        if key is not None and key_frame is not None:
            raise InputError(f"--reference {text} and --key-frame {key_frame} both name a frame; leave --key-frame out")
        if twice := [other for frame, other in given if key is not None and frame == key]:
            raise InputError(f"--reference names frame {key} twice, {twice[0]} and {picture}; give one a frame")
        given.append((key, picture))
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


def _check_frames(path: Path, wanted: int | None, there: int) -> None:
    if wanted is not None and wanted > there:
        raise InputError(f"--frames {wanted} is more than {path} has ({there}); ask for {there} or fewer, or leave it out")
