"""The ablation (the paper's Table 2): trains a controller a row and a seed, and measures what each gives.

Every row is measured twice. Its frames come from the detail decoder, as `enhance` makes them; and because that decoder may
hide what the diffusion did, Z_0 itself is held against the latents of the truth, and decoded by the VAE alone. Two rows are
the scale for the others: *decoder alone*, whose Z_0 is the input's Z, and the *limit*, whose Z_0 is the truth's latents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..bundle import Bundle
from ..clip import Clip as Shot
from ..clip import ClipFlow, Guidance, Reference
from ..conditioning.temporal import carry
from ..decode import decode_clip
from ..decoder.memory import DecoderMemory
from ..errors import InputError
from ..media.eight_bit import as_bytes, to_video
from ..models import Models
from ..steps import (
    augment,
    diffuse,
    encode_clip,
    find_flow,
    given_reference,
    match,
    own_reference,
)
from ..training.ablation import FURTHER_ROWS, ROWS, Row, Samples, row_settings, train_row
from ..training.clip_store import ClipStore
from ..training.loop import LoopConfig
from ..training.stages.controller import ControllerConfig
from ..vae import MiniVAE
from ..video_codec import decode
from . import metrics
from .ablation_report import write_report
from .clip_metrics import sharpness_per_frame
from .protocol import MULTIPLE, PROTOCOL_VERSION, Clip, Sample, load_sample
from .report import write_text
from .studies import good_frame, misaligned_frame

SETTINGS = {"self": None, "one good frame": good_frame, "misaligned": misaligned_frame}
LIMIT, DECODER_ALONE, NO_CONTROLLER = "limit: the truth's latents", "decoder alone", "A none"
SHIPPED = "the bundle's own controller"
EQ_3 = (("same", 0.0), ("same", 0.25), ("same", 0.5), ("literal", 0.25), ("literal", 0.5))  # at 0 both are one


@dataclass(frozen=True)
class AblationConfig:
    """How much is done."""

    seeds: int = 3  # of the paper's rows
    further_seeds: int = 1  # of our own
    crop: int = 256  # px a side of the clips' centre that is measured

    def __post_init__(self) -> None:
        if self.crop < 64 or self.crop % MULTIPLE:
            raise InputError(f"crop must be a multiple of {MULTIPLE} px, 64 or more, got {self.crop}")


@dataclass(frozen=True)
class Scene:
    """A clip with all that no row changes."""

    sample: Sample
    shot: Shot
    motion: list[metrics.Motion]  # of the truth
    Z: Tensor  # (1, f, c, H/8, W/8)
    clean: Tensor  # the same of the truth
    flow: ClipFlow
    references: dict[str, Reference]  # of each setting
    memories: dict[str, DecoderMemory] = field(default_factory=lambda: {name: DecoderMemory() for name in SETTINGS})


@dataclass(frozen=True)
class Work:
    """One record: a row with one seed."""

    name: str
    seed: int
    row: Row | None = None  # trained
    eq_3: tuple[str, float] | None = None  # noise and gamma_max of the tool's own reference

    @property
    def file(self) -> str:
        return f"{re.sub('[^a-z0-9]+', '-', self.name.lower()).strip('-')}-{self.seed}"


def works(config: AblationConfig) -> Iterator[Work]:
    """All records: what needs no training first, then what matters most."""
    yield Work(LIMIT, 0)
    yield Work(DECODER_ALONE, 0)
    yield Work(SHIPPED, 0)
    for noise, gamma_max in EQ_3:
        yield Work(f"Eq. 3, {noise} noise, gamma_max {gamma_max:g}", 0, eq_3=(noise, gamma_max))
    for seed in range(config.seeds):
        yield Work(NO_CONTROLLER, seed)
        yield from (Work(row.name, seed, row) for row in ROWS)
    for seed in range(config.further_seeds):
        yield from (Work(row.name, seed, row) for row in FURTHER_ROWS)


@dataclass
class Ablation:
    """What all rows share; the expensive parts are made when they are first needed."""

    bundle: Bundle
    data: Path
    clips: Sequence[Clip]
    store: ClipStore
    config: AblationConfig
    loop: LoopConfig
    stage: ControllerConfig
    out: Path
    degradation: str = "real4x"
    frames: int = 8
    device: str = "auto"
    cache: Path | None = None
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self.models = Models(self.bundle, self.device)
        self.samples: dict[int, Samples] = {}
        self._scenes: list[Scene] = []

    @property
    def scenes(self) -> list[Scene]:
        if not self._scenes:
            self._scenes = [self._scene(clip) for clip in self.clips]
        return self._scenes

    def _scene(self, clip: Clip) -> Scene:
        sample = centre(load_sample(clip, self.degradation, self.data, self.frames, self.cache), self.config.crop)
        assert sample.truth is not None
        key, size = sample.key_frame, (sample.truth.shape[1], sample.truth.shape[2])
        shot = Shot(to_video(sample.low), size)
        Z, clean = encode_clip(self.models, shot), encode_clip(self.models, Shot(to_video(sample.truth), size))
        references = {}
        for name, picture in SETTINGS.items():
            if picture is None:
                references[name] = own_reference(self.models, shot, Z, key)
            else:
                given = to_video(picture(sample)[key][None])[0]
                references[name] = given_reference(self.models, shot, given, key, align=False)
        flow = find_flow(self.models, shot, [key])
        return Scene(sample, shot, metrics.motion_between_frames(sample.truth), Z, clean, flow, references)

    def made_with(self, work: Work) -> dict[str, Any]:
        """What a record must agree in to be taken over from an earlier run."""
        assert self.bundle.path is not None
        about = json.loads((self.bundle.path / "bundle.json").read_text(encoding="utf-8"))
        weights = {name: part["sha256"] for name, part in about["components"].items()}
        trained = row_settings(work.row, self._samples(work.seed), self.loop) if work.row else None
        return {"protocol": PROTOCOL_VERSION, "degradation": self.degradation, "frames": self.frames, "crop": self.config.crop,
                "clips": [clip.name for clip in self.clips], "weights": weights, "defaults": asdict(self.bundle.defaults),
                "trained": trained}

    def _samples(self, seed: int) -> Samples:
        if seed not in self.samples:
            self.samples[seed] = Samples(self.store, self.stage, self.bundle, seed)
        return self.samples[seed]

    def kept(self, work: Work) -> Mapping[str, Any] | None:
        """The record of an earlier run with the same weights and settings."""
        file = self.out / "ablation" / f"{work.file}.json"
        record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if record is not None and record["made_with"] != self.made_with(work):
            self.say(f"{file} was made with other weights or settings: measured anew")
            return None
        return record

    def record(self, work: Work) -> dict[str, Any]:
        """Train if need be, and measure every clip in every setting."""
        models, training = self.models, None
        if work.row is not None:
            folder = self.out / "ablation" / work.file
            controller, about = train_row(work.row, self._samples(work.seed), self.loop, folder, self.say)
            training = {name: about[name] for name in ("steps", "samples", "minutes", "device")}
            parts = {**self.bundle.components, "controller": controller}
            models = Models(replace(self.bundle, components=parts), self.device)
        rows = []
        for scene in self.scenes:
            for setting in ("self",) if work.eq_3 else SETTINGS:
                values = self._measured(models, scene, setting, work)
                rows.append({"clip": scene.sample.clip.name, "setting": setting, **values})
                figures = ", ".join(f"{name} {values[name]:.3f}" for name in ("psnr", "vmaf", "z_psnr", "z_distance"))
                self.say(f"{work.name}, seed {work.seed}, {scene.sample.clip.name}, {setting}: {figures}")
        return {"row": work.name, "seed": work.seed, "training": training, "rows": rows}

    def _measured(self, models: Models, scene: Scene, setting: str, work: Work) -> dict[str, Any]:
        sample, reference, more = scene.sample, scene.references[setting], {}
        memory = scene.memories[setting]
        truth, key = sample.truth, sample.key_frame
        assert truth is not None
        if work.eq_3:
            noise, gamma_max = work.eq_3
            reference = own_reference(models, scene.shot, scene.Z, key, gamma_max=gamma_max, noise=noise)  # type: ignore[arg-type]
            more, memory = _reference_figures(models, scene, reference), None
        Z_0 = latents_of(models, scene, reference, work)
        n = models.defaults.noise_level
        frames = decode_clip(models, scene.shot, Z_0, scene.flow, [reference], n=n, memory=memory)
        result, plain = as_bytes(torch.stack(list(frames))), by_vae(models, Z_0)
        rest = [i for i in range(len(truth)) if i != key]
        return {"psnr": metrics.psnr(result, truth, key), **metrics.vmaf(result, truth),
                "warp_ratio": metrics.warp_ratio(result, truth, scene.motion),
                "z_psnr": metrics.psnr(plain, truth, key), "z_distance": _rms(Z_0[:, rest] - scene.clean[:, rest]), **more}


def latents_of(models: Models, scene: Scene, reference: Reference, work: Work) -> Tensor:
    """Z_0 of a row. Conditions and guidance follow the row as its training did."""
    if work.name in (LIMIT, DECODER_ALONE):
        return scene.clean if work.name == LIMIT else scene.Z
    times = models.defaults.video_times()
    if work.name == NO_CONTROLLER:
        never = Guidance(scene.Z[:, :, :0], 0, end=0.0)  # it never acts, so no channel is needed
        return diffuse(models, scene.Z, never, times, seed=work.seed)
    row = work.row or Row(work.name)
    n = models.defaults.noise_level if row.noise else 0
    Z_n, noised = augment(models, scene.Z, [reference], n, seed=work.seed)
    Y_n = carry(noised, scene.flow if row.temporal else still(scene.flow))[0]
    return diffuse(models, scene.Z, match(models, Z_n, Y_n, n), times, seed=work.seed)


def still(flow: ClipFlow) -> ClipFlow:
    """The flow of a clip that does not move: every frame is given the reference as it is."""
    return replace(flow, to_key={key: torch.zeros_like(x) for key, x in flow.to_key.items()},
                   valid={key: torch.ones_like(x) for key, x in flow.valid.items()})


def by_vae(models: Models, Z: Tensor) -> np.ndarray:
    """Latents (1, f, c, h, w) through the VAE's decoder, without the detail decoder: (f, 8h, 8w, 3) uint8."""
    with models.computing():
        (vae,) = models.ready("vae")
        return as_bytes(decode(cast(MiniVAE, vae), Z.to(models.device))[0])


