"""Clips made ready for training: sharp frames, their poor version after a real codec, and the flow between them.

Made once by `genve train clips`, one safetensors file a clip, so that codecs and optical flow (CPU work)
never stand in the way of a training step. A clip holds a key frame and `CLIP_FRAMES` frames in a row.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..conditioning.calm import calm_frames, calm_key_flow, calm_neighbour_flow, context, settled
from ..conditioning.flow import FlowConfig, dis_flow, key_frame_flow, neighbour_flow, reduce_frames
from ..conditioning.warp import inside, resize_flow
from ..errors import InputError
from ..media.eight_bit import to_video
from ..segments import widened
from ..video_codec import upsample
from .camera import CameraConfig
from .degradation import DegradationConfig, degrade, resize
from .look import LookConfig
from .losses import poorness
from .sources import camera_clip, find_sources, video_clips

CLIP_FRAMES = 8
FLOW_GRID = 4  # flow is stored at 1 / 4 of the frame
FLOWS = ("to_key", "forward", "backward", "true_to_key", "true_forward", "true_backward")


@dataclass(frozen=True)
class ClipConfig:
    """What `genve train clips` makes."""

    clips: int = 1200
    real_share: float = 0.3  # clips cut from real video, as far as the videos reach
    size: int = 320  # pixels a side
    reach: int = 32  # the key frame lies at most this many frames away
    scales: tuple[int, ...] = (4, 2, 1)
    scale_shares: tuple[float, ...] = (0.85, 0.1, 0.05)
    camera: CameraConfig = field(default_factory=CameraConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    look: LookConfig = field(default_factory=LookConfig)  # of photographs; real video has its own

    def __post_init__(self) -> None:
        if self.size % 32:
            raise InputError(f"clip size must be a multiple of 32 pixels, got {self.size}")


def to_uint8(video: Tensor) -> Tensor:
    """float (f, 3, h, w) in [-1, 1] -> uint8, same layout."""
    return ((video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def make_record(frames: np.ndarray, config: ClipConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """Degrade a stretch of sharp frames, pick key frame and row, estimate flow as `enhance` will.

    Returns hq (1 + CLIP_FRAMES, 3, h, w) uint8 with the key frame first, lq the same at 1 / scale, and on a grid
    of 1 / FLOW_GRID: to_key (CLIP_FRAMES, 2, ..) and valid uint8, forward and backward: flow to the next and previous.
    The same four with `true_` before their names are measured on the sharp frames: what better flow should find.
    """
    scale = int(rng.choice(config.scales, p=config.scale_shares))
    first = int(rng.integers(len(frames) - CLIP_FRAMES + 1))
    row = list(range(first, first + CLIP_FRAMES))
    key = int(rng.choice(row)) if rng.random() < 0.25 else int(rng.integers(len(frames)))
    hq = to_video(frames)
    lq = degrade(hq, scale, config.degradation, rng)
    picked = [key, *row]
    flow_config = FlowConfig()
    skip = [row.index(key)] if key in row else []
    to_key, valid, forward, backward = poor_flow(lq, range(first, first + CLIP_FRAMES), key, config.size, flow_config)
    grid = (config.size // FLOW_GRID, config.size // FLOW_GRID)
    sharp = FlowConfig(reduce=1)
    true_to_key, true_valid = key_frame_flow(hq[row], hq[key], sharp, dis_flow, skip)
    true_forward, true_backward = neighbour_flow(hq[row], dis_flow)
    flows = {"to_key": to_key, "forward": forward, "backward": backward,
             "true_to_key": true_to_key, "true_forward": true_forward, "true_backward": true_backward}
    record = {name: resize_flow(flow, grid).half() for name, flow in flows.items()}
    shares = {"valid": valid, "true_valid": true_valid}
    record |= {name: (F.interpolate(share, size=grid, mode="area") * 255).round().to(torch.uint8)
               for name, share in shares.items()}
    record |= {"hq": to_uint8(hq[picked]), "lq": to_uint8(lq[picked])}
    return {name: tensor.contiguous() for name, tensor in record.items()}


def poor_flow(lq: Tensor, row: range, key: int, size: int, config: FlowConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flow of poor frames `row` to frame `key` with its validity, and to the next and previous frame, as `enhance` has it."""
    def read(span: range) -> Tensor:
        return reduce_frames(upsample(lq[span.start : span.stop].unsqueeze(0), (size, size))[0], config)

    skip = [row.index(key)] if key in row else []
    key_frame, frames = (calm_frames(read, len(lq), config) for _ in range(2))
    at = range(key, key + 1)
    to_key = calm_key_flow((frames.frames(row), frames.averaged(row)), (key_frame.frames(at)[0], key_frame.averaged(at)[0]),
                           config, dis_flow, skip)
    around = widened(row, context(config), len(lq))
    forward, backward = neighbour_flow(settled(read, len(lq), config)(around), dis_flow)
    calm_neighbour_flow(forward, backward, config)
    own = slice(row.start - around.start, row.stop - around.start)
    return *to_key, forward[own], backward[own]


