"""`genve info`: what a bundle or a video is, or what this installation can do."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch

from . import __version__
from .bundle import DEFAULT_BUNDLE, PACKED, find_bundle, load_bundle
from .devices import device_name, has_bf16, pick_device
from .errors import InputError
from .media import VideoReader

Facts = list[tuple[str, object]]


def add_info(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser("info", help="tell about a bundle, a video, or this installation")
    p.add_argument("subject", nargs="?", metavar="BUNDLE|VIDEO", help="a bundle's name or folder, or a video")
    p.set_defaults(run=info)


def info(args: argparse.Namespace) -> None:
    """Print facts, one a line. A bundle is loaded in full, so that what is printed is also checked."""
    if args.subject is None:
        facts = installation()
    elif Path(args.subject).exists() and not (Path(args.subject) / "bundle.json").is_file():
        facts = video(Path(args.subject))
    else:
        facts = bundle(args.subject)
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name:{width}}  {value}")


def bundle(subject: str) -> Facts:
    """Name, licence, components with their size, defaults and training record. Raises InputError if it is not whole."""
    try:
        path = find_bundle(subject)
    except InputError as error:
        raise InputError(f"{subject!r} is no video that exists, and {error}") from None
    loaded = load_bundle(path)
    facts: Facts = [("bundle", loaded.name), ("folder", path), ("licence", loaded.licence)]
    total = 0
    for part, module in loaded.components.items():
        parameters = sum(p.numel() for p in module.parameters())
        total += parameters
        size = (path / f"{part}.safetensors").stat().st_size
        facts.append((part, f"{type(module).__name__}, {parameters / 1e6:.2f} M parameters, {size / 2**20:.2f} MiB"))
    facts += [("in all", f"{total / 1e6:.2f} M parameters"), ("prediction", loaded.schedule.prediction)]
    facts += [(name.replace("_", " "), value) for name, value in vars(loaded.defaults).items()]
    for row in loaded.dial:
        facts.append((f"n = {row['n']}", f"creativity {row['creativity']:.2f}, {row['in_psnr']:.2f} dB to the input, "
                                         f"sharpness {row['sharpness']:.2f}, VMAF {row['vmaf']:.1f}"))
    for record in loaded.training:
        told = (f"{name} {value}" for name, value in record.items() if name in ("steps", "samples", "minutes", "device"))
        facts.append((f"trained: {record.get('stage', '?')}", ", ".join(told)))
    return facts


def video(path: Path) -> Facts:
    """What a reader sees. Raises InputError if it is not a video."""
    with VideoReader(path) as reader:
        seen, woven = reader.info, reader.woven
    traits = {
        "variable frame rate": seen.variable_rate, "alpha": seen.has_alpha, "sound": seen.has_audio,
        "interlaced": seen.interlaced or woven, "mirrored": seen.mirrored, "HDR": seen.is_hdr,
    }  # fmt: skip
    colour = seen.colour
    return [
        ("video", seen.path),
        ("size", f"{seen.width}x{seen.height} px" + (f", turned by {seen.rotation} degrees" if seen.rotation else "")),
        ("frames", "unknown before decoding" if seen.frames is None else seen.frames),
        ("rate", f"{float(seen.rate):.3f} frames per second"),
        ("duration", f"{float(seen.duration):.3f} s"),
        ("codec", f"{seen.codec}, {seen.pixel_format}, {seen.bit_depth} bit"),
        ("colour", f"matrix {colour.matrix}, {colour.range} range, transfer {colour.transfer}, primaries {colour.primaries}"),
        ("has", ", ".join(name for name, there in traits.items() if there) or "nothing out of the ordinary"),
    ]


def installation() -> Facts:
    """Versions, the device that `auto` takes, and the bundles at hand."""
    import av
    import diffusers

    device = pick_device()
    bundles = sorted(file.parent.name for file in PACKED.glob("*/bundle.json"))
    return [
        ("genve", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", torch.__version__),
        ("diffusers", diffusers.__version__),
        ("av", av.__version__),
        ("device", f"{device} ({device_name(device)}), {'bf16' if has_bf16(device) else 'float32'}"),
        ("bundles", ", ".join(bundles) or f"none in {PACKED}"),
        ("default bundle", DEFAULT_BUNDLE if DEFAULT_BUNDLE in bundles else f"{DEFAULT_BUNDLE} (not installed)"),
    ]