def centre(sample: Sample, crop: int) -> Sample:
    """The middle of a sample, at most `crop` px a side of the truth."""
    assert sample.truth is not None
    scale = sample.scale
    h, w = (min(side, crop // scale) for side in sample.low.shape[1:3])
    y, x = (sample.low.shape[1] - h) // 2, (sample.low.shape[2] - w) // 2
    truth = sample.truth[:, scale * y : scale * (y + h), scale * x : scale * (x + w)]
    return replace(sample, low=np.ascontiguousarray(sample.low[:, y : y + h, x : x + w]), truth=np.ascontiguousarray(truth))


def _reference_figures(models: Models, scene: Scene, reference: Reference) -> dict[str, float]:
    """The tool's own reference against the truth of its frame: y as latents and through the VAE, and its picture."""
    assert scene.sample.truth is not None
    truth, y = scene.sample.truth[reference.key][None], reference.y.cpu()
    plain, picture = by_vae(models, y[None, None]), as_bytes(reference.image[None])
    return {"y_distance": _rms(y - scene.clean[0, reference.key].cpu()), "y_psnr": metrics.psnr(plain, truth),
            "y_sharpness": float(sharpness_per_frame(plain)[0]), "picture_psnr": metrics.psnr(picture, truth),
            "picture_sharpness": float(sharpness_per_frame(picture)[0])}


def _rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())


def run_ablation(ablation: Ablation) -> list[Mapping[str, Any]]:
    """Make every record that `out`/ablation does not hold yet; after each, ablation.json, .md and .png are written anew."""
    (ablation.out / "ablation").mkdir(parents=True, exist_ok=True)
    todo = list(works(ablation.config))
    found = {work.file: ablation.kept(work) for work in todo}
    for work in todo:
        if found[work.file] is None:
            found[work.file] = {**ablation.record(work), "made_with": ablation.made_with(work)}
            write_text(ablation.out / "ablation" / f"{work.file}.json", json.dumps(found[work.file], indent=1))
            write_report(ablation.out, [record for record in found.values() if record is not None])
    records = [record for record in found.values() if record is not None]
    write_report(ablation.out, records)
    return records
