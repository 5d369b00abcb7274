"""Runs a study: the same clips under several variants, one file a clip, so that it resumes; then a table and a plot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..media.eight_bit import as_bytes, to_video
from . import metrics
from .clip_metrics import sharpness_per_frame
from .peers import Bicubic
from .pictures import metric_plot
from .protocol import PROTOCOL_VERSION, Clip, Sample, load_sample
from .report import write_png, write_text

COLUMNS = (("psnr", "PSNR", 2), ("vmaf", "VMAF", 1), ("vmaf_neg", "NEG", 1), ("warp_ratio", "warp", 2),
           ("input_psnr", "in-PSNR", 2), ("sharpness", "sharpness", 2), ("seconds_per_frame", "s/frame", 2))
Pictures = Mapping[int, np.ndarray]  # frame -> its reference, (H, W, 3) uint8


@dataclass(frozen=True)
class Variant:
    """One row of a study: how a clip is enhanced."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of `EnhanceConfig`
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of the bundle's `Defaults`
    references: Callable[[Sample], Pictures] | None = None  # None: made by the tool itself
    left_out: Callable[[Sample], Sequence[int]] = lambda sample: ()  # frames that do not count for the PSNR


@dataclass(frozen=True)
class Study:
    """What is varied, and what is to be read off."""

    name: str
    question: str
    variants: tuple[Variant, ...]
    conclude: Callable[[Sequence[Mapping[str, Any]]], list[str]]  # of the clips' records: lines for the reader
    plotted: tuple[str, ...] = ("vmaf", "psnr", "warp_ratio", "input_psnr", "sharpness")
    paired: bool = False  # compare the variants' results with each other


@dataclass(frozen=True)
class Runner:
    """What all variants share."""

    bundle: Bundle
    data: Path
    degradation: str = "real4x"
    frames: int = 16
    device: str = "auto"
    cache: Path | None = None

    def fingerprint(self, study: Study) -> dict[str, Any]:
        """What a record must agree in to be taken over from an earlier run."""
        assert self.bundle.path is not None
        about = json.loads((self.bundle.path / "bundle.json").read_text(encoding="utf-8"))
        weights = {name: part["sha256"] for name, part in about["components"].items()}
        return {"study": study.name, "protocol": PROTOCOL_VERSION, "degradation": self.degradation, "frames": self.frames,
                "weights": weights, "defaults": asdict(self.bundle.defaults), "variants": [v.name for v in study.variants]}

    def clip(self, study: Study, clip: Clip, say: Callable[[str], None]) -> dict[str, Any]:
        """Enhance one clip in every variant and measure: {"clip", "rows", "pairs"}."""
        sample = load_sample(clip, self.degradation, self.data, self.frames, self.cache)
        assert sample.truth is not None
        motion = metrics.motion_between_frames(sample.truth)
        base = Bicubic()(sample.low, sample.scale)
        rows, results, given = [], {}, {}
        for variant in study.variants:
            given[variant.name] = variant.references(sample) if variant.references else {}
            result, seconds = self._enhanced(variant, sample, given[variant.name])
            results[variant.name] = result
            rows.append({"variant": variant.name, "seconds_per_frame": seconds / len(result),
                         **_measured(result, sample, base, motion, variant.left_out(sample))})
            say(f"{study.name} {clip.name} {variant.name}: "
                + ", ".join(f"{k} {rows[-1][k]:.2f}" for k in ("psnr", "vmaf", "warp_ratio", "input_psnr")))
        return {"clip": clip.name, "frames": len(sample.low), "rows": rows,
                "pairs": _pairs(results, given) if study.paired else []}

    def _enhanced(self, variant: Variant, sample: Sample, pictures: Pictures) -> tuple[np.ndarray, float]:
        from ..pipeline import EnhanceConfig, Enhancer

        h, w = (sample.scale * side for side in sample.low.shape[1:3])
        bundle = replace(self.bundle, defaults=replace(self.bundle.defaults, **variant.defaults))
        enhancer = Enhancer(bundle, EnhanceConfig(size=(h, w), **variant.options), self.device)
        references = {frame: to_video(picture[None])[0] for frame, picture in pictures.items()}
        frames = [as_bytes(frame)[0] for frame in enhancer.run(to_video(sample.low), references or None)]
        return np.stack(frames), sum(enhancer.seconds.values())


