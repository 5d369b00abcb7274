"""The ablation's training (the paper's Table 2): a fresh controller a row under the fixed diffuser, all else equal.

Rows of one seed start from the same weights and see the same samples in the same order; they differ in what a `Row` says.
The loss is the latent one alone: pixels would measure the detail decoder, which no row trains.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..bundle import Bundle, load_bundle
from ..controller import VideoController
from .clip_store import ClipStore
from .loop import LoopConfig, Trainer
from .losses import Figures
from .pictures import grid_picture
from .stages.controller import ControllerConfig, ControllerStage
from .stages.latents import latent_gain


@dataclass(frozen=True)
class Row:
    """One controller of the ablation: how it matches, and which augmentations of section 3.3 it is trained with."""

    name: str
    lca: Mapping[str, Any] = field(default_factory=dict)  # of `LCAConfig`, over what the study's config says
    noise: bool = True  # of the conditions, in training and in use
    mask: bool = True  # training only, as in the paper
    temporal: bool = True  # the reference is warped to every frame; False: every frame sees it as it is


PLAIN: Mapping[str, Any] = {"noise": False, "mask": False, "temporal": False}
ROWS = (
    Row("A0 controller without reference", {"variant": "none"}, **PLAIN),
    Row("B plain cross-attention", {"variant": "plain"}, **PLAIN),
    Row("C LCA", **PLAIN),
    Row("C1 + noise", mask=False, temporal=False),
    Row("C2 + mask", temporal=False),
    Row("C3 + temporal"),
)
FURTHER_ROWS = (
    Row("C3, plain", {"variant": "plain"}),
    Row("C3, literal band", {"variant": "band"}),
    Row("C3, shuffle off", {"shuffle": "off"}),
    Row("C3, shuffle always", {"shuffle": "always"}),
    Row("C3, d = 5", {"d": 5}),
    Row("C3, d = 7", {"d": 7}),
    Row("C3, d = 9", {"d": 9}),
)
FRAMES = ("hq", "up", "reference", "own", "start", "forward", "backward")  # of a sample, not needed once it is encoded


def without_controller(bundle: Bundle) -> Bundle:
    return replace(bundle, components={name: part for name, part in bundle.components.items() if name != "controller"})


class Samples:
    """What all rows of one seed share: training samples with their frames encoded, each made once, and initial weights."""

    def __init__(self, store: ClipStore, config: ControllerConfig, bundle: Bundle, seed: int):
        torch.manual_seed(seed)
        self.store, self.config, self.bundle, self.seed = store, config, without_controller(bundle), seed
        self.stage = ControllerStage(store, replace(config, train_decoder=False), self.bundle)
        self.kept: dict[int, dict[str, Tensor]] = {}

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The sample that a fresh generator stands for: `ControllerStage.draw`, with clean, Z and y for the frames."""
        which = rng.bit_generator.state["state"]["state"]
        if which not in self.kept:
            batch = {name: value.unsqueeze(0) for name, value in self.stage.draw(rng).items()}
            reference = self.stage.references(self.stage.decoder, batch)
            clean, Z, y = self.stage.latents(batch, reference)
            sample = {name: value for name, value in batch.items() if name not in FRAMES}
            self.kept[which] = {name: value[0] for name, value in {**sample, "clean": clean, "Z": Z, "y": y}.items()}
        return self.kept[which]

    def initial(self, controller: VideoController) -> None:
        """Give a row's controller the seed's weights where it has the part."""
        own = controller.state_dict()
        shared = {name: value for name, value in self.stage.controller.state_dict().items()
                  if name in own and value.shape == own[name].shape}
        controller.load_state_dict({**own, **shared})


class AblationStage(ControllerStage):
    """Stage `controller` for one row."""

    def __init__(self, samples: Samples, row: Row):
        config = replace(samples.config, train_decoder=False, lca=replace(samples.config.lca, **row.lca))
        super().__init__(samples.store, config, samples.bundle)
        self.row, self.samples = row, samples
        samples.initial(self.controller)

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return ablated(self.samples.draw(rng), self.row)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Figures]:
        clean, Z = batch["clean"], batch["Z"]
        loss, Z_0 = self.guided(clean, Z, batch["y"], batch)
        return loss, {"latent_gain": latent_gain(clean, Z, Z_0)}

    def picture(self) -> np.ndarray:
        """The first frame of six samples through the VAE alone: the input's latents, Z_0, the truth's latents."""
        drawn = [self.draw(np.random.default_rng([3, k])) for k in range(6)]
        device = next(self.controller.parameters()).device
        batch = {name: torch.stack([d[name] for d in drawn]).to(device) for name in drawn[0]}
        Z_0 = self.guided(batch["clean"], batch["Z"], batch["y"], batch)[1]
        nn.Module.to(self.vae, device)
        return grid_picture([self.vae.decode(z[:, 0]) for z in (batch["Z"], Z_0, batch["clean"])])


def ablated(sample: dict[str, Tensor], row: Row) -> dict[str, Tensor]:
    """A sample as a row sees it. The random numbers are drawn before, so that they are the same in every row."""
    sample = dict(sample)
    if not row.noise:
        sample["n"] = torch.zeros_like(sample["n"])
    if not row.mask:
        sample["keep"] = torch.ones_like(sample["keep"])
    if not row.temporal:
        sample["to_key"], sample["valid"] = torch.zeros_like(sample["to_key"]), torch.ones_like(sample["valid"])
    return sample


def row_settings(row: Row, samples: Samples, loop: LoopConfig) -> dict[str, Any]:
    """All that a row's weights depend on, for JSON."""
    assert samples.bundle.path is not None
    about = json.loads((samples.bundle.path / "bundle.json").read_text(encoding="utf-8"))
    weights = {name: part["sha256"] for name, part in about["components"].items() if name in samples.bundle.components}
    made_with = {"row": asdict(row), "loop": asdict(replace(loop, seed=samples.seed)), "stage": asdict(samples.config),
                 "weights": weights, "clips": [path.name for path in samples.store.paths]}
    return json.loads(json.dumps(made_with))  # tuples as lists, to be held against what was read


def train_row(row: Row, samples: Samples, loop: LoopConfig, out: Path,
              say: Callable[[str], None] = lambda line: None) -> tuple[VideoController, dict[str, Any]]:
    """Train a row's controller in the folder `out`, or go on there, or load it if it is finished.

    Returns it with its training record. What `out` holds of other settings is removed, and `say` is told.
    """
    settings, file = row_settings(row, samples, loop), out / "made_with.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != settings:
        say(f"{out} was made with other settings: trained anew")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    if not (finished := finished_row(out, loop.steps)):
        stage = AblationStage(samples, row)
        torch.manual_seed(samples.seed)  # of the shuffle
        record = {"row": row.name}
        Trainer(stage, replace(loop, seed=samples.seed), out, resume=True, record=record).run()
        finished = finished_row(out, loop.steps)
        assert finished is not None
    return finished


def finished_row(out: Path, steps: int) -> tuple[VideoController, dict[str, Any]] | None:
    """The controller of a row that was trained to the end, and its training record."""
    if not (out / "bundle" / "bundle.json").is_file():
        return None
    bundle = load_bundle(out / "bundle")
    record = bundle.training[-1]
    return (bundle["controller"], record) if record["steps"] == steps else None  # type: ignore[return-value]
