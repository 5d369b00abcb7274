"""The studies: the paper's Fig. 7 (noise) and Fig. 8 (reference), and our own on steps and on distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from .protocol import Sample
from .study import Pictures, Study, Variant

Records = Sequence[Mapping[str, Any]]
LEVELS = (0, 50, 100, 150, 200, 250, 300, 400)
NO_HARM = 0.3  # dB below `self` that an unrelated reference may cost
DISTANCES = (1, 2, 4, 8, 12, 16, 24, 32, 47)


def good_frame(sample: Sample) -> Pictures:
    """The truth of the key frame."""
    return {sample.key_frame: _truth(sample)[sample.key_frame]}


def other_frame(sample: Sample) -> Pictures:
    """The truth of another frame, a quarter into the clip."""
    frame = len(sample.low) // 4
    return {frame: _truth(sample)[frame]}


def misaligned_frame(sample: Sample) -> Pictures:
    """The key frame as a careless image tool would have it: shifted by 16 px to the right and down, scaled by 1.05."""
    return {sample.key_frame: _moved(_truth(sample)[sample.key_frame], 1.05, 16, 16)}


def relit_frame(sample: Sample) -> Pictures:
    """The key frame as another crop and light would have it: shifted by 6 px, scaled by 1.03, warmer, more contrast."""
    moved = _moved(_truth(sample)[sample.key_frame], 1.03, 6, -6)
    lit = (moved.astype(np.float32) - 128) * np.array([1.12, 1.06, 1.0], np.float32) + np.array([138, 132, 124], np.float32)
    return {sample.key_frame: lit.round().clip(0, 255).astype(np.uint8)}


def sharpened_frame(sample: Sample) -> Pictures:
    """What a plain image tool makes of the poor key frame: enlarged by Lanczos and sharpened."""
    h, w = _truth(sample).shape[1:3]
    large = cv2.resize(sample.low[sample.key_frame], (w, h), interpolation=cv2.INTER_LANCZOS4).astype(np.float32)
    sharp = large + 1.0 * (large - cv2.GaussianBlur(large, (0, 0), 3.0))
    return {sample.key_frame: sharp.round().clip(0, 255).astype(np.uint8)}


def unrelated_picture(sample: Sample) -> Pictures:
    """A photograph that has nothing to do with any clip: a cat, as scikit-image carries it."""
    from skimage.data import chelsea

    h, w = _truth(sample).shape[1:3]
    return {sample.key_frame: cv2.resize(chelsea(), (w, h), interpolation=cv2.INTER_CUBIC)}


def first_frame(sample: Sample) -> Pictures:
    return {0: _truth(sample)[0]}


def first_and_last_frame(sample: Sample) -> Pictures:
    return {frame: _truth(sample)[frame] for frame in (0, len(sample.low) - 1)}


def _moved(picture: np.ndarray, scale: float, dx: float, dy: float) -> np.ndarray:
    """Scaled about the centre, then shifted by (dx, dy) px."""
    h, w = picture.shape[:2]
    matrix = np.array([[scale, 0, dx - (scale - 1) / 2 * w], [0, scale, dy - (scale - 1) / 2 * h]], np.float32)
    return cv2.warpAffine(picture, matrix, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _truth(sample: Sample) -> np.ndarray:
    assert sample.truth is not None
    return sample.truth


def _key(sample: Sample) -> Sequence[int]:
    return (sample.key_frame,)


def _row(record: Mapping[str, Any], variant: str) -> dict[str, Any]:
    return next(row for row in record["rows"] if row["variant"] == variant)


def _monotone(records: Records) -> list[str]:
    """Is a smaller n closer to the input, on every clip and in both settings?"""
    lines = []
    for setting in ("self", "one good frame"):
        for record in records:
            values = [_row(record, f"{setting}, n = {n}")["input_psnr"] for n in LEVELS]
            rises = [LEVELS[i] for i, (a, b) in enumerate(zip(values, values[1:])) if b > a]
            lines.append(f"- {setting}, {record['clip']}: {values[0]:.2f} dB at n = 0, {values[-1]:.2f} at n = {LEVELS[-1]}, "
                         + (f"not monotone after n = {', '.join(map(str, rises))}" if rises else "monotone"))
    return ["Distance to the input (in-PSNR, higher = closer):", "", *lines]


def dial_of(rows: Sequence[Mapping[str, Any]], setting: str = "self") -> list[dict[str, float]]:
    """The noise level's curve for `bundle.save_dial`, of the means that the study `noise` leaves."""
    mean = {row["variant"]: row for row in rows}
    picked = [mean[f"{setting}, n = {n}"] for n in LEVELS]
    near, far = picked[0]["input_psnr"], picked[-1]["input_psnr"]
    return [{"n": n, "in_psnr": round(row["input_psnr"], 2), "sharpness": round(row["sharpness"], 3),
             "vmaf": round(row["vmaf"], 1), "creativity": round((near - row["input_psnr"]) / (near - far), 2)}
            for n, row in zip(LEVELS, picked)]


