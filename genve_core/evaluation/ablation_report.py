"""The ablation's table, plot and reading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import metric_plot
from .report import write_png, write_text

# column, heading, decimals, +1 if more is better
COLUMNS = (("psnr", "PSNR", 2, 1), ("vmaf", "VMAF", 1, 1), ("vmaf_neg", "NEG", 1, 1), ("warp_ratio", "warp", 3, -1),
           ("z_psnr", "PSNR of Z_0", 2, 1), ("z_distance", "distance of Z_0", 4, -1))
REFERENCE_COLUMNS = (("y_distance", "distance of y", 4), ("y_psnr", "PSNR of y", 2), ("y_sharpness", "sharpness of y", 2),
                     ("picture_psnr", "PSNR of the picture", 2), ("picture_sharpness", "its sharpness", 2))
Records = Sequence[Mapping[str, Any]]


def means(records: Records) -> list[dict[str, Any]]:
    """A row for each setting and row of the ablation: mean, `_seeds` and `_clips`, the deviations of either's means."""
    settings = list(dict.fromkeys(row["setting"] for record in records for row in record["rows"]))
    names = list(dict.fromkeys(record["row"] for record in records))
    return [mean for setting in settings for name in names if (mean := _mean(records, setting, name))]


def _mean(records: Records, setting: str, name: str) -> dict[str, Any]:
    mine = [record for record in records if record["row"] == name]
    measured = [[row for row in record["rows"] if row["setting"] == setting] for record in mine]  # seed, clip
    if not measured[0]:
        return {}
    trained = [record["training"] for record in mine if record["training"]]
    mean: dict[str, Any] = {"setting": setting, "row": name, "seeds": len(mine)}
    for key in ("steps", "samples", "minutes"):
        mean[key] = float(np.mean([one[key] for one in trained])) if trained else None
    for column in [column for column, *_ in (*COLUMNS, *REFERENCE_COLUMNS) if column in measured[0][0]]:
        clips = [i for i in range(len(measured[0])) if all(seed[i][column] is not None for seed in measured)]
        if not clips:
            continue
        values = np.array([[seed[i][column] for i in clips] for seed in measured])
        mean[column] = float(values.mean())
        mean[f"{column}_seeds"] = float(values.mean(1).std()) if len(mine) > 1 else None
        mean[f"{column}_clips"] = float(values.mean(0).std())
    return mean


def report(records: Records) -> str:
    """Markdown: a table for each setting, one of the tool's own references, and which row is the best by each number."""
    rows = means(records)
    clips = {row["clip"] for record in records for row in record["rows"]}
    lines = ["# ablation", "", "What is each part worth (the paper's Table 2)?", "",
             f"Means over {len(clips)} clips ({', '.join(sorted(clips))}) and the seeds; in brackets the deviation of the "
             "seeds' means and of the clips' means. The key frame does not count for PSNR and distance. Z_0: through the VAE "
             "alone, and the root mean square of its difference from the truth's latents. Training: steps, samples and "
             "minutes of a row and seed."]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        lines += ["", f"## {setting}", "", *_table([row for row in rows if row["setting"] == setting])]
    own = [row for row in rows if "y_psnr" in row]
    if own:
        lines += ["", "## The tool's own reference (Eq. 3)", "", *_reference_table(own)]
    return "\n".join([*lines, "", "## Best trained row", "", *best_rows(rows)]) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heading = ["row", "seeds", *(name for _, name, *_ in COLUMNS), "training"]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in rows:
        budget = f"{row['steps']:.0f}, {row['samples']:.0f}, {row['minutes']:.1f}" if row["steps"] is not None else "none"
        cells = [row["row"], str(row["seeds"]), *(_cell(row, column, digits) for column, _, digits, _ in COLUMNS), budget]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cell(row: Mapping[str, Any], column: str, digits: int) -> str:
    if column not in row:
        return ""
    seeds = row[f"{column}_seeds"]
    told = "–" if seeds is None else f"{seeds:.{digits}f}"
    return f"{row[column]:.{digits}f} ({told}, {row[f'{column}_clips']:.{digits}f})"


def _reference_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heading = ["reference", *(name for _, name, _ in REFERENCE_COLUMNS)]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return lines + ["| " + " | ".join([row["row"], *(f"{row[c]:.{digits}f}" for c, _, digits in REFERENCE_COLUMNS)]) + " |"
                    for row in rows]


def best_rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """By setting and number, as printed: the best of the trained rows, and how far C3 is behind."""
    lines = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        trained = [row for row in rows if row["setting"] == setting and row["steps"] is not None]
        for column, name, digits, sign in COLUMNS:
            values = {row["row"]: round(row[column], digits) for row in trained if column in row}
            if "C3 + temporal" not in values:
                continue
            top = max(values.values(), key=lambda value: sign * value)
            best = [row for row, value in values.items() if value == top]
            behind = abs(top - values["C3 + temporal"])
            told = "all rows" if len(best) == len(values) else ", ".join(best)
            lines.append(f"- {setting}, {name}: {told}, {top:.{digits}f}"
                         + (f"; C3 + temporal differs by {behind:.{digits}f}" if behind else ""))
    return lines


def plot(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Every number of every setting over the rows, in the table's order, uint8 RGB."""
    rows = [row for row in rows if "y_psnr" not in row]
    curves = {f"{setting}: {name}": [row.get(column, float("nan")) for row in rows if row["setting"] == setting]
              for setting in dict.fromkeys(row["setting"] for row in rows) for column, name, *_ in COLUMNS}
    picture = metric_plot(curves, ends=(rows[0]["row"], rows[-1]["row"]))
    return (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def write_report(out: Path, records: Records) -> None:
    """ablation.json, ablation.md and ablation.png into `out`."""
    rows = means(records)
    write_text(out / "ablation.json", json.dumps({"records": records, "means": rows}, indent=1))
    write_text(out / "ablation.md", report(records))
    write_png(out / "ablation.png", plot(rows))
