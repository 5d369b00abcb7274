"""`genve train STAGE`: build a stage from its config and the components trained before it, and run the loop."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

from ..bundle import Bundle, load_bundle
from ..errors import InputError
from ..noise_schedule import NoiseSchedule
from .clip_store import ClipConfig, ClipStore, make_clips
from .loop import LoopConfig, Stage, Trainer
from .start import check_sizes, component_of, copy_bundle

STAGES = ("clips", "vae", "decoder", "image", "motion", "controller", "flow", "refine", "views")


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


def _existing(out: Path, part: str, settings: dict[str, Any], kind: type[nn.Module] = nn.Module) -> Any:
    """The component that a stage goes on with, if `out`/bundle holds one; `settings` must not ask for another size.

    kind: its class, where a bundle may hold one of several under one name.
    """
    module = component_of(out / "bundle", part)
    if not isinstance(module, kind):
        return None
    check_sizes(module, part, settings)
    return module


def _vae(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.vae import VaeConfig, VaeStage

    return VaeStage(store, configured(VaeConfig, settings, "stage vae"), _existing(out, "vae", settings))


def _decoder(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.decoder import DecoderConfig, DecoderStage

    vae = _before(out, "vae")["vae"]
    config = configured(DecoderConfig, settings, "stage decoder")
    decoder = _existing(out, "decoder", {name: value for name, value in settings.items() if name not in ("depth", "fine")})
    if decoder is not None and "depth" in settings:
        decoder = decoder.deepened(config.depth)
    if decoder is not None and config.fine:
        decoder = decoder.with_fine()
    return DecoderStage(store, config, vae, decoder)  # type: ignore[arg-type]


def _image(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.image import ImageConfig, ImageStage

    bundle = _before(out, "vae")
    config = configured(ImageConfig, settings, "stage image")
    unet = _existing(out, "unet", settings)
    return ImageStage(store, config, bundle["vae"], NoiseSchedule(bundle.schedule), unet)  # type: ignore[arg-type]


def _motion(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.motion import MotionConfig, MotionStage

    bundle = _before(out, "vae", "unet")
    config = configured(MotionConfig, settings, "stage motion")
    schedule, motion = NoiseSchedule(bundle.schedule), _existing(out, "motion", settings)
    return MotionStage(store, config, bundle["vae"], bundle["unet"], schedule, motion)  # type: ignore[arg-type]


def _controller(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from .stages.controller import ControllerConfig, ControllerStage

    bundle = _before(out, "vae", "unet", "motion", "decoder", optional=("controller",))  # goes on with one that is there
    check_sizes(bundle["decoder"], "decoder", settings.get("decoder", {}))
    if "controller" in bundle.components:
        check_sizes(bundle["controller"], "controller", settings)
    return ControllerStage(store, configured(ControllerConfig, settings, "stage controller"), bundle)


def _refine(store: ClipStore, settings: dict[str, Any], out: Path) -> Stage:
    from ..conditioning.refine import FlowRefiner
    from .stages.refine import RefineConfig, RefineStage

    return RefineStage(store, configured(RefineConfig, settings, "stage refine"), _existing(out, "flow", settings, FlowRefiner))


def _views(data: Path, out: Path, settings: dict[str, Any], start: str | Path | None, seed: int,
           say: Callable[[str], None]) -> Path:
    """Solved at once, by one process."""
    from .views import ViewsConfig, fit_views

    config, store = configured(ViewsConfig, settings, "stage views"), ClipStore(data)
    if start is not None:
        copy_bundle(start, out / "bundle")
    left = fit_views(store, out, config, seed)
    rest = f"; of the variance of turned latents {', '.join(f'{x:.1%}' for x in left)} is left" if left else ""
    say(f"views: {config.views}{rest}")
    return out / "bundle"


BUILD: dict[str, Callable[[ClipStore, dict[str, Any], Path], Stage]] = {
    "vae": _vae, "decoder": _decoder, "image": _image, "motion": _motion, "controller": _controller, "refine": _refine,
}


def train(stage: str, data: Path, out: Path, config: Path | None = None, resume: bool = False,
          start: str | Path | None = None, say: Callable[[str], None] = lambda line: None) -> Path:
    """Run one stage. Returns the folder of the bundle it trained (for `clips`: of the clips).

    data: photographs and videos for `clips` and `flow`, the folder of clips for every other stage.
    start: a bundle whose components the run starts from (`copy_bundle`).   say: gets a line for the user.
    A stage goes on with its component if `out`/bundle holds it, else it makes a new one.
    """
    loop = configured(LoopConfig, read_config(config, "loop"), "loop")
    settings = read_config(config, "stage")
    torch.manual_seed(loop.seed)  # initial weights
    if stage == "clips":
        if start is not None:
            raise InputError("clips are made without weights; leave out --from here and give it to the stages that follow")
        made = configured(ClipConfig, settings, "clips")
        if not (count := make_clips(data, out, made, loop.seed)):
            raise InputError(f"--data {data} gave no clip; videos need {made.reach} frames without a cut and {made.size} px "
                             f"a side, or set `reach` and `size` in the config")
        say(f"clips: {count} of the {made.clips} asked for" if count < made.clips else f"clips: {count}")
        return out
    if stage == "views":
        return _views(data, out, settings, start, loop.seed, say)
    from accelerate import Accelerator

    accelerator = Accelerator()  # first of all: it gives every process its own device
    if start is not None:
        if accelerator.is_main_process:
            copy_bundle(start, out / "bundle")
        accelerator.wait_for_everyone()
    of_store = {name: float(settings.pop(name, 0.0)) for name in ("fresh", "turn", "grow")}  # see `ClipStore`
    record: dict[str, Any] = {"settings": settings}
    if stage == "flow":  # moves a camera over photographs itself: flow is exact there, not so on clips
        from ..conditioning.raft import Raft
        from .stages.flow import build_flow_stage

        built: Stage = build_flow_stage(data, settings)
        if (raft := _existing(out, "flow", {}, Raft)) is not None:
            built.trained["flow"].load_state_dict(raft.state_dict())
    else:
        device = accelerator.device if accelerator.device.type == "cuda" else torch.device("cpu")
        store = ClipStore(data, device, device_resident=device.type == "cuda", **of_store)
        record = {"settings": {**settings, **of_store}}
        built = BUILD[stage](store, settings, out)
    if accelerator.is_main_process and not resume:
        for part, module in built.trained.items():
            if isinstance(component_of(out / "bundle", part), type(module)):
                say(f"{stage}: goes on with the {part} in {out / 'bundle'}")
    return Trainer(built, loop, out, resume, record).run()
