"""The one training loop: accelerate, EMA, checkpoints, exact resume, logs, pictures.

A stage says what is trained and what its loss is (`Stage`); the loop does the rest. Every random number of
sample k in step s comes from a generator seeded by (seed, s, k), so a resumed run, and a run on any number of
processes with the same global batch, sees the same data in the same order.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..bundle import save_component
from ..devices import device_name, has_bf16
from ..errors import InputError
from .losses import Figures
from .sharding import gather_into, share_of, unsharded, whole

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a stage trains. `batch` is global: it is shared out over all processes."""

    steps: int = 1000
    batch: int = 4
    lr: float = 5e-4
    warmup: int = 100  # steps
    final_lr: float = 0.02  # share of `lr` that the cosine falls to; 1 keeps the rate
    weight_decay: float = 0.0
    clip: float = 1.0  # norm of the gradient
    ema: float = 0.998
    seed: int = 0
    minutes: float = 0.0  # stop and save after this much training time, 0 = never; the cosine follows the clock then
    save_every: int = 500
    sample_every: int = 500
    log_every: int = 20
    compile: bool = False  # the loss and its network, by torch: minutes before the first step; meant for a GPU
    precision: str = "auto"  # "auto" (bf16 where the processor has it), "no", "bf16"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"steps and batch must be 1 or more, got {self.steps} and {self.batch}")


class Stage(Protocol):
    """What the loop asks of a stage."""

    name: str

    @property
    def trained(self) -> nn.ModuleDict:
        """What is optimised: components of the bundle, by name."""
        ...

    def draw(self, rng: np.random.Generator) -> Batch:
        """One training sample; all its randomness comes from `rng`."""
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, Figures]:
        """Loss of a batch (samples stacked) and figures to log."""
        ...

    def picture(self) -> np.ndarray:
        """What the stage can do now, as one RGB uint8 image."""
        ...

    def finish(self) -> None:
        """Called on the EMA weights before components are saved (calibration and the like)."""
        ...


class LossModule(nn.Module):
    """A stage's loss as a forward pass, so that accelerate's wrappers (DDP, FSDP) see the parameters in use.

    What a stage calls its `helpers` is trained as well, but goes into no bundle.
    """

    def __init__(self, stage: Stage):
        super().__init__()
        self.trained, self.helpers = stage.trained, getattr(stage, "helpers", None)
        self.compute = stage.loss

    def forward(self, batch: Batch) -> tuple[Tensor, Figures]:
        return self.compute(batch)


def learning_rate(config: LoopConfig, step: int, progress: float) -> float:
    """Linear warm-up, then a cosine over `progress` down to `final_lr` of the top."""
    ramp = min(1.0, (step + 1) / max(1, config.warmup))
    fall = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + np.cos(np.pi * min(1.0, progress)))
    return config.lr * ramp * float(fall)


class Ema:
    """Exponential moving average of parameters, with the usual ramp of its decay."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.step = decay, 0
        self.shadow = [p.detach().clone() for p in module.parameters()]

    def update(self, module: nn.Module) -> None:
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for shadow, parameter in zip(self.shadow, module.parameters(), strict=True):
            shadow.lerp_(parameter.detach(), 1 - decay)

    def swap(self, module: nn.Module) -> None:
        """Exchange the module's parameters with the averages (call twice to go back)."""
        for shadow, parameter in zip(self.shadow, module.parameters(), strict=True):
            kept = parameter.detach().clone()
            parameter.data.copy_(shadow)
            shadow.copy_(kept)


