"""`genve evaluate`: methods, clips and settings in; a table, a JSON file and pictures out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .bundle import DEFAULT_BUNDLE
from .devices import pick_device
from .errors import InputError
from .pipeline import EnhanceConfig

DEGRADATIONS = ("real4x", "clean4x", "real2x", "clean2x", "real1x", "real8x")
METHODS = ("bicubic", "realesrgan", "flow-warp", "ours")
PERCEPTUAL = ("lpips", "dists", "musiq", "clip-iqa", "dover")
WEIGHTS = {"realesrgan_weights": "weights/realesr-animevideov3/realesr-animevideov3.pth",
           "niqe_params": "weights/niqe_basicsr_apache2/niqe_pris_params.npz"}


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    d = EnhanceConfig()
    p = commands.add_parser("evaluate", help="measure methods on clips with known truth")
    p.add_argument("--data", type=Path, required=True, metavar="DIR",
                   help="folder that contains validation/, or clips of your own")
    p.add_argument("--protocol", choices=["v1"], default="v1", help="definition of the clips and metrics (default: v1)")
    p.add_argument("--degradation", nargs="+", choices=DEGRADATIONS, default=["real4x", "clean4x"],
                   help="how clips are made poor; 8x, 2x and 1x are not the protocol's own (default: real4x clean4x)")
    p.add_argument("--setting", nargs="+", choices=["self", "one-good-frame"], default=["self", "one-good-frame"],
                   help="is the truth of the middle frame given as the reference? (default: both)")
    p.add_argument("--method", nargs="+", choices=METHODS, default=["bicubic", "flow-warp", "ours"],
                   help="(default: all but realesrgan, which needs weights)")
    p.add_argument("--results", nargs="+", default=[], metavar="[NAME=]DIR",
                   help="measure frames made by any tool: DIR/degradation/setting/clip/*.png, or DIR/clip/*.png")
    p.add_argument("--clips", nargs="+", metavar="CLIP",
                   help="by name, or hq, lq, all (default: hq); or good clips of your own, as files below --data")
    p.add_argument("--frames", type=int, default=48, help="most per clip; other than 48 is not the protocol")
    p.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR", help="(default: %(default)s)")
    p.add_argument("--cache", type=Path, metavar="DIR", help="keep read and degraded clips here for the next run")
    p.add_argument("--realesrgan-weights", type=Path, metavar="FILE", help=f"(default: DATA/{WEIGHTS['realesrgan_weights']})")
    p.add_argument("--niqe-params", type=Path, metavar="FILE",
                   help=f"(default: DATA/{WEIGHTS['niqe_params']}; without it, no NIQE)")
    p.add_argument("--metric", nargs="+", choices=PERCEPTUAL, default=[], help="through pyiqa, the extra `metrics`")
    p.add_argument("--vmaf-threads", type=int, default=1, help="(default: %(default)s)")
    p.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|PATH", help="of `ours` (default: %(default)s)")
    p.add_argument("--noise-level", type=int, default=d.noise_level, help="of `ours` (default: the bundle's)")
    p.add_argument("--reference-strength", type=float, default=d.reference_strength, help="of `ours` (default: %(default)g)")
    p.add_argument("--preclean", type=float, default=d.preclean, help="of `ours` (default: %(default)g)")
    p.add_argument("--dehalo", type=float, default=d.dehalo, help="of `ours` (default: %(default)g)")
    p.add_argument("--supersample", action="store_true", help="of `ours`")
    p.add_argument("--steps", type=int, default=d.steps, help="of `ours` (default: the bundle's)")
    p.add_argument("--seed", type=int, default=d.seed, help="of `ours` (default: %(default)s)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    p.set_defaults(run=evaluate, stopped="stopped by Ctrl-C; pictures made so far are kept, no table was written")


def evaluate(args: argparse.Namespace) -> None:
    """Run the protocol. What fits together is checked before the first clip is read; raises RuntimeError in the end if
    a clip failed, after the report of the others was written."""
    from .evaluation import protocol, report, runner

    device = str(pick_device(args.device))
    clips = protocol.find_clips(args.clips, args.data)
    config = runner.EvaluateConfig(tuple(args.degradation), tuple(args.setting), args.frames, cache=args.cache)
    methods = _methods(args, device)
    scorer = _scorer(args, device)
    if args.frames != protocol.FRAMES:
        _say(f"note: {args.frames} frames per clip is not protocol {protocol.PROTOCOL_VERSION}")
    if own := [clip.path for clip in clips if clip not in protocol.CLIPS + protocol.POOR_CLIPS]:
        _say(f"note: {', '.join(own)} is not of protocol {protocol.PROTOCOL_VERSION}")
    sheets = report.Sheets(args.out)
    run = runner.evaluate(clips, methods, args.data, config, scorer, sheets, _say)
    settings = {key: value for key, value in vars(args).items() if key not in ("run", "stopped", "command")}
    report.write_json(args.out / "evaluation.json", run.rows, run.failures, settings, device)
    if run.rows:
        text = report.table(run.rows)
        (args.out / "evaluation.md").write_text(text + "\n", encoding="utf-8")
        print(text)
    _say(f"table, JSON and pictures are in {args.out}")
    if run.failures:
        raise RuntimeError(f"{len(run.failures)} of {len(run.failures) + len(run.rows)} measurements failed; "
                           f"first: {run.failures[0]}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _methods(args: argparse.Namespace, device: str) -> dict[str, Any]:
    from .evaluation import peers

    methods: dict[str, Any] = {}
    for name in dict.fromkeys(args.method):
        if name == "bicubic":
            methods[name] = peers.Bicubic()
        elif name == "flow-warp":
            methods[name] = peers.FlowWarp()
        elif name == "realesrgan":
            methods[name] = peers.RealESRGAN(_weights(args, "realesrgan_weights"), device)
        else:
            methods[name] = _ours(args, device)
    for given in args.results:
        name, _, folder = given.rpartition("=")
        if not Path(folder).is_dir():
            raise InputError(f"--results {given} is not a folder; give frames as {folder}/CLIP/00000.png and so on")
        methods[name or Path(folder).name] = Path(folder)
    return methods


def _ours(args: argparse.Namespace, device: str) -> Any:
    from .bundle import load_bundle
    from .evaluation.peers import GenVE
    from .pipeline import enhance

    config = {"noise_level": args.noise_level, "reference_strength": args.reference_strength,
              "preclean": args.preclean, "dehalo": args.dehalo, "supersample": args.supersample, "steps": args.steps,
              "seed": args.seed}
    EnhanceConfig(**config)  # refuse a wrong option now, not once per clip
    return GenVE(enhance, bundle=load_bundle(args.bundle), device=device, **config)


def _weights(args: argparse.Namespace, name: str) -> Path:
    return getattr(args, name) or args.data / WEIGHTS[name]


def _scorer(args: argparse.Namespace, device: str) -> Any:
    from .evaluation.niqe import load_model
    from .evaluation.perceptual import Perceptual
    from .evaluation.runner import Scorer

    params = _weights(args, "niqe_params")
    model = load_model(params) if args.niqe_params or params.exists() else None
    return Scorer(model, {name: Perceptual(name, device) for name in args.metric}, args.vmaf_threads)