def _harm(records: Records) -> list[str]:
    """What each reference is worth, and how alike the results of two references are."""
    lines = ["PSNR against *self* per clip, dB:", ""]
    for record in records:
        base = _row(record, "self")["psnr"]
        gains = [f"{row['variant']} {row['psnr'] - base:+.2f}" for row in record["rows"] if row["variant"] != "self"]
        harm = base - _row(record, "unrelated picture")["psnr"]
        lines.append(f"- {record['clip']}: {', '.join(gains)}; an unrelated picture "
                     + ("does no harm" if harm <= NO_HARM else f"costs {harm:.2f} dB, more than {NO_HARM}"))
    lines += ["", "PSNR between two results, and between their references, dB, mean over the clips:", ""]
    for same in zip(*(record["pairs"] for record in records), strict=True):
        references = [pair["references"] for pair in same if pair["references"] is not None]
        told = f", references {np.mean(references):.2f}" if references else ""
        lines.append(f"- {same[0]['a']} / {same[0]['b']}: results {np.mean([p['results'] for p in same]):.2f}{told}")
    return lines


def _by_distance(records: Records) -> list[str]:
    """Gain over bicubic, by the distance to the nearest reference's frame."""
    lines = ["Gain over bicubic in dB, by frames away from frame 0 (clips that are long enough):", "",
             "| variant | " + " | ".join(map(str, DISTANCES)) + " |", "|---|" + "---|" * len(DISTANCES)]
    for variant in (row["variant"] for row in records[0]["rows"]):
        gains = [_row(record, variant)["gain_per_frame"] for record in records]
        cells = [[g[d] for g in gains if d < len(g)] for d in DISTANCES]
        lines.append(f"| {variant} | " + " | ".join(f"{np.mean(c):+.2f}" if c else "" for c in cells) + " |")
    return lines


def _nothing(records: Records) -> list[str]:
    return []


def _noise_variants() -> tuple[Variant, ...]:
    given = [Variant(f"one good frame, n = {n}", {"noise_level": n}, references=good_frame, left_out=_key) for n in LEVELS]
    return (*[Variant(f"self, n = {n}", {"noise_level": n}) for n in LEVELS], *given)


STUDIES = {study.name: study for study in (
    Study("noise", "How far does the noise dial go from the input, and what does it give for it (the paper's Fig. 7)?",
          _noise_variants(), _monotone),
    Study("reference",
          "Do two good references of one scene give similar results (the paper's Fig. 8), and does a wrong one harm?",
          (Variant("self", left_out=_key), Variant("one good frame", references=good_frame, left_out=_key),
           Variant("another frame", references=other_frame, left_out=lambda s: (*_key(s), len(s.low) // 4)),
           Variant("cropped and re-lit", references=relit_frame, left_out=_key),
           Variant("sharpened", references=sharpened_frame, left_out=_key),
           Variant("unrelated picture", references=unrelated_picture, left_out=_key)), _harm, paired=True),
    Study("steps", "What do more steps, and a later or earlier start, give?",
          tuple(Variant(f"T1 = {start}, {steps} steps", {"steps": steps}, {"video_start": start}, good_frame, _key)
                for start in (100, 250, 400) for steps in (1, 2, 4, 8, 16)), _nothing),
    Study("distance", "How far does one good frame reach, and when is a second one worth it?",
          (Variant("self"), Variant("frame 0 given", references=first_frame, left_out=lambda s: (0,)),
           Variant("first and last frame given", references=first_and_last_frame,
                   left_out=lambda s: (0, len(s.low) - 1))), _by_distance),
)}
