import json

import numpy as np
import pytest

from genve_core.cli import main
from genve_core.errors import InputError
from genve_core.evaluation import protocol, report
from genve_core.evaluation.niqe import NiqeModel
from genve_core.evaluation.peers import Bicubic, FlowWarp
from genve_core.evaluation.protocol import Clip, Sample
from genve_core.evaluation.runner import EvaluateConfig, Scorer, evaluate, results_folder

ROWS = [
    {"clip": "a", "degradation": "real4x", "setting": "self", "method": "bicubic", "psnr": 20.0, "vmaf": 10.0},
    {"clip": "b", "degradation": "real4x", "setting": "self", "method": "bicubic", "psnr": 23.0, "vmaf": float("nan")},
    {"clip": "a", "degradation": "real4x", "setting": "one-good-frame", "method": "bicubic", "psnr": 30.0},
]
CLIPS = (Clip("one", "validation/one", frames=4), Clip("two", "validation/two", frames=3),
         Clip("poor", "validation/two", frames=2, has_truth=False))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of two small moving clips, 64x96 and 96x64 pixels."""
    import cv2

    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    for name, (h, w) in {"one": (64, 96), "two": (96, 64)}.items():
        big = np.clip(cv2.GaussianBlur(rng.normal(128, 300, (h + 8, w + 8, 3)), (0, 0), 2), 0, 255).astype(np.uint8)
        report.write_frames(root / "validation" / name, [big[i : i + h, i : i + w] for i in range(5)])
    return root


@pytest.fixture(scope="module")
def needs_metrics():
    pytest.importorskip("skimage")
    pytest.importorskip("imageio_ffmpeg")


def read_png(path):
    return protocol.read_frames(path.parent, sorted(path.parent.glob("*.png")).index(path), 1)[0]


def test_means_are_taken_per_group_and_skip_what_is_not_a_number():
    first, second = report.means(ROWS)
    assert (first["psnr"], first["vmaf"], first["clips"]) == (21.5, 10.0, 2)
    assert (second["setting"], second["psnr"], second["clips"]) == ("one-good-frame", 30.0, 1)


def test_table_shows_every_row_its_mean_and_only_columns_with_numbers():
    lines = report.table(ROWS).splitlines()
    assert len(lines) == 2 + 3 + 2
    assert "PSNR" in lines[0] and "VMAF" in lines[0] and "NIQE" not in lines[0]
    assert "mean of 2" in lines[4] and "21.50" in lines[4]
    assert len({len(line) for line in lines}) == 1


def test_json_is_whole_and_strict(tmp_path):
    path = tmp_path / "evaluation.json"
    report.write_json(path, ROWS, ["x failed"], {"data": tmp_path, "frames": 48}, "cpu")
    read = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert read["protocol"] == "v1" and read["rows"][1]["vmaf"] is None and read["failures"] == ["x failed"]
    assert read["settings"] == {"data": str(tmp_path), "frames": 48}
    assert {"torch", "opencv", "av", "ffmpeg", "device", "cpu_threads"} <= set(read["environment"])
    assert [p.name for p in tmp_path.iterdir()] == ["evaluation.json"]


def test_details_are_the_textured_places_and_do_not_touch():
    frame = np.full((300, 400, 3), 90, np.uint8)
    rng = np.random.default_rng(2)
    frame[20:60, 30:70] = rng.integers(0, 256, (40, 40, 3))
    frame[220:260, 330:370] = rng.integers(60, 120, (40, 40, 3))
    (y1, x1), (y2, x2) = report.details(frame)
    d = report.DETAIL
    assert y1 <= 20 and x1 <= 30 and y1 + d >= 60 and x1 + d >= 70
    assert y2 <= 220 and x2 <= 330 and y2 + d >= 260 and x2 + d >= 370
    assert report.details(frame[:9, :9]) == []  # flat and smaller than a detail


def test_sheets_show_each_clip_and_keep_the_worst_frame_of_all(tmp_path):
    rng = np.random.default_rng(3)
    sheets = report.Sheets(tmp_path)
    for name, errors in {"calm": (0, 3, 9, 5), "bad": (1, 40, 2, 3), "fine": (1, 1, 1, 1)}.items():
        truth = rng.integers(50, 200, (4, 128, 160, 3), dtype=np.uint8)
        base = truth + np.uint8(10)
        result = truth + np.array(errors, np.uint8)[:, None, None, None]
        sample = Sample(Clip(name, ""), "real4x", truth[:, ::4, ::4], truth)
        sheets.add(sample, "self", base, {"bicubic": base, "mine": result})
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {f"real4x_self_{n}.png" for n in ("calm", "bad", "fine")} | {"worst_real4x_self_mine.png"}
    assert sheets.worst["worst_real4x_self_mine.png"] == pytest.approx(-20 * np.log10(4))  # 40 against 10 levels
    assert read_png(tmp_path / "real4x_self_bad.png").shape[1] == 4 * report.CELL_WIDTH  # input, bicubic, mine, truth


def test_the_given_frame_is_neither_counted_nor_the_worst(tmp_path, data, needs_metrics):
    run = evaluate(CLIPS[:1], {"bicubic": Bicubic(), "flow-warp": FlowWarp()}, data,
                   EvaluateConfig(degradations=("clean4x",)), Scorer(), report.Sheets(tmp_path))
    assert run.failures == []
    by = {(row["setting"], row["method"]): row for row in run.rows}
    assert set(by) == {("self", "bicubic"), ("one-good-frame", "bicubic"), ("one-good-frame", "flow-warp")}
    assert by["one-good-frame", "flow-warp"]["psnr"] < 60  # the given frame alone would add 100 / 4 dB
    assert by["one-good-frame", "flow-warp"]["worst_frame"] != 2
    assert by["self", "bicubic"]["psnr"] != by["one-good-frame", "bicubic"]["psnr"]
    assert by["self", "bicubic"]["vmaf"] == by["one-good-frame", "bicubic"]["vmaf"]
    assert all(row["peak_rss_gib"] is None or row["peak_rss_gib"] > 0.01 for row in run.rows)


def test_a_failing_clip_or_method_does_not_stop_the_others(data, needs_metrics):
    said = []
    clips = (Clip("gone", "validation/gone"), *CLIPS[:2])
    run = evaluate(clips, {"bicubic": Bicubic(), "theirs": data / "nothing"}, data,
                   EvaluateConfig(("clean4x",), ("self",)), Scorer(), None, said.append)
    assert [(row["clip"], row["method"]) for row in run.rows] == [("one", "bicubic"), ("two", "bicubic")]
    assert len(run.failures) == 3 and "gone clean4x: failed: InputError" in run.failures[0]
    assert set(run.failures) < set(said)


def test_a_poor_clip_is_measured_without_truth_and_once(data):
    model = NiqeModel(np.zeros(36), np.eye(36))
    run = evaluate(CLIPS[2:], {"bicubic": Bicubic()}, data, EvaluateConfig(), Scorer(model))
    (row,) = run.rows
    assert (row["degradation"], row["setting"]) == ("none", "self")
    assert row["input_psnr"] > 30 and row["niqe"] > 0 and "psnr" not in row


def test_results_of_any_tool_lie_by_setting_or_by_clip(tmp_path):
    sample = Sample(CLIPS[0], "real4x", np.zeros((2, 4, 4, 3), np.uint8), None)
    assert results_folder(tmp_path, sample, "self") == tmp_path / "one"
    (tmp_path / "real4x" / "self" / "one").mkdir(parents=True)
    assert results_folder(tmp_path, sample, "self") == tmp_path / "real4x" / "self" / "one"


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="degradation 'jpeg' is unknown; choose from real4x, clean4x"):
        EvaluateConfig(degradations=("jpeg",))
    with pytest.raises(InputError, match="setting 'both' is unknown; choose from self, one-good-frame"):
        EvaluateConfig(settings=("both",))
    with pytest.raises(InputError, match="frames must be 2 or more, got 1"):
        EvaluateConfig(frames=1)
    with pytest.raises(InputError, match="none is not a folder; give the one that contains validation/"):
        evaluate(CLIPS, {}, tmp_path / "none", EvaluateConfig(), Scorer())


def test_command_line_writes_a_report(data, tmp_path, monkeypatch, capsys, needs_metrics):
    monkeypatch.setattr(protocol, "CLIPS", CLIPS[:2])
    out = tmp_path / "out"
    line = ["evaluate", "--data", str(data), "--degradation", "clean4x", "--out", str(out), "--method", "bicubic",
            "--results", f"truth={data / 'validation'}", "--frames", "4", "--cache", str(tmp_path / "cache"), "--clips"]
    assert main([*line, "two", "--setting", "self"]) == 1  # `truth` has five frames where three are wanted
    captured = capsys.readouterr()
    assert "bicubic" in captured.out and "1 of 2 measurements failed" in captured.err
    assert "4 frames per clip is not protocol v1" in captured.err
    assert {"evaluation.json", "evaluation.md", "clean4x_self_two.png"} == {p.name for p in out.iterdir()}
    assert json.loads((out / "evaluation.json").read_text())["settings"]["frames"] == 4
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".npz"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["--clips", "cat"], "clip 'cat' is not in protocol v1"),
        (["--data", "nowhere", "--method", "bicubic"], "--data nowhere is not a folder"),
        (["--method", "ours", "--noise-level", "1000"], "noise level must be in"),
        (["--method", "bicubic", "--results", "none"], "--results none is not a folder"),
        (["--method", "bicubic", "--niqe-params", "none.npz"], "NIQE parameters none.npz cannot be used"),
    ],
)
def test_mistakes_on_the_command_line_end_with_code_2(wrong, said, data, tmp_path, capsys):
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path / "out"), *wrong]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "evaluation.json").exists()
