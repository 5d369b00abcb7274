"""The workers of a Ray cluster (docs/cluster.md), one a GPU or a few CPU cores. All that is Ray's is in this file."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .errors import InputError
from .job import Job
from .piece_worker import Order, PieceWorker, Sent, versions

CORES = 4  # of a CPU that one worker computes with: more help one worker less than they help another
START = 180  # s until a worker must answer; it loads torch first


class WorkerLostError(Exception):
    """A worker died, or does not answer."""


@dataclass
class Slot:
    """A place where a worker lives, and after its death another."""

    node: str  # Ray's id of the machine
    host: str
    cores: float
    gpus: int
    worker: Any = field(default=None, repr=False)  # Ray's handle


class Cluster:
    """A connection to Ray. `device` says what the workers compute on: "cuda" or "cpu"."""

    def __init__(self, address: str = "auto", device: str = "auto"):
        """address: "auto" (the cluster that runs here, else a new one of this machine), "local" (a new one) or HOST:PORT.

        Raises InputError: ray is not installed, nothing answers there, or no machine has such a device.
        """
        if re.fullmatch(r"auto|local|[\w.\-]+:\d+", address) is None:
            raise InputError(f"--ray takes auto, local or HOST:PORT, got {address!r}; if that is an input, put it before --ray")
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"with --ray the workers compute on --device auto, cpu or cuda, got {device!r}")
        try:
            self.ray: Any = import_module("ray")
        except ImportError as error:
            raise InputError('--ray needs ray, which is not installed; pip install "genve[ray]"') from error
        _connect(self.ray, address)
        self.slots = slots([node for node in self.ray.nodes() if node["Alive"]], device)
        if not self.slots:
            self.ray.shutdown()
            wanted = "GPU" if device == "cuda" else "CPU"
            raise InputError(f"--ray {address}: no machine of the cluster has a {wanted} to lend; see ray status")
        self.device = "cuda" if self.slots[0].gpus else "cpu"
        self._strategies = import_module("ray.util.scheduling_strategies")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self.slots:
            if slot.worker is not None:
                with suppress(WorkerLostError):
                    self._get(slot.worker.close.remote(), timeout=10)
        self.ray.shutdown()

    def start(self, slot: Slot, order: Order, files: list[Sent], notes: list[str]) -> None:
        """Make the slot's worker ready for a film. Raises WorkerLostError if it dies or does not answer in time."""
        if slot.worker is None:
            place = self._strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
            options = self.ray.remote(num_cpus=slot.cores, num_gpus=slot.gpus, scheduling_strategy=place)
            slot.worker = options(PieceWorker).remote(max(1, int(slot.cores)))
            notes += compare(self._get(slot.worker.versions.remote(), timeout=START))
        for sent in files:
            if self._get(slot.worker.lacks.remote(sent)):
                for name, data in sent.chunks():
                    self._get(slot.worker.take.remote(sent, name, data))
        self._get(slot.worker.begin.remote(order, files))

    def fetch(self, slot: Slot, piece: int, job: Job, notes: list[str]) -> None:
        """Have the slot's worker make a piece, and store it. Raises WorkerLostError, or what the worker raised."""
        parts = self._stream(slot.worker.make.options(num_returns="streaming").remote(piece))
        name, told = next(parts)
        notes.extend(told)
        job.receive(piece, name, parts)

    def finish(self, slot: Slot) -> None:
        """The film is done; the worker waits for the next."""
        try:
            self._get(slot.worker.end.remote())
        except WorkerLostError:
            self.kill(slot)  # another will be started for the next

    def kill(self, slot: Slot) -> None:
        if slot.worker is not None:
            self.ray.kill(slot.worker)
            slot.worker = None

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What Ray raises, as what went wrong in the worker or as WorkerLostError."""
        errors = self.ray.exceptions
        try:
            yield
        except errors.RayTaskError as error:
            raise (error.cause or error) from None
        except errors.RayError as error:
            raise WorkerLostError(_short(error)) from error

    def _get(self, answer: Any, timeout: float | None = None) -> Any:
        with self._understood():
            return self.ray.get(answer, timeout=timeout)

    def _stream(self, answers: Any) -> Iterator[Any]:
        with self._understood():
            for answer in answers:
                yield self.ray.get(answer)


def compare(theirs: dict[str, str]) -> list[str]:
    """Notes about a worker's `versions` that differ from those here. Raises InputError for another genve."""
    ours, notes = versions(), []
    for name, version in ours.items():
        told = f"{theirs['host']} has {name} {theirs[name]}, this machine {version}"
        if theirs[name] != version and name == "genve":
            raise InputError(f"{told}; install one version on all machines")
        if theirs[name] != version:
            notes.append(f"{told}: the bytes may differ from those of one machine")
    return notes


def slots(nodes: list[dict[str, Any]], device: str) -> list[Slot]:
    """Where workers are to live: one a GPU if there is any (device "auto" or "cuda"), else one for every `CORES` cores of
    each machine, at least one.   nodes: as `ray.nodes()` tells about those alive."""
    def places(node: dict[str, Any], count: int, cores: float, gpus: int) -> list[Slot]:
        return [Slot(node["NodeID"], node["NodeManagerHostname"], cores, gpus) for _ in range(count)]

    def has(node: dict[str, Any], what: str) -> int:
        return int(node["Resources"].get(what, 0))

    on_gpus = [slot for node in nodes for slot in places(node, has(node, "GPU"), 0, 1)]
    if device == "cuda" or (device == "auto" and on_gpus):
        return on_gpus
    counts = [(node, max(1, has(node, "CPU") // CORES)) for node in nodes if has(node, "CPU")]
    return [slot for node, count in counts for slot in places(node, count, has(node, "CPU") // count, 0)]


def _connect(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the future default; it warns without
    own = address == "local"
    host, _, port = address.rpartition(":")
    try:
        if host:
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for a minute
        ray.init(None if address == "auto" else address, log_to_driver=False, logging_level="ERROR",
                 **({"include_dashboard": False} if own else {}))
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise InputError(f"--ray {address}: no cluster to be had there ({_short(error)}); see docs/cluster.md") from error


def _short(error: BaseException) -> str:
    """Ray tells long stories."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
