"""What an evaluation leaves behind: a table, a JSON file, contact sheets and the worst frames."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .metrics import psnr_per_frame
from .protocol import PROTOCOL_VERSION, Sample

# column, heading, decimals
COLUMNS = (
    ("psnr", "PSNR", 2), ("ssim", "SSIM", 4), ("vmaf", "VMAF", 1), ("vmaf_neg", "NEG", 1), ("warp_ratio", "warp", 2),
    ("input_psnr", "in-PSNR", 2), ("niqe", "NIQE", 2), ("lpips", "LPIPS", 4), ("dists", "DISTS", 4), ("musiq", "MUSIQ", 2),
    ("clip-iqa", "CLIP-IQA", 3), ("dover", "DOVER", 3), ("seconds_per_frame", "s/frame", 3), ("peak_rss_gib", "GiB", 2),
)
DETAIL = 112  # pixels a side of the cropped details
CELL_WIDTH = 352  # pixels a picture of the sheet is wide
LABEL_HEIGHT = 22


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean over clips of every number, one row per degradation, setting and method, in order of appearance."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["degradation"], row["setting"], row["method"]), []).append(row)
    result = []
    for (degradation, setting, method), members in groups.items():
        mean: dict[str, Any] = {"clip": f"mean of {len(members)}", "degradation": degradation, "setting": setting,
                                "method": method, "clips": len(members)}
        for column, _, _ in COLUMNS:
            values = [row[column] for row in members if is_number(row.get(column))]
            if values:
                mean[column] = float(np.mean(values))
        result.append(mean)
    return result


def is_number(value: object) -> bool:
    """A finite int or float."""
    return isinstance(value, int | float) and math.isfinite(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of the rows, with the means after each group of one degradation and setting."""
    columns = [column for column in COLUMNS if any(is_number(row.get(column[0])) for row in rows)]
    lines = [["degradation", "setting", "clip", "method", *(heading for _, heading, _ in columns)]]
    for group in dict.fromkeys((row["degradation"], row["setting"]) for row in rows):
        members = [row for row in rows if (row["degradation"], row["setting"]) == group]
        for row in [*members, *means(members)]:
            cells = [f"{row[c]:.{digits}f}" if is_number(row.get(c)) else "" for c, _, digits in columns]
            lines.append([row["degradation"], row["setting"], row["clip"], row["method"], *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [" | ".join(cell.ljust(w) if i < 4 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
            for line in lines]
    text.insert(1, " | ".join("-" * w for w in widths))
    return "\n".join(f"| {line} |" for line in text)


def environment(device: str) -> dict[str, Any]:
    """Versions and hardware that the numbers may depend on."""
    import av
    import cv2
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() and device != "cpu" else None
    return {
        "python": platform.python_version(), "system": platform.platform(), "torch": torch.__version__,
        "opencv": cv2.__version__, "numpy": np.__version__, "av": av.__version__, "ffmpeg": _ffmpeg_version(),
        "device": device, "gpu": cuda, "cpu": platform.processor() or platform.machine(),
        "cpu_threads": torch.get_num_threads(),
    }


def _ffmpeg_version() -> str | None:
    try:
        from imageio_ffmpeg import get_ffmpeg_version
    except ImportError:
        return None
    return get_ffmpeg_version()


def write_json(path: Path, rows: Sequence[Mapping[str, Any]], failures: Sequence[str], settings: Mapping[str, Any],
               device: str) -> None:
    """Everything needed to read and repeat the run. NaN and infinity become null: JSON has no word for them."""
    report = {
        "protocol": PROTOCOL_VERSION, "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv, "settings": dict(settings), "environment": environment(device),
        "means": means(rows), "rows": list(rows), "failures": list(failures),
    }
    write_text(path, json.dumps(_plain(report), indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Under its name only when whole."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


class Sheets:
    """Pictures to look at: one sheet per clip and setting, and one per method with its worst frame of all clips.

    Columns: input (nearest), bicubic, the methods, the truth. Rows: the whole frame, then two details.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.worst: dict[str, float] = {}  # file name -> gain over bicubic in dB
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, sample: Sample, setting: str, base: np.ndarray, results: Mapping[str, np.ndarray]) -> None:
        """Draw the sheet of a clip at a quarter of it (the middle is the key frame), and worst frames so far."""
        pictures = {name: frames for name, frames in results.items() if name != "bicubic"}
        name = f"{sample.degradation}_{setting}_{sample.clip.name}"
        index = len(sample.low) // 4
        write_png(self.folder / f"{name}.png", sheet(sample, index, base, pictures, f"{name}, frame {index}"))
        if sample.truth is None:
            return
        for method, frames in pictures.items():
            gain = psnr_per_frame(frames, sample.truth) - psnr_per_frame(base, sample.truth)
            if setting == "one-good-frame":
                gain[sample.key_frame] = np.inf
            index, file = int(gain.argmin()), f"worst_{sample.degradation}_{setting}_{method}.png"
            if gain[index] < self.worst.get(file, np.inf):
                self.worst[file] = float(gain[index])
                title = f"{method}: worst frame, {sample.clip.name} {index}, {gain[index]:+.2f} dB to bicubic"
                write_png(self.folder / file, sheet(sample, index, base, {method: frames}, title))


def sheet(sample: Sample, index: int, base: np.ndarray, results: Mapping[str, np.ndarray], title: str) -> np.ndarray:
    """One frame of everything, uint8 RGB: columns are methods, rows the whole frame and two details."""
    import cv2

    h, w = base.shape[1:3]
    columns = {"input": cv2.resize(sample.low[index], (w, h), interpolation=cv2.INTER_NEAREST), "bicubic": base[index]}
    columns |= {name: frames[index] for name, frames in results.items()}
    if sample.truth is not None:
        columns["truth"] = sample.truth[index]
    spots = details(columns.get("truth", base[index]))
    rows = [np.hstack([_label(name) for name in columns]), np.hstack([_fit(picture) for picture in columns.values()])]
    for top, left in spots:
        rows.append(np.hstack([_fit(p[top : top + DETAIL, left : left + DETAIL], nearest=True) for p in columns.values()]))
    return np.vstack([_label(title, rows[0].shape[1]), *rows])


def details(frame: np.ndarray) -> list[tuple[int, int]]:
    """(top, left) of the two most textured squares that do not touch; fewer in a small frame."""
    import cv2

    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    energy = cv2.blur(np.square(cv2.Laplacian(grey, cv2.CV_32F)), (DETAIL, DETAIL))
    half, spots = DETAIL // 2, []
    energy = energy[half : max(half + 1, grey.shape[0] - half), half : max(half + 1, grey.shape[1] - half)]
    while energy.size and len(spots) < 2 and energy.max() > 0:
        top, left = (int(i) for i in np.unravel_index(int(energy.argmax()), energy.shape))
        spots.append((top, left))
        energy[max(0, top - DETAIL) : top + DETAIL, max(0, left - DETAIL) : left + DETAIL] = 0
    return spots


def _fit(picture: np.ndarray, nearest: bool = False) -> np.ndarray:
    import cv2

    size = (CELL_WIDTH, max(1, round(CELL_WIDTH * picture.shape[0] / picture.shape[1])))
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_AREA)


def _label(text: str, width: int = CELL_WIDTH) -> np.ndarray:
    import cv2

    band = np.full((LABEL_HEIGHT, width, 3), 255, np.uint8)
    return cv2.putText(band, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 RGB (h, w, 3). OpenCV's own writer fails silently on some paths."""
    import cv2

    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def write_frames(folder: Path, frames: Iterable[np.ndarray]) -> None:
    """Frames as 00000.png, 00001.png, ...: the lossless form that `--results` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        write_png(folder / f"{i:05}.png", frame)
