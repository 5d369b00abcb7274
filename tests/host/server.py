"""A real ComfyUI server with the pack linked in, and a client that says what ran, what was reused and what was shown."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
NEEDED = ("aiohttp", "comfyui_frontend_package", "torchsde", "transformers")  # of its own requirements
STARTED_WITHIN = 240  # s; two busy cores import torch slowly
PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # kinds of binary messages
Prompt = dict[str, dict[str, Any]]  # node id -> {"class_type", "inputs"}; a link is [node id, output number]


def why_not() -> str:
    """Why the host cannot be used here; empty if it can."""
    if not (COMFYUI / "comfy" / "sd.py").is_file():
        return f"no ComfyUI at {COMFYUI}; set COMFYUI_PATH to its folder"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"ComfyUI's requirements are not installed here ({', '.join(missing)})" if missing else ""


@dataclass
class Result:
    """What one prompt did."""

    prompt_id: str = ""
    status: str = ""  # "success", "error", "interrupted" or "invalid" (refused before it ran)
    executed: list[str] = field(default_factory=list)  # node ids, in order
    cached: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)  # node id -> the message shown on it
    outputs: dict[str, Any] = field(default_factory=dict)  # node id -> its ui output, as in the history
    previews: list[bytes] = field(default_factory=list)  # JPEG files
    texts: list[str] = field(default_factory=list)  # shown on a node while it ran
    progress: list[tuple[str, int, int]] = field(default_factory=list)  # node id, value, maximum
    seconds: float = 0.0


class Host:
    """Starts ComfyUI when entered, ends it when left.

    where: an own folder for everything that the server writes, with input/, output/ and models/ in it.
    options: more of its command line.   port: a free one by default.
    """

    def __init__(self, comfyui: Path, where: Path, *options: str, port: int | None = None):
        self.comfyui, self.where, self.options = comfyui, where, options
        self.port = port or _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = where / "server.log"
        self.input, self.output, self.models = where / "input", where / "output", where / "models"

    def __enter__(self) -> Host:
        for folder in (self.input, self.output, self.models / "genve", self.where / "custom_nodes", self.where / "user"):
            folder.mkdir(parents=True, exist_ok=True)
        link = self.where / "custom_nodes" / "ComfyUI-GenVE"
        if not link.exists():
            link.symlink_to(ROOT, target_is_directory=True)
        shutil.copy(Path(__file__).with_name("probe_nodes.py"), self.where / "custom_nodes" / "genve_probe.py")
        command = [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port),
                   "--disable-auto-launch", "--database-url", "sqlite:///:memory:", "--base-directory", str(self.where)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *self.options], cwd=self.comfyui, stdout=log, stderr=log,
                                            env={**os.environ, "PYTHONUNBUFFERED": "1"})
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def run(self, prompt: Prompt, timeout: float = 300) -> Result:
        """Queue a prompt and wait until it has ended."""
        return asyncio.run(self._run(prompt, timeout))

    def start(self, prompt: Prompt, timeout: float = 300) -> tuple[Future[Result], Result]:
        """Queue a prompt without waiting: its future, and the result as it grows (to `interrupt` at some point)."""
        future, result = Future(), Result()

        def work() -> None:
            try:
                future.set_result(asyncio.run(self._run(prompt, timeout, result)))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future, result

    def interrupt(self) -> None:
        """What the Interrupt button does."""
        self.post("/interrupt")

    def free(self) -> None:
        """Unload all models and drop all cached results (done by the server a moment later)."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def history(self, prompt_id: str) -> dict[str, Any]:
        """The history's entry of a prompt; it is written a little after the prompt's end."""
        for _ in range(100):
            if entry := self.get(f"/history/{prompt_id}").get(prompt_id):
                return entry
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} is not in the history")

    def get(self, path: str) -> Any:
        """GET, as JSON."""
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, data: Any = None) -> Any:
        """POST JSON; the answer, also that of a refused request."""
        request = urllib.request.Request(self.address + path, json.dumps(data or {}).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
        return json.loads(body) if body else None

    def put(self, name: str, value: Any) -> str:
        """Put a tensor (or a dictionary of them) where the node ProbeLoad finds it; returns its widget value."""
        torch.save(value, self.input / name)
        return name

    def saved(self, name: str) -> Any:
        """What the node ProbeSave kept under `name`."""
        return torch.load(self.output / name, weights_only=True)

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"ComfyUI did not start:\n{self.log_text()[-3000:]}")

    async def _run(self, prompt: Prompt, timeout: float, result: Result | None = None) -> Result:
        import aiohttp

        result, client = result or Result(), uuid.uuid4().hex
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{self.address}/ws?clientId={client}",
                                                                          max_msg_size=0) as events:
            await events.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            begin = time.perf_counter()
            async with session.post(f"{self.address}/prompt", json={"prompt": prompt, "client_id": client}) as answer:
                queued = await answer.json()
            for node, about in (queued.get("node_errors") or {}).items():
                result.errors[node] = "; ".join(f"{e['message']}: {e['details']}" for e in about["errors"])
            if "prompt_id" not in queued:
                result.status = "invalid"
                if not result.errors:
                    result.errors["prompt"] = json.dumps(queued.get("error"))
                return result
            result.prompt_id = queued["prompt_id"]
            await asyncio.wait_for(_follow(events, result), timeout)
            result.seconds = time.perf_counter() - begin
        entry = await asyncio.to_thread(self.history, result.prompt_id)
        result.outputs = entry["outputs"]
        return result


async def _follow(events: Any, result: Result) -> None:
    """Read messages until the prompt has ended."""
    import aiohttp

    async for message in events:
        if message.type == aiohttp.WSMsgType.BINARY:
            _read_binary(message.data, result)
            continue
        if message.type != aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"the server closed the connection ({message.type!r})")
        event = json.loads(message.data)
        kind, data = event["type"], event.get("data") or {}
        if data.get("prompt_id") != result.prompt_id:
            continue
        if kind == "execution_cached":
            result.cached = list(data["nodes"])
        elif kind == "executing" and data.get("node"):
            result.executed.append(data["node"])
        elif kind == "progress":
            result.progress.append((data["node"], data["value"], data["max"]))
        elif kind == "execution_error":
            result.errors[data["node_id"]] = data["exception_message"].strip()
        if kind in ("execution_success", "execution_error", "execution_interrupted"):
            result.status = kind.removeprefix("execution_")
            return


def _read_binary(data: bytes, result: Result) -> None:
    kind = int.from_bytes(data[:4], "big")
    length = int.from_bytes(data[4:8], "big")
    if kind == PREVIEW_WITH_METADATA:
        result.previews.append(data[8 + length :])
    elif kind == TEXT:
        result.texts.append(data[8 + length :].decode("utf-8"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
