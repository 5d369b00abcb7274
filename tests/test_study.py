import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from genve_core.bundle import load_bundle
from genve_core.cli import main
from genve_core.evaluation.protocol import Sample, find_clips
from genve_core.evaluation.report import write_frames
from genve_core.evaluation.studies import (
    LEVELS,
    STUDIES,
    good_frame,
    other_frame,
    relit_frame,
    sharpened_frame,
    unrelated_picture,
)
from genve_core.evaluation.study import Runner, Study, Variant, means, run_study

SMALL = Study("small", "?", (Variant("self"), Variant("given", references=good_frame, left_out=lambda s: (s.key_frame,))),
              lambda records: [f"{len(records)} clips"], plotted=("psnr",), paired=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with one good clip: 4 frames of 128x96, texture that moves by 4 px a frame."""
    import cv2

    noise = np.random.default_rng(1).normal(128, 90, (96, 160, 3))
    wide = np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)
    root = tmp_path_factory.mktemp("data")
    write_frames(root / "scene", [np.ascontiguousarray(wide[:, 4 * i : 4 * i + 128]) for i in range(4)])
    return root


@pytest.fixture
def runner(data, tiny_bundle, tmp_path):
    return Runner(load_bundle(tiny_bundle), data, frames=4, device="cpu", cache=tmp_path / "cache")


def test_a_study_measures_resumes_and_notices_other_settings(data, runner, tmp_path):
    said: list[str] = []
    clips = find_clips(["scene"], data)
    first = run_study(SMALL, clips, runner, tmp_path, said.append)
    assert [row["variant"] for row in first[0]["rows"]] == ["self", "given"] and len(said) == 2
    assert all(np.isfinite(row[name]) for row in first[0]["rows"] for name in ("psnr", "vmaf", "input_psnr", "sharpness"))
    (pair,) = first[0]["pairs"]
    assert (pair["a"], pair["b"], pair["references"]) == ("self", "given", None) and pair["results"] > 10
    assert run_study(SMALL, clips, runner, tmp_path, said.append) == first and len(said) == 2  # nothing ran again
    run_study(SMALL, clips, replace(runner, frames=3), tmp_path, said.append)
    assert "measured anew" in said[2] and len(said) == 5
    report = (tmp_path / "small.md").read_text()
    assert "| self |" in report and "| given |" in report and report.endswith("1 clips\n")
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "small.json").read_text())["means"][0]["variant"] == "self"


def test_the_mean_and_its_spread_are_over_clips():
    row = {"vmaf": 1.0, "vmaf_neg": 1.0, "warp_ratio": None, "input_psnr": 1.0, "sharpness": 1.0, "seconds_per_frame": 1.0}
    records = [{"rows": [{"variant": "v", "psnr": value, **row}]} for value in (20.0, 24.0)]
    (mean,) = means(records)
    assert (mean["psnr"], mean["psnr_spread"]) == (22.0, 2.0)
    assert mean["warp_ratio"] is None


def noise_record(rising):
    rows = [{"variant": f"{setting}, n = {n}", "input_psnr": 40 - n / 100 + (rising and n == 200) * 5}
            for setting in ("self", "one good frame") for n in LEVELS]
    return {"clip": "c", "rows": rows}


def reference_record(harm):
    rows = [{"variant": "self", "psnr": 25.0}, {"variant": "unrelated picture", "psnr": 25.0 - harm}]
    return {"clip": "c", "rows": rows, "pairs": [{"a": "x", "b": "y", "results": 30.0, "references": 20.0}]}


def test_the_dial_is_called_monotone_only_if_it_is():
    straight, bent = (STUDIES["noise"].conclude([noise_record(rising)]) for rising in (False, True))
    assert all(line.endswith(", monotone") for line in straight[2:])
    assert all("not monotone after n = 150" in line for line in bent[2:])


def test_an_unrelated_reference_that_harms_is_called_by_its_name():
    fine, bad = ("\n".join(STUDIES["reference"].conclude([reference_record(harm)])) for harm in (0.2, 0.5))
    assert "does no harm" in fine and "costs 0.50 dB, more than 0.3" in bad
    assert "x / y: results 30.00, references 20.00" in fine


@pytest.mark.parametrize("make, frame, alike", [(good_frame, 4, True), (other_frame, 2, False), (relit_frame, 4, False),
                                                (sharpened_frame, 4, False), (unrelated_picture, 4, False)])
def test_references_have_the_size_of_the_truth_and_depict_the_frame_they_say(make, frame, alike):
    truth = np.random.default_rng(0).integers(0, 256, (8, 64, 96, 3), dtype=np.uint8)
    sample = Sample(find_clips(["dog"])[0], "real4x", truth[:, ::4, ::4], truth)
    ((key, picture),) = make(sample).items()
    assert key == frame and picture.shape == (64, 96, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, truth[4]) == alike


def test_gains_are_read_off_at_their_distance():
    rows = [{"variant": "v", "gain_per_frame": [float(i) for i in range(10)]}]
    lines = STUDIES["distance"].conclude([{"rows": rows}, {"rows": rows}])
    assert lines[-1] == "| v | +1.00 | +2.00 | +4.00 | +8.00 |  |  |  |  |  |"


def test_the_command_prints_the_report(data, tiny_bundle, tmp_path, capsys):
    command = ["study", "distance", "--data", str(data), "--clips", "scene", "--frames", "4", "--device", "cpu",
               "--bundle", str(tiny_bundle), "--out", str(tmp_path)]
    assert main(command) == 0
    assert "| first and last frame given |" in capsys.readouterr().out


def test_the_dial_is_noted_in_the_bundle_and_told_by_info(data, tiny_bundle, tmp_path, capsys):
    mine = tmp_path / "mine"
    shutil.copytree(tiny_bundle, mine)
    command = ["study", "noise", "--data", str(data), "--clips", "scene", "--frames", "4", "--device", "cpu",
               "--bundle", str(mine), "--out", str(tmp_path / "out"), "--write-dial"]
    assert main(command) == 0
    dial = load_bundle(mine).dial
    assert [row["n"] for row in dial] == list(LEVELS)
    assert (dial[0]["creativity"], dial[-1]["creativity"]) == (0, 1)
    capsys.readouterr()
    assert main(["info", str(mine)]) == 0
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("n = 400 "))
    assert f"creativity 1.00, {dial[-1]['in_psnr']:.2f} dB to the input" in told


@pytest.mark.parametrize("extra, message", [(["--frames", "2"], "--frames must be 4 or more, got 2"),
                                            (["--clips", "foreman"], "foreman has no truth to measure against")])
def test_wrong_settings_are_refused(data, tmp_path, capsys, extra, message):
    assert main(["study", "noise", "--data", str(data), "--out", str(tmp_path), *extra]) == 2
    assert message in capsys.readouterr().err
