"""`genve shots`: where a video is cut. `genve jobs`: interrupted runs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from .cli_progress import Progress
from .errors import InputError
from .film import Film, scan
from .job import find_jobs
from .lock import only_run_on
from .media import VideoReader
from .media.shots import ShotConfig


def add_shots(commands: argparse._SubParsersAction) -> None:
    d = ShotConfig()
    p = commands.add_parser("shots", help="list the shots of a video with their key frames")
    p.add_argument("input", type=Path, help="a video file, or a folder of images")
    p.add_argument("--out", type=Path, metavar="DIR", help="write the key frames there, as references to be improved")
    p.add_argument("--sensitivity", type=float, default=d.sensitivity, metavar="S",
                   help="0 finds only hard cuts, 1 also those between alike scenes (default: %(default)g)")
    p.set_defaults(run=shots)


def add_jobs(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser("jobs", help="list interrupted runs, or remove what they kept")
    p.add_argument("folder", type=Path, nargs="?", default=Path("."), help="of the outputs (default: here)")
    p.add_argument("--clean", action="store_true", help="remove the finished pieces of all of them")
    p.set_defaults(run=jobs)


def shots(args: argparse.Namespace) -> None:
    """Print a line a shot; write each key frame at full size if asked for."""
    cuts = ShotConfig(args.sensitivity)
    with Progress() as progress, VideoReader(args.input) as video:
        film = scan(video, None, cuts, progress)
        progress.close()
        progress.notes(video.notes)
        if args.out is not None:
            _write_key_frames(video, film, args.out)
    for i, shot in enumerate(film.shots):
        begin, end = (float(film.times[frame]) for frame in (shot.start, shot.stop - 1))
        print(f"shot {i}: frames {shot.start} to {shot.stop - 1}, {begin:.2f} to {end:.2f} s, key frame {shot.key}")


def _write_key_frames(video: VideoReader, film: Film, folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    names = {shot.key: f"shot_{i:03}_frame_{shot.key}.png" for i, shot in enumerate(film.shots)}
    for frame in video.picked(names):
        picture = ((frame.rgb + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(folder / names[frame.index])


def jobs(args: argparse.Namespace) -> None:
    """Print a line a job; with --clean remove them."""
    if not args.folder.is_dir():
        raise InputError(f"{args.folder} is not a folder; give the one of the outputs")
    found = find_jobs(args.folder)
    if not found:
        print(f"no interrupted jobs in {args.folder}")
    for job in found:
        over, state = False, ""
        try:
            with only_run_on(job.path):
                over = job.over
                if args.clean:
                    shutil.rmtree(job.folder)
                    state = ", removed"
        except InputError:
            state = ", a run is at work on it" + (" (not removed)" if args.clean else "")
        kept = f"finished, {job.finished} pieces left over" if over else f"{job.finished} of {job.pieces} pieces"
        print(f"{job.output}: {kept} of {job.input}, {job.bytes / 1e6:.1f} MB{state}")