class Trainer:
    """Runs one stage in `out`/<stage>, writing its components into the bundle `out`/bundle."""

    def __init__(self, stage: Stage, config: LoopConfig, out: Path, resume: bool, record: dict[str, Any]):
        from accelerate import Accelerator

        self.config, self.stage, self.record = config, stage, record
        self.folder, self.bundle = out / stage.name, out / "bundle"
        if (self.folder / "checkpoint").exists() and not resume:
            raise InputError(f"{self.folder} holds a checkpoint; add --resume to go on with it, or use another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator()
        self.device = self.accelerator.device
        self.autocast = config.precision == "bf16" or (config.precision == "auto" and has_bf16(self.device))
        module = LossModule(stage).to(self.device)
        parameters = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        sharded = str(self.accelerator.distributed_type) == "DistributedType.FSDP"
        self.whole = copy.deepcopy(stage.trained) if sharded else stage.trained  # what is written to the bundle
        if config.compile:
            module.compile()
        self.model, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.ema = Ema(stage.trained, config.ema)
        self.step, self.seconds, self.samples = 0, 0.0, 0
        if resume and (self.folder / "checkpoint.before").exists() and not (self.folder / "checkpoint").exists():
            os.replace(self.folder / "checkpoint.before", self.folder / "checkpoint")  # cut off between two renames
        if resume and (self.folder / "checkpoint").exists():
            self._load()

    def progress(self) -> float:
        by_steps = self.step / self.config.steps
        return min(1.0, max(by_steps, self.seconds / (60 * self.config.minutes)) if self.config.minutes else by_steps)

    def _batch(self) -> Batch:
        me, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = [self.stage.draw(np.random.default_rng([self.config.seed, self.step, k]))
                for k in range(self.config.batch) if k % world == me]
        return {name: torch.stack([s[name] for s in mine]).to(self.device) for name in mine[0]}

    def _train_step(self) -> Figures:
        progress = self.progress()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, progress)
        batch = self._batch()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss, figures = self.model(batch)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.stage.trained)
        return {"loss": loss.detach(), "grad": 0.0 if norm is None else norm, **figures}

    def run(self) -> Path:
        """Train to the end, saving on the way; Ctrl-C saves before it ends. Returns the bundle's folder."""
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        main = self.accelerator.is_main_process
        board = SummaryWriter(str(self.folder / "tensorboard")) if main else None
        bar = tqdm(total=self.config.steps, initial=self.step, desc=self.stage.name, disable=not main, mininterval=5)
        sums: Figures = {}
        try:
            while self.step < self.config.steps and self.progress() < 1:
                begin = time.perf_counter()
                figures = self._train_step()
                self.step += 1
                self.samples += self.config.batch
                self.seconds = self._agreed(self.seconds + time.perf_counter() - begin)
                sums = {k: sums.get(k, 0.0) + v for k, v in figures.items()}
                bar.update()
                if self.step % self.config.log_every == 0:
                    means = {k: float(v) / self.config.log_every for k, v in sums.items()}
                    self._log(means, board)
                    bar.set_postfix(loss=f"{means['loss']:.4f}")
                    sums = {}
                if self.step % self.config.sample_every == 0:
                    self._picture(board)
                if self.step % self.config.save_every == 0:
                    self._save()
        finally:
            bar.close()
            self._save()
            self._picture(board)
            if board is not None:
                board.close()
        return self.bundle

    def _agreed(self, seconds: float) -> float:
        """The main process's clock: if each went by its own, one would stop a step before the other, which waits for ever."""
        if self.accelerator.num_processes == 1:
            return seconds
        from accelerate.utils import broadcast

        return float(cast(Tensor, broadcast(torch.tensor(seconds, device=self.device))))

    def _log(self, figures: dict[str, float], board: Any) -> None:
        if self.accelerator.num_processes > 1:  # each saw its share of the global batch
            values = cast(Tensor, self.accelerator.reduce(torch.tensor(list(figures.values()), device=self.device), "mean"))
            figures = dict(zip(figures, values.tolist(), strict=True))
        if not self.accelerator.is_main_process:
            return
        rate = self.samples / max(self.seconds, 1e-9)
        line = {"step": self.step, "seconds": round(self.seconds, 1), "samples_per_second": round(rate, 2),
                "lr": self.optimizer.param_groups[0]["lr"], **figures}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({k: round(v, 8) if isinstance(v, float) else v for k, v in line.items()}) + "\n")
        for name, value in line.items():
            board.add_scalar(name, value, self.step)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the stage's parameters are the averages, and whole. Every process must enter it."""
        self.ema.swap(self.stage.trained)
        try:
            with unsharded(self.model):
                yield
        finally:
            self.ema.swap(self.stage.trained)

    def _picture(self, board: Any) -> None:
        from PIL import Image

        with self._averaged():
            if not self.accelerator.is_main_process:
                return
            self.stage.trained.eval()
            try:
                with torch.no_grad():
                    image = self.stage.picture()
            finally:
                self.stage.trained.train()
        (self.folder / "pictures").mkdir(exist_ok=True)
        Image.fromarray(image).save(self.folder / "pictures" / f"{self.step:07d}.png")
        board.add_image("samples", image, self.step, dataformats="HWC")

    def _save(self) -> None:
        """Checkpoint (everything that a resume needs), then the EMA weights into the bundle; each atomically."""
        self.accelerator.wait_for_everyone()
        main = self.accelerator.is_main_process
        new = self.folder / "checkpoint.part"
        self.accelerator.save_state(str(new), safe_serialization=True)
        self.accelerator.wait_for_everyone()  # each writes its own part of it
        state = {"step": self.step, "seconds": self.seconds, "samples": self.samples,
                 "ema": [whole(shadow) for shadow in self.ema.shadow], "ema_step": self.ema.step}
        if main:
            torch.save(state, new / "loop.pt")
            self._replace_checkpoint(new)
        with self._averaged():
            if main:
                self.stage.finish()
            if self.whole is not self.stage.trained:
                gather_into(self.whole, self.stage.trained)
            if main:
                self._save_components()
        self.accelerator.wait_for_everyone()

    def _save_components(self) -> None:
        record = {"stage": self.stage.name, "steps": self.step, "samples": self.samples,
                  "minutes": round(self.seconds / 60, 1), "device": device_name(self.device),
                  "loop": asdict(self.config), **self.record}
        if (store := getattr(self.stage, "store", None)) is not None:
            record["clips"] = len(store)  # now: it may have grown
        for part, module in self.whole.items():
            save_component(self.bundle, part, module, record)

    def _replace_checkpoint(self, new: Path) -> None:
        """At every moment one whole checkpoint lies on the disk."""
        current, before = self.folder / "checkpoint", self.folder / "checkpoint.before"
        shutil.rmtree(before, ignore_errors=True)
        if current.exists():
            os.replace(current, before)
        os.replace(new, current)
        shutil.rmtree(before, ignore_errors=True)

    def _load(self) -> None:
        folder = self.folder / "checkpoint"
        self.accelerator.load_state(str(folder))
        state = torch.load(folder / "loop.pt", map_location="cpu", weights_only=True)
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]
        kept = zip(state["ema"], self.ema.shadow, strict=True)
        self.ema.shadow = [share_of(full.to(like.device), like) for full, like in kept]
        self.ema.step = state["ema_step"]
