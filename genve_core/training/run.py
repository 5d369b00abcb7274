"""`genve train STAGE`: build a stage from its config and the components trained before it, and run the loop."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..bundle import Bundle, load_bundle
from ..errors import InputError
from ..noise_schedule import NoiseSchedule
from .clip_store import ClipConfig, ClipStore, make_clips
from .loop import LoopConfig, Stage, Trainer

STAGES = ("clips", "vae", "decoder", "image", "motion", "controller", "flow")


def read_config(file: Path | None, section: str) -> dict[str, Any]:
    """The `section` of a JSON config file: {"loop": {...}, "stage": {...}}. No file means all defaults."""
    if file is None:
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"--config {file} cannot be read as JSON ({error}); see configs/ for examples") from error
    if not isinstance(config.get(section, {}), dict):
        raise InputError(f"--config {file}: {section!r} must be an object of settings")
    return config.get(section, {})


def configured(kind: type, values: dict[str, Any], name: str) -> Any:
    """A config dataclass from JSON values; lists become tuples; an unknown name is an error that lists the known."""
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise InputError(f"config of {name} has no setting {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return kind(**{k: _value(getattr(kind(), k), v, f"{name}.{k}") for k, v in values.items()})


def _value(default: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(default) and not isinstance(default, type) and isinstance(value, dict):
        return configured(type(default), {**dataclasses.asdict(default), **value}, name)
    return tuple(value) if isinstance(value, list) else value


def _before(out: Path, *parts: str, optional: tuple[str, ...] = ()) -> Bundle:
    """Components trained by earlier stages, from `out`/bundle."""
    bundle = load_bundle(out / "bundle", only=(*parts, *optional))
    for part in parts:
        bundle[part]
    return bundle


def _vae(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.vae import VaeConfig, VaeStage

    return VaeStage(store, configured(VaeConfig, settings, "stage vae"))


def _decoder(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.decoder import DecoderConfig, DecoderStage

    vae = _before(out, "vae")["vae"]
    return DecoderStage(store, configured(DecoderConfig, settings, "stage decoder"), vae)  # type: ignore[arg-type]


def _image(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.image import ImageConfig, ImageStage

    bundle = _before(out, "vae")
    config = configured(ImageConfig, settings, "stage image")
    return ImageStage(store, config, bundle["vae"], NoiseSchedule(bundle.schedule))  # type: ignore[arg-type]


def _motion(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.motion import MotionConfig, MotionStage

    bundle = _before(out, "vae", "unet")
    config = configured(MotionConfig, settings, "stage motion")
    return MotionStage(store, config, bundle["vae"], bundle["unet"], NoiseSchedule(bundle.schedule))  # type: ignore[arg-type]


def _controller(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.controller import ControllerConfig, ControllerStage

    bundle = _before(out, "vae", "unet", "motion", "decoder", optional=("controller",))  # goes on with one that is there
    return ControllerStage(store, configured(ControllerConfig, settings, "stage controller"), bundle)


BUILD: dict[str, Callable[[ClipStore, dict[str, Any], Path], Stage]] = {
    "vae": _vae, "decoder": _decoder, "image": _image, "motion": _motion, "controller": _controller,
}


def train(stage: str, data: Path, out: Path, config: Path | None = None, resume: bool = False) -> Path:
    """Run one stage. Returns the folder of the bundle it trained (for `clips`: of the clips).

    data: photographs and videos for `clips` and `flow`, the folder of clips for every other stage.
    """
    loop = configured(LoopConfig, read_config(config, "loop"), "loop")
    settings = read_config(config, "stage")
    torch.manual_seed(loop.seed)  # initial weights
    if stage == "clips":
        make_clips(data, out, configured(ClipConfig, settings, "clips"), loop.seed)
        return out
    if stage == "flow":  # moves a camera over photographs itself: flow is exact there, not so on clips
        from .stages.flow import build_flow_stage

        record = {"settings": dict(settings)}
        return Trainer(build_flow_stage(data, settings), loop, out, resume, record).run()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fresh = settings.pop("fresh", 0.0)  # share of crops degraded anew, on the device
    store = ClipStore(data, device, device_resident=device == "cuda", fresh=fresh)
    record = {"clips": len(store), "settings": {**settings, "fresh": fresh}}
    return Trainer(BUILD[stage](store, settings, out), loop, out, resume, record).run()
