"""A bundle: a folder of weights that work together, described by `bundle.json` and checked when it is loaded.

One safetensors file (fp16, or `eight_bits`) per component, with its class's config and sha256 in `bundle.json`. A missing,
extra or mis-shaped tensor, a wrong hash, a NaN or another format version is an error that names it. Nothing but
safetensors is read and nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .diffuser.sampler import timesteps
from .eight_bits import packed, unpacked
from .errors import InputError
from .noise_schedule import NoiseScheduleConfig

if TYPE_CHECKING:
    from diffusers.models.unets.unet_motion_model import UNetMotionModel

FORMAT = 1
PACKED = Path(__file__).resolve().parent.parent / "bundles"  # the bundles that ship with the pack
DEFAULT_BUNDLE = "genve-mini"


def _vae(config: dict[str, Any]) -> nn.Module:
    from .vae import MiniVAE

    return cast(nn.Module, MiniVAE.from_config(config))


def _unet(config: dict[str, Any]) -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return cast(nn.Module, UNet2DConditionModel.from_config(config))


def _motion(config: dict[str, Any]) -> nn.Module:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

    return cast(nn.Module, MotionAdapter.from_config(config))


def _controller(config: dict[str, Any]) -> nn.Module:
    from .controller import VideoController

    return cast(nn.Module, VideoController.from_config(config))


def _decoder(config: dict[str, Any]) -> nn.Module:
    from .decoder.detail_decoder import DetailDecoder

    return cast(nn.Module, DetailDecoder.from_config(config))


def _flow(config: dict[str, Any]) -> nn.Module:
    if "architecture" in config:
        from .conditioning.raft import build_raft

        return build_raft(**config)
    from .conditioning.refine import FlowRefiner

    return FlowRefiner(**config)


BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "vae": _vae, "unet": _unet, "motion": _motion, "controller": _controller, "decoder": _decoder, "flow": _flow,
    "decoder_precleaned": _decoder, "decoder_2x": _decoder, "decoder_1x": _decoder,
}
REQUIRED = ("vae", "unet", "motion", "controller", "decoder")  # what `enhance` needs; the others may be absent
# What went on from a component, and in its place would hide what that learns later.
OF_ANOTHER = {"decoder": ("decoder_1x", "decoder_2x")}


@dataclass
class Defaults:
    """How this bundle is meant to be used; every value can be overridden by the user."""

    steps: int = 1
    video_start: int = 250  # T1
    image_start: int = 250  # T0
    image_steps: int = 4
    noise_level: int = 250  # n
    detail_at_2x: float = 1.0  # times what `noise_level` adds where a clip is enlarged by 2 or less, see `detail_level`
    detail_above: float = 1.0  # times what n adds above `noise_level`

    def video_times(self, steps: int | None = None, start: int | None = None) -> list[int]:
        """The times at which the video diffuser is asked; None = as recommended. Raises InputError as `timesteps` does."""
        steps = self.steps if steps is None else steps
        if start is None:
            start = max(self.video_start, min(steps, 1000) - 1)  # many steps begin as early as they need
        return timesteps(start, steps)


@dataclass
class Bundle:
    """Weights in memory. `components` maps the names of `BUILDERS` to modules (eval mode, float32, CPU)."""

    components: dict[str, nn.Module]
    name: str = ""
    schedule: NoiseScheduleConfig = field(default_factory=NoiseScheduleConfig)
    defaults: Defaults = field(default_factory=Defaults)
    training: list[dict[str, Any]] = field(default_factory=list)  # what was trained on what, for how long
    licence: str = "Apache-2.0"
    path: Path | None = None
    dial: list[dict[str, float]] = field(default_factory=list)  # what each n does, see `save_dial`

    def __getitem__(self, component: str) -> nn.Module:
        try:
            return self.components[component]
        except KeyError:
            have = ", ".join(self.components) or "nothing"
            raise InputError(f"bundle {self.name or self.path} has no {component}, only {have}; train that stage, "
                             f"or use another bundle") from None

    def video_unet(self) -> UNetMotionModel:
        """The video diffuser's network: the image diffuser's 2D UNet with the motion modules put in."""
        from diffusers.models.unets.unet_motion_model import UNetMotionModel
        from diffusers.utils import logging

        level = logging.get_verbosity()
        logging.set_verbosity_error()  # it advises on half precision, which does not concern our users
        try:
            unet = UNetMotionModel.from_unet2d(self["unet"], self["motion"])  # type: ignore[arg-type]
        finally:
            logging.set_verbosity(level)
        return cast(UNetMotionModel, unet).eval().requires_grad_(False)


def find_bundle(name: str | Path, folders: tuple[Path, ...] = ()) -> Path:
    """The folder of a bundle: a path to it, or a name looked up in `folders`, then in the pack's own bundles.

    Raises InputError if there is none; a name may not leave the folder it is looked up in.
    """
    given = Path(name)
    if (given / "bundle.json").is_file():
        return given
    if given.name == str(name):
        for folder in (*folders, PACKED):
            if (folder / given.name / "bundle.json").is_file():
                return folder / given.name
    have = sorted({p.parent.name for folder in (*folders, PACKED) for p in folder.glob("*/bundle.json")})
    raise InputError(f"bundle {str(name)!r} was not found; give a folder that holds a bundle.json, "
                     f"or one of: {', '.join(have) or 'none installed'}")


def load_bundle(name: str | Path = DEFAULT_BUNDLE, folders: tuple[Path, ...] = (),
                only: tuple[str, ...] | None = None) -> Bundle:
    """Load and check a bundle; `only` names the components wanted (all by default).

    Raises InputError, naming the file and what is wrong with it, if anything does not fit.
    """
    path = find_bundle(name, folders)
    about = _read_description(path)
    wanted = tuple(about["components"]) if only is None else tuple(c for c in only if c in about["components"])
    components = {part: _load_component(path, part, about["components"][part]) for part in wanted}
    try:
        return Bundle(components, about.get("name", path.name), NoiseScheduleConfig(**about["schedule"]),
                      Defaults(**about["defaults"]), about.get("training", []), about.get("licence", ""), path,
                      about.get("dial", []))
    except (TypeError, KeyError) as error:
        raise InputError(f"{path / 'bundle.json'} does not describe a bundle this version reads ({error}); "
                         f"update the bundle or the pack") from error


def _read_description(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path / 'bundle.json'} is damaged ({error}); fetch the bundle again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("components"), dict):
        got = about.get("format") if isinstance(about, dict) else type(about).__name__
        raise InputError(f"{path / 'bundle.json'} has format {got!r}, this version reads {FORMAT}; update the pack")
    for part in about["components"]:
        if part not in BUILDERS:
            raise InputError(f"{path / 'bundle.json'} names an unknown component {part!r}; known: {', '.join(BUILDERS)}")
    return about


def _load_component(path: Path, part: str, about: dict[str, Any]) -> nn.Module:
    file = path / str(about.get("file", f"{part}.safetensors"))
    if file.suffix != ".safetensors" or file.parent != path:
        raise InputError(f"{file} is not a .safetensors file inside the bundle; other formats are not read")
    if not file.is_file():
        raise InputError(f"{file} is missing; fetch the bundle again")
    if (got := sha256(file)) != about.get("sha256"):
        raise InputError(f"{file} has sha256 {got[:12]}…, bundle.json says {str(about.get('sha256'))[:12]}…; "
                         f"it was changed or damaged, fetch the bundle again")
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a readable safetensors file ({error}); fetch the bundle again") from error
    module = BUILDERS[part](dict(about["config"]))
    _load_strictly(module, unpacked(state, file), file)
    return module.eval().requires_grad_(False)


def _load_strictly(module: nn.Module, state: dict[str, torch.Tensor], file: Path) -> None:
    own = module.state_dict()
    if missing := sorted(own.keys() - state.keys()):
        raise InputError(f"{file} lacks the tensor {missing[0]} ({len(missing)} missing); it belongs to another bundle")
    if extra := sorted(state.keys() - own.keys()):
        raise InputError(f"{file} has the unknown tensor {extra[0]} ({len(extra)} extra); it belongs to another bundle")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise InputError(f"{file}: tensor {name} is {tuple(tensor.shape)}, wanted {tuple(own[name].shape)}; "
                             f"it belongs to another bundle")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{file}: tensor {name} holds NaN or infinity; train or fetch it again")
    module.load_state_dict(state)


def sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_component(folder: Path, part: str, module: nn.Module, record: dict[str, Any] | None = None,
                   defaults: Defaults | None = None, schedule: NoiseScheduleConfig | None = None, bits: int = 16) -> None:
    """Put one component into the bundle in `folder`, making or updating its bundle.json.

    record: what to add to the training record.   bits: of each weight in the file, 16 or 8 (`eight_bits`).
    What the bundle holds that went on from the component before (`OF_ANOTHER`) is taken out. Every file appears under its
    name only when whole.
    """
    if part not in BUILDERS:
        raise InputError(f"component must be one of {', '.join(BUILDERS)}, got {part!r}")
    if bits not in (8, 16):
        raise InputError(f"bits must be 8 or 16, got {bits}")
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"format": FORMAT, "name": folder.name, "licence": "Apache-2.0", "components": {},
                             "schedule": asdict(NoiseScheduleConfig()), "defaults": asdict(Defaults()), "training": []}
    if (folder / "bundle.json").is_file():
        about = _read_description(folder)
    file = folder / f"{part}.safetensors"
    state = {k: v.detach().to("cpu").contiguous() for k, v in module.state_dict().items()}
    save_file(packed(state) if bits == 8 else {k: v.half() for k, v in state.items()}, file.with_suffix(".part"))
    file.with_suffix(".part").chmod(0o644)  # safetensors leaves it to its owner alone
    config = {k: v for k, v in dict(getattr(module, "config", {})).items() if not k.startswith("_")}
    about["components"][part] = {"file": file.name, "sha256": sha256(file.with_suffix(".part")), "config": config}
    if record is not None:
        about["training"] = [r for r in about["training"] if r.get("stage") != record.get("stage")] + [record]
    if defaults is not None:
        about["defaults"] = asdict(defaults)
    if schedule is not None:
        about["schedule"] = asdict(schedule)
    old = [about["components"].pop(name) for name in OF_ANOTHER.get(part, ()) if name in about["components"]]
    os.replace(file.with_suffix(".part"), file)
    _write_description(folder, about)
    for one in old:
        (folder / str(one["file"])).unlink(missing_ok=True)


def save_dial(folder: Path, dial: list[dict[str, float]]) -> None:
    """Note in a bundle what its noise level does, as `genve study noise` measured it.

    dial: a row for each n, from small to large: n, in_psnr (dB, closeness to the input), sharpness (grey levels per pixel),
    vmaf, creativity (the share of the way that the dial can go from the input, 0 to 1).
    """
    _write_description(folder, {**_read_description(folder), "dial": dial})


def read_dial(folder: Path) -> list[dict[str, float]]:
    """What `save_dial` noted; empty if it was never measured. Raises InputError if bundle.json cannot be read."""
    return _read_description(folder).get("dial", [])


def _write_description(folder: Path, about: dict[str, Any]) -> None:
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (folder / "bundle.part").write_text(text, encoding="utf-8")
    os.replace(folder / "bundle.part", folder / "bundle.json")
