"""`genve study`: what each setting is worth, measured on clips with known truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import DEFAULT_BUNDLE
from .cli_evaluate import DEGRADATIONS
from .devices import pick_device
from .errors import InputError

if TYPE_CHECKING:
    from .evaluation.protocol import Clip

NAMES = ("noise", "reference", "steps", "distance", "ablation")


def add_study(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser("study", help="measure what each setting and each part of the method is worth")
    p.add_argument("name", choices=NAMES, help="see docs/studies.md")
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that contains validation/")
    p.add_argument("--out", type=Path, required=True, metavar="DIR",
                   help="for records, table and plot; clips that it holds already are not measured again")
    p.add_argument("--clips", nargs="+", metavar="CLIP", help="by name, see `genve evaluate` (default: hq)")
    p.add_argument("--degradation", choices=DEGRADATIONS, default="real4x", help="(default: %(default)s)")
    p.add_argument("--frames", type=int, default=16, help="most per clip (default: %(default)s)")
    p.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|PATH", help="(default: %(default)s)")
    p.add_argument("--cache", type=Path, metavar="DIR", help="keep read and degraded clips here for the next run")
    p.add_argument("--write-dial", action="store_true", help="noise: note the measured curve in the bundle, for `genve info`")
    p.add_argument("--clips-data", type=Path, metavar="DIR", help="ablation: training clips, from `genve train clips`")
    p.add_argument("--config", type=Path, help="ablation: JSON with its settings, see configs/cpu/ablation.json")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    p.set_defaults(run=study, stopped="stopped by Ctrl-C; what is finished is kept, the same command goes on")


def study(args: argparse.Namespace) -> None:
    """Run one study and print its report."""
    from .evaluation.protocol import find_clips

    if args.write_dial and args.name != "noise":
        raise InputError(f"--write-dial goes with the study noise, got {args.name}; leave it out")
    if args.name == "ablation" and args.clips_data is None:
        raise InputError("the ablation trains, so it needs --clips-data: a folder of clips from `genve train clips`")
    if args.name != "ablation" and (args.clips_data or args.config):
        raise InputError(f"--clips-data and --config go with the study ablation, got {args.name}; leave them out")
    if args.frames < 4:
        raise InputError(f"--frames must be 4 or more, got {args.frames}")
    if not args.data.is_dir():
        raise InputError(f"--data {args.data} is not a folder; give the one that contains validation/")
    clips = find_clips(args.clips, args.data)
    if poor := [clip.name for clip in clips if not clip.has_truth]:
        raise InputError(f"--clips {', '.join(poor)} has no truth to measure against; choose from hq, or clips of your own")
    (_ablation if args.name == "ablation" else _variants)(args, clips)
    print((args.out / f"{args.name}.md").read_text(encoding="utf-8"), end="")


def _variants(args: argparse.Namespace, clips: Sequence[Clip]) -> None:
    from .bundle import find_bundle, load_bundle, save_dial
    from .evaluation.studies import STUDIES, dial_of
    from .evaluation.study import Runner, means, run_study

    device = str(pick_device(args.device))
    runner = Runner(load_bundle(args.bundle), args.data, args.degradation, args.frames, device, args.cache)
    records = run_study(STUDIES[args.name], clips, runner, args.out, _say)
    if args.write_dial:
        save_dial(find_bundle(args.bundle), dial_of(means(records)))


def _ablation(args: argparse.Namespace, clips: Sequence[Clip]) -> None:
    from .bundle import load_bundle
    from .evaluation.ablation import Ablation, AblationConfig, run_ablation
    from .training.clip_store import ClipStore
    from .training.loop import LoopConfig
    from .training.run import configured, read_config
    from .training.stages.controller import ControllerConfig

    kinds = {"ablation": AblationConfig, "loop": LoopConfig, "stage": ControllerConfig}
    config, loop, stage = (configured(kind, read_config(args.config, name), name) for name, kind in kinds.items())
    device = str(pick_device(args.device))
    run_ablation(Ablation(load_bundle(args.bundle), args.data, clips, ClipStore(args.clips_data), config, loop, stage,
                          args.out, args.degradation, args.frames, device, args.cache, _say))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