def save_record(record: dict[str, Tensor], path: Path) -> None:
    temporary = path.with_suffix(".part")
    save_file(record, temporary)
    os.replace(temporary, path)


def _work(job: tuple) -> int:
    """One job = one video (all its clips) or one batch of photographs; skips clips that exist, so it resumes."""
    kind, payload, ids, out, config, seed = job
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, ids[0]])
    if kind == "video":
        clips = video_clips(payload, config.reach, config.size, len(ids), rng)
        for i, frames in zip(ids, clips, strict=False):
            if not (path := out / f"clip_{i:05d}.safetensors").exists():
                save_record(make_record(frames, config, np.random.default_rng([seed, i])), path)
        return len(ids)
    for i in ids:
        if not (path := out / f"clip_{i:05d}.safetensors").exists():
            rng = np.random.default_rng([seed, i])
            frames = camera_clip(payload, config.reach, config.size, config.camera, config.look, rng)
            save_record(make_record(frames, config, rng), path)
    return len(ids)


def make_clips(data: Path, out: Path, config: ClipConfig, seed: int = 0, workers: int | None = None) -> int:
    """Fill `out` with clips from everything below `data`; goes on where it was. Returns how many there are."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from tqdm import tqdm

    stills, videos = find_sources(data)
    out.mkdir(parents=True, exist_ok=True)
    real = round(config.clips * config.real_share) if stills else config.clips
    per_video = -(-real // len(videos)) if videos else 0
    ids = iter(range(config.clips))
    jobs = [("video", v, [i for _, i in zip(range(per_video), ids, strict=False)], out, config, seed) for v in videos]
    rest = list(ids) if stills else []
    jobs += [("still", stills, rest[k : k + 8], out, config, seed) for k in range(0, len(rest), 8)]
    jobs = [job for job in jobs if job[2]]
    order = np.random.default_rng(seed).permutation(len(jobs))  # any prefix of the work is a fair mixture
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        done = pool.map(_work, [jobs[k] for k in order])
        with tqdm(total=config.clips, unit="clip", desc="clips") as bar:
            for count in done:
                bar.update(count)
    return len(list(out.glob("clip_*.safetensors")))


class ClipStore:
    """Random crops of stored clips: every `clip_*.safetensors` in `folder` and the folders in it.

    device_resident: keep every clip in device memory (for GPUs).   fresh: share of crops whose poor version is made
    anew on the device, without a codec, so that no two are alike; their flow stays the stored one.
    turn: share of crops that are turned by one, two or three quarters.
    grow: seconds after which it looks for clips that were made meanwhile, 0 = never; a run is not repeatable then.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu", device_resident: bool = False,
                 fresh: float = 0.0, turn: float = 0.0, grow: float = 0.0):
        self.folder, self.fresh, self.turn, self.grow = folder, fresh, turn, grow
        self.device = torch.device(device)
        self.paths: list[Path] = []
        self.resident: list[dict[str, Tensor]] | None = [] if device_resident else None
        self._take_up()
        if not self.paths:
            raise InputError(f"--data {folder} holds no clips; make them with `genve train clips --data PHOTOS --out {folder}`")

    def _take_up(self) -> None:
        """Clips that were not there before."""
        known = set(self.paths)
        # unlike Path.rglob, glob follows links: clips of several runs are often gathered by them
        found = (self.folder / name for name in glob("**/clip_*.safetensors", root_dir=self.folder, recursive=True))
        new = [path for path in sorted(found) if path not in known]
        if self.resident is not None:
            self.resident += [self._load(path) for path in new]
        self.paths += new
        self._looked = time.monotonic()

    def __len__(self) -> int:
        return len(self.paths)

    def _load(self, path: Path) -> dict[str, Tensor]:
        with safe_open(path, "pt", device=str(self.device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)

    def crop(self, rng: np.random.Generator, size: int, frames: int, true_flow: bool = False,
             taught: bool = False) -> dict[str, Tensor]:
        """One crop: hq (1 + frames, 3, size, size), up (same, bicubic), flows on the 1 / 4 grid, poor (), all float.

        true_flow: with the flows of the sharp frames too.   poor: how poor the input is beyond being small (`poorness`).
        taught: with taught (frames, 3, size, size), what `taught` clips have, or hq, and is_taught (frames,), where they do.
        The key frame is cropped at the same place, so a source outside the crop is invalid here as well.
        Half the crops are mirrored. Raises ValueError if `frames` or `size` is more than a clip holds.
        """
        if self.grow and time.monotonic() > self._looked + self.grow:
            self._take_up()
        i = int(rng.integers(len(self.paths)))
        record = self.resident[i] if self.resident is not None else self._load(self.paths[i])
        side = record["hq"].shape[-1]
        if frames > CLIP_FRAMES or size > side or size % 32:
            raise ValueError(f"a crop is at most {CLIP_FRAMES} frames of {side} px, a multiple of 32, got {frames} of {size}")
        scale = side // record["lq"].shape[-1]
        y, x = (int(rng.integers((side - size) // 4 + 1)) * 4 for _ in range(2))
        first = int(rng.integers(CLIP_FRAMES - frames + 1))
        row = slice(first, first + frames)
        sharp = record["hq"][..., y : y + size, x : x + size]
        hq, small = (torch.cat([clip[:1], clip[1:][row]]) for clip in (sharp, record["lq"]))
        hq = hq.float() / 127.5 - 1
        if rng.random() < self.fresh:
            poor = degrade(hq, scale, DegradationConfig(), rng, codec=False)
            up = upsample(poor.unsqueeze(0), (size, size))[0]
        else:
            poor = small[..., y // scale : (y + size) // scale, x // scale : (x + size) // scale] / 127.5 - 1
            up = self._up(small, scale, y, x, size, side)
        out = {"hq": hq, "up": up} | self._flows(record, row, y, x, size, ("", "true_") if true_flow else ("",))
        if taught:
            made = record["taught"][row][..., y : y + size, x : x + size].float() / 127.5 - 1 if "taught" in record else hq[1:]
            out["taught"] = made
        out = self._mirror(out) if rng.random() < 0.5 else out
        if self.turn and rng.random() < self.turn:
            out = self._turned(out, 1 + int(rng.integers(3)))
        if taught:
            out["is_taught"] = record["is_taught"][row].float() if "is_taught" in record else torch.zeros(frames)
        return out | {"poor": poorness(poor, resize(hq, (size // scale, size // scale), "bicubic"))}

    @staticmethod
    def _flows(record: dict[str, Tensor], row: slice, y: int, x: int, size: int, kinds: tuple[str, ...]) -> dict[str, Tensor]:
        """Flow and its validity in a crop. The key frame is cropped too, and the row ends with the crop."""
        out = {}
        for kind in kinds:
            found = {name: record[kind + name][row][..., y // FLOW_GRID : (y + size) // FLOW_GRID,
                                                   x // FLOW_GRID : (x + size) // FLOW_GRID].float()
                     for name in ("to_key", "forward", "backward", "valid")}
            found["valid"] = found["valid"] / 255 * inside(found["to_key"], margin=0.25)
            found["forward"][-1].zero_()
            found["backward"][0].zero_()
            out |= {kind + name: tensor for name, tensor in found.items()}
        return out

    @staticmethod
    def _up(lq: Tensor, scale: int, y: int, x: int, size: int, side: int) -> Tensor:
        """Up-sample only what the crop needs, with a margin for the bicubic kernel. Returns [-1, 1]."""
        m = 8
        y0, x0 = (max(0, v // scale - m) for v in (y, x))
        y1, x1 = (min(side // scale, (v + size) // scale + m) for v in (y, x))
        poor = lq[None, ..., y0:y1, x0:x1].float() / 127.5 - 1
        part = upsample(poor, ((y1 - y0) * scale, (x1 - x0) * scale))[0]
        return part[..., y - y0 * scale :, x - x0 * scale :][..., :size, :size].clamp(-1, 1)

    @staticmethod
    def _mirror(crop: dict[str, Tensor]) -> dict[str, Tensor]:
        out = {name: tensor.flip(-1) for name, tensor in crop.items()}
        for name in out.keys() & set(FLOWS):
            out[name][:, 0].neg_()
        return out

    @staticmethod
    def _turned(crop: dict[str, Tensor], quarters: int) -> dict[str, Tensor]:
        """Counter-clockwise."""
        out = {name: torch.rot90(tensor, quarters, (-2, -1)).contiguous() for name, tensor in crop.items()}
        for name in out.keys() & set(FLOWS):
            for _ in range(quarters):
                dx, dy = out[name].unbind(1)
                out[name] = torch.stack([dy, -dx], 1)
        return out
