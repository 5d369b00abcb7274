"""Several inputs of `genve enhance`: which files, which outputs, and how the whole of them ended."""

from __future__ import annotations

import argparse
import glob
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cli_errors import FAILURE, told
from .ctrl_c import is_ctrl_c
from .errors import InputError
from .job import is_there
from .media import probe
from .media.encode import CONTAINERS
from .media.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_stills

PNG = "png"  # as a format: a folder of frames
FORMATS = (*(suffix[1:] for suffix in CONTAINERS), PNG)


@dataclass(frozen=True)
class Plan:
    """What to make of what."""

    pairs: list[tuple[Path, str]]  # input, output as VideoWriter takes it
    several: bool  # the outputs lie in one folder that was asked for, and finished ones are skipped
    notes: list[str]


def plan(inputs: Sequence[str], output: str, form: str | None = None, lossless: bool = False) -> Plan:
    """Find the inputs and name the outputs. One input without a format is as it is given; everything else goes into a folder.

    inputs: files, folders, patterns (* ? [] **; the Windows shell leaves them to us). A folder is one input if it holds
    images, else each of its videos is one.   form: of FORMATS; None keeps an input's own where it can be written.
    Raises InputError: nothing found, two inputs with one output, an output that is an input, a file in place of the folder.
    """
    found, notes = [], []
    for text in inputs:
        found += _matching(text, notes)
    found = list({path.absolute(): path for path in found}.values())
    if form is None and len(found) == len(inputs) == 1 and str(found[0]) == str(Path(inputs[0])):
        return Plan([(found[0], output)], False, notes)
    folder = Path(output)
    if folder.is_file() or (folder.suffix.lower() in CONTAINERS and not folder.is_dir()):
        raise InputError(f"-o must be a folder for {len(found)} inputs, got {output}; their names are kept in it")
    if lossless and form not in (None, "mkv"):
        raise InputError(f"--lossless is written as mkv, got --format {form}; leave one of the two out")
    pairs = [(path, str(folder / _named(path, form or ("mkv" if lossless else None)))) for path in found]
    _check(pairs)
    return Plan(pairs, True, notes)


def _matching(text: str, notes: list[str]) -> list[Path]:
    path = Path(text)
    if not any(mark in text for mark in "*?[") or path.exists():
        return _in_folder(path, notes)
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    found = [path for match in matches for path in _in_folder(match, notes)]
    if not found:
        raise InputError(f"no file matches {text}; give videos, folders of videos, or patterns like 'old/*.mp4'")
    return found


def _in_folder(path: Path, notes: list[str]) -> list[Path]:
    """The videos in a folder; the path itself if it is a file, or a folder that is one input or none."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        if videos:
            notes.append(f"{path} holds images and is taken for their sequence; its {len(videos)} videos are left out "
                         f"(give {path / '*'}{videos[0].suffix} for them)")
        return [path]
    return videos or [path]


def _named(path: Path, form: str | None) -> str:
    """The output's name: the input's, with the suffix of its format."""
    stem = path.absolute().name if path.is_dir() else path.stem
    if form is None:
        form = PNG if is_stills(path) else suffix[1:] if (suffix := path.suffix.lower()) in CONTAINERS else "mp4"
    return stem if form == PNG else f"{stem}.{form}"


def _check(pairs: list[tuple[Path, str]]) -> None:
    inputs, first = {path.absolute() for path, _ in pairs}, {}
    for path, output in pairs:
        if Path(output).absolute() in inputs:
            raise InputError(f"the output of {path} would be the input {output}; give another folder with -o")
        if (key := output.lower()) in first:  # two files to Linux, one to Windows
            raise InputError(f"{first[key]} and {path} would both be written to {output}; enhance them into two folders")
        first[key] = path


def for_each(args: argparse.Namespace, work: Plan, enhance: Callable[[argparse.Namespace], None]) -> int:
    """Call `enhance` with `args.input` and `args.output` of each. Returns the exit code.

    A single input's error is raised. Of several, one that fails is told in a line and the rest go on; Ctrl-C ends all.
    """
    if not work.several:
        args.input, args.output = work.pairs[0]
        enhance(args)
        return 0
    Path(args.output).mkdir(parents=True, exist_ok=True)
    args.stopped = "stopped by Ctrl-C; finished outputs are kept, the same command goes on"
    count: Counter[str] = Counter()
    with _Files([path for path, _ in work.pairs]) as bar:
        for i, (args.input, args.output) in enumerate(work.pairs):
            args.label, args.job = f"{i + 1}/{len(work.pairs)} {args.input.name}: ", None
            count[_one(args, enhance, bar)] += 1
            bar.next()
    left = f"{count['skipped']} finished before and left as they are (--overwrite makes them anew)" if count["skipped"] else ""
    failed = f"{count['failed']} failed, the same command tries them again" if count["failed"] else ""
    parts = [f"{count['done']} of {len(work.pairs)} files enhanced", left, failed]
    print(f"genve {args.command}: {', '.join(filter(None, parts))}", file=sys.stderr)
    return FAILURE if failed else 0


def _one(args: argparse.Namespace, enhance: Callable[[argparse.Namespace], None], bar: _Files) -> str:
    """How one of several ended: done, skipped or failed."""
    if not args.overwrite and is_there(args.output):
        return "skipped"
    try:
        enhance(args)
    except Exception as error:  # the others go on, whatever it was
        if is_ctrl_c(error):
            raise KeyboardInterrupt from error
        if args.verbose:
            traceback.print_exc()
        bar.say(f"{args.label}{told(args, error)[0]}")
        return "failed"
    return "done"


class _Files:
    """A bar over all files, above that of the stage under way: in frames if all files tell how many, else in files."""

    def __init__(self, paths: Sequence[Path]):
        from tqdm import tqdm

        self._frames = [_frames(path) for path in paths]
        in_frames = all(self._frames)
        self._steps = iter(self._frames if in_frames else [1] * len(paths))
        self._bar = tqdm(total=sum(self._frames) if in_frames else len(paths), desc=f"all {len(paths)} files",
                         unit=" frames" if in_frames else " files", disable=None, dynamic_ncols=True, leave=False,
                         file=sys.stderr)

    def next(self) -> None:
        """A file is done with."""
        self._bar.update(next(self._steps))

    def say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _frames(path: Path) -> int:
    """0 if unknown, or if the file cannot be read: that is told in its turn."""
    try:
        return probe(path).frames or 0
    except Exception:
        return 0