def _measured(result: np.ndarray, sample: Sample, base: np.ndarray, motion: list[metrics.Motion],
              left_out: Sequence[int]) -> dict[str, Any]:
    assert sample.truth is not None
    frames = metrics.psnr_per_frame(result, sample.truth)
    gain = frames - metrics.psnr_per_frame(base, sample.truth)
    return {"psnr": float(np.delete(frames, list(left_out)).mean()), **metrics.vmaf(result, sample.truth),
            "warp_ratio": metrics.warp_ratio(result, sample.truth, motion),
            "input_psnr": metrics.input_psnr(result, sample.low),
            "sharpness": float(sharpness_per_frame(result).mean()), "gain_per_frame": [round(float(g), 3) for g in gain]}


def _pairs(results: Mapping[str, np.ndarray], given: Mapping[str, Pictures]) -> list[dict[str, Any]]:
    """PSNR between the results of each two variants, and between their references where these depict the same frame."""
    pairs = []
    for a, b in itertools.combinations(results, 2):
        shared = sorted(given[a].keys() & given[b].keys())
        between = [metrics.psnr(given[a][frame][None], given[b][frame][None]) for frame in shared]
        pairs.append({"a": a, "b": b, "results": metrics.psnr(results[a], results[b]),
                      "references": float(np.mean(between)) if between else None})
    return pairs


def run_study(study: Study, clips: Sequence[Clip], runner: Runner, out: Path,
              say: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Measure every clip that `out`/NAME does not hold yet, then write NAME.json, NAME.md and NAME.png into `out`.

    A record made with other weights, frames or variants is made anew, and `say` is told.
    """
    folder, fingerprint = out / study.name, runner.fingerprint(study)
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for clip in clips:
        file = folder / f"{clip.name}.json"
        kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if kept is not None and kept["made_with"] != fingerprint:
            say(f"{file} was made with other weights or settings: measured anew")
            kept = None
        record = kept or {**runner.clip(study, clip, say), "made_with": fingerprint}
        write_text(file, json.dumps(record, indent=1))
        records.append(record)
    text = report(study, records)
    write_text(out / f"{study.name}.json", json.dumps({"records": records, "means": means(records)}, indent=1))
    write_text(out / f"{study.name}.md", text)
    write_png(out / f"{study.name}.png", plot(study, records))
    return records


def means(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over the clips of every column, a row a variant."""
    rows = []
    for same in zip(*(record["rows"] for record in records), strict=True):
        row: dict[str, Any] = {"variant": same[0]["variant"]}
        for column, _, _ in COLUMNS:
            values = [r[column] for r in same if r[column] is not None]
            row[column] = float(np.mean(values)) if values else None
            row[f"{column}_spread"] = float(np.std(values)) if values else None
        rows.append(row)
    return rows


def report(study: Study, records: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the question, the table of means with their deviation over the clips, and what is read off."""
    heading = ["variant", *(name for _, name, _ in COLUMNS)]
    lines = [f"# {study.name}", "", study.question, "",
             f"Mean ± deviation over {len(records)} clips of up to {max(r['frames'] for r in records)} frames.", "",
             "| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in means(records):
        cells = ["" if row[c] is None else f"{row[c]:.{d}f} ± {row[f'{c}_spread']:.{d}f}" for c, _, d in COLUMNS]
        lines.append(f"| {row['variant']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *study.conclude(records)]) + "\n"


def plot(study: Study, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The plotted columns over the variants, uint8 RGB."""
    rows, headings = means(records), {column: heading for column, heading, _ in COLUMNS}
    curves = {headings[column]: [float("nan") if row[column] is None else row[column] for row in rows]
              for column in study.plotted}
    picture = metric_plot(curves, ends=(rows[0]["variant"], rows[-1]["variant"]))
    return (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
