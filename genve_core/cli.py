"""The command line, `genve enhance | shots | jobs | train | evaluate | study | info`: parse, call the core, tell errors
in one line.

Exit codes: 0 done; 1 a failure; 2 a usage or input error; 130 stopped by Ctrl-C. Only results go to stdout.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from . import __version__
from .cli_enhance import add_enhance
from .cli_errors import USAGE, one_line, told
from .cli_evaluate import add_evaluate
from .cli_info import add_info
from .cli_shots import add_jobs, add_shots
from .cli_study import add_study
from .ctrl_c import noticing_ctrl_c
from .errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """argparse, whose errors are one line; the long usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: error: {one_line(message)}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line. Every sub-command sets `run`, a function of the parsed arguments that
    returns the exit code, or None for 0."""
    parser = OneLineParser(prog="genve", description="Reference-guided video enhancement: one good frame is enough.")
    parser.add_argument("--version", action="version", version=f"genve {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_enhance, add_shots, add_jobs, _add_train, add_evaluate, add_study, add_info):
        add(commands)
    for command in commands.choices.values():
        command.add_argument("-v", "--verbose", action="store_true", help="show where an error comes from")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse ends a wrong usage itself, with code 2."""
    args = build_parser().parse_args(argv)
    with noticing_ctrl_c():
        try:
            return args.run(args) or 0
        except (KeyboardInterrupt, Exception) as error:  # the edge of the program: a person is told, whatever it was
            if args.verbose:
                traceback.print_exc()
            message, code = told(args, error)
            print(f"genve {args.command}: {message}", file=sys.stderr)
            return code


def _add_train(commands: argparse._SubParsersAction) -> None:
    from .training.run import STAGES

    p = commands.add_parser("train", help="train one stage of a bundle")
    p.add_argument("stage", choices=STAGES, help="in this order: clips, then the networks")
    p.add_argument("--data", type=Path, required=True, help="photographs and videos, or for later stages the clips")
    p.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs, pictures and the bundle")
    p.add_argument("--config", type=Path, help="JSON with the settings that differ from the defaults; see configs/")
    p.add_argument("--from", dest="start", metavar="NAME|PATH",
                   help="start from the weights of this bundle: they are copied into --out, and stages go on with them")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    p.set_defaults(run=_train, stopped="stopped by Ctrl-C; what was trained is saved, add --resume to go on")


def _train(args: argparse.Namespace) -> None:
    if not args.data.exists():
        raise InputError(f"--data {args.data} does not exist; give a folder of photographs, videos or clips")
    if missing := [name for name in ("accelerate", "kornia", "tensorboard") if find_spec(name) is None]:
        raise InputError(f'training needs {", ".join(missing)}, not installed; pip install "genve[train]"')
    from .training.run import train

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    folder = train(args.stage, args.data, args.out, args.config, args.resume, args.start, say)
    print(f"{args.stage}: done, in {folder}")
