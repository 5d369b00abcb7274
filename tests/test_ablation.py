import json

import cv2
import numpy as np
import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.cli import main
from genve_core.errors import InputError
from genve_core.evaluation.ablation import LIMIT, SHIPPED, AblationConfig, centre, still
from genve_core.evaluation.ablation_report import COLUMNS, means, report
from genve_core.evaluation.protocol import Sample, find_clips
from genve_core.evaluation.report import write_frames
from genve_core.evaluation.studies import misaligned_frame
from genve_core.training.ablation import FURTHER_ROWS, PLAIN, ROWS, AblationStage, Row, Samples, train_row
from genve_core.training.clip_store import ClipConfig, ClipStore, make_clips
from genve_core.training.loop import LoopConfig
from genve_core.training.run import configured
from genve_core.training.stages.controller import ControllerConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
STAGE = {"lca": {"dim": 16, "heads": 2, "d": 2}, "decoder": {"crop": 64, "frames": 1}}
LOOP = {"steps": 2, "batch": 2, "lr": 0.01, "warmup": 1, "precision": "no", "log_every": 1}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    photos, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    cv2.imwrite(str(photos / "a.png"), cv2.resize(noise, (240, 200), interpolation=cv2.INTER_CUBIC))
    assert make_clips(photos, out, ClipConfig(clips=2, size=96, reach=10), workers=1) == 2
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with one good clip: 4 frames of 160x96, texture that moves by 4 px a frame."""
    noise = np.random.default_rng(1).normal(128, 90, (96, 192, 3))
    wide = np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)
    root = tmp_path_factory.mktemp("data")
    write_frames(root / "scene", [np.ascontiguousarray(wide[:, 4 * i : 4 * i + 160]) for i in range(4)])
    return root


@pytest.fixture
def samples(clips, tiny_bundle):
    return Samples(ClipStore(clips), configured(ControllerConfig, STAGE, "stage"), load_bundle(tiny_bundle), seed=1)


def drawn(stage, k=0):
    return stage.draw(np.random.default_rng([1, 0, k]))


def test_all_rows_start_alike_and_see_the_same_samples(samples):
    stages = [AblationStage(samples, row) for row in (*ROWS, *FURTHER_ROWS)]
    whole = stages[5]
    for stage in stages:
        own, others = stage.controller.state_dict(), whole.controller.state_dict()
        assert all(torch.equal(value, others[name]) for name, value in own.items() if "bias_table" not in name)
        for name in ("clean", "Z", "y", "noise", "noise_n", "use", "t"):
            assert torch.equal(drawn(stage, 1)[name], drawn(whole, 1)[name]), name
    assert not torch.equal(drawn(whole, 0)["clean"], drawn(whole, 1)["clean"])


def test_a_row_is_trained_with_its_augmentations_only(samples):
    row = drawn(AblationStage(samples, Row("none", **PLAIN)))
    assert row["n"] == 0 and (row["keep"] == 1).all() and (row["to_key"] == 0).all() and (row["valid"] == 1).all()
    batch = {name: value.unsqueeze(0) for name, value in {**row, "use": torch.ones(())}.items()}
    Z_n, Y_n = samples.stage.conditions(batch["Z"], batch["y"], batch)
    assert torch.equal(Z_n, batch["Z"]) and all(torch.equal(Y_n[:, i], batch["y"]) for i in range(Y_n.shape[1]))
    whole = [drawn(AblationStage(samples, ROWS[-1]), k) for k in range(6)]
    assert any(x["n"] > 0 for x in whole) and any((x["keep"] == 0).any() for x in whole)
    assert any((x["to_key"] != 0).any() for x in whole)


def test_training_follows_the_row_resumes_and_notices_other_settings(samples, tmp_path):
    loop, said = LoopConfig(**LOOP), []
    whole, record = train_row(ROWS[-1], samples, loop, tmp_path / "c3", said.append)
    assert (record["row"], record["steps"], record["samples"], record["clips"]) == ("C3 + temporal", 2, 4, 2)
    before = (tmp_path / "c3" / "bundle" / "controller.safetensors").stat().st_mtime_ns
    train_row(ROWS[-1], samples, loop, tmp_path / "c3", said.append)
    assert (tmp_path / "c3" / "bundle" / "controller.safetensors").stat().st_mtime_ns == before and not said
    plain, _ = train_row(ROWS[1], samples, loop, tmp_path / "b", said.append)
    assert (plain.lca.config.variant, whole.lca.config.variant) == ("plain", "window")
    assert not torch.equal(plain.zero_convs[-1].weight, whole.zero_convs[-1].weight)  # the first do not see e
    train_row(ROWS[-1], samples, LoopConfig(**LOOP | {"steps": 1}), tmp_path / "c3", said.append)
    assert len(said) == 1 and said[0].endswith("was made with other settings: trained anew")


def test_a_part_of_a_sample_is_cut_from_the_same_place(data):
    low = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    whole = Sample(find_clips(["dog"])[0], "real4x", low, low.repeat(4, 1).repeat(4, 2))
    part = centre(whole, 64)
    assert part.low.shape == (2, 16, 16, 3) and np.array_equal(part.truth, part.low.repeat(4, 1).repeat(4, 2))
    assert np.array_equal(part.low, low[:, 4:20, 12:28])
    assert centre(whole, 128).low.shape == (2, 24, 32, 3)


def test_the_misaligned_frame_is_moved_by_16_px_and_larger():
    truth = np.zeros((3, 128, 160, 3), np.uint8)
    truth[1, 62:66, 78:82] = 255  # the centre
    truth[1, 62:66, 118:122] = 255  # 40 px to its right
    ((key, picture),) = misaligned_frame(Sample(find_clips(["dog"])[0], "real4x", truth[:, ::4, ::4], truth)).items()
    columns = picture[80, :, 0].astype(float)
    left, right = (np.average(np.arange(a, b), weights=columns[a:b]) for a, b in ((86, 106), (128, 148)))
    assert key == 1 and left == pytest.approx(79.5 + 16, abs=0.5) and right - left == pytest.approx(42, abs=0.3)


def record(name, seed, psnr, distance=None):
    row = {"clip": "c", "setting": "self", "psnr": psnr, "vmaf": 1.0, "vmaf_neg": 1.0, "warp_ratio": None, "z_psnr": 20.0,
           "z_distance": 0.5}
    training = {"steps": 2, "samples": 4, "minutes": 0.5, "device": "cpu"} if distance is None else None
    return {"row": name, "seed": seed, "training": training, "rows": [row, {**row, "clip": "d", "psnr": psnr + 2}]}


def test_the_table_tells_both_spreads_and_the_best_row():
    records = [record("B", 0, 21.0), record("B", 1, 23.0), record("C3 + temporal", 0, 20.0)]
    first, second = means(records)
    assert (first["psnr"], first["psnr_seeds"], first["psnr_clips"]) == (23.0, 1.0, 1.0)
    assert second["psnr_seeds"] is None and "warp_ratio" not in first
    text = report(records)
    assert "| B | 2 | 23.00 (1.00, 1.00) |" in text and "| C3 + temporal | 1 | 21.00 (–, 1.00) |" in text
    assert "- self, PSNR: B, 23.00; C3 + temporal differs by 2.00" in text and "| 2, 4, 0.5 |" in text
    assert "- self, VMAF: all rows, 1.0\n" in text


def test_the_command_trains_measures_and_resumes(clips, data, tiny_bundle, tmp_path, capsys):
    config = tmp_path / "ablation.json"
    config.write_text(json.dumps({"ablation": {"seeds": 1, "further_seeds": 1, "crop": 96}, "loop": LOOP, "stage": STAGE}))
    command = ["study", "ablation", "--data", str(data), "--clips", "scene", "--frames", "4", "--device", "cpu", "--bundle",
               str(tiny_bundle), "--clips-data", str(clips), "--config", str(config), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    told = capsys.readouterr().out
    names = [row.name for row in (*ROWS, *FURTHER_ROWS)]
    assert all(f"| {name} | 1 |" in told for name in [*names, "decoder alone", "A none", LIMIT, SHIPPED])
    assert "| Eq. 3, literal noise, gamma_max 0.5 |" in told
    assert (tmp_path / "out" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    rows = {(row["row"], row["setting"]): row for row in json.loads((tmp_path / "out" / "ablation.json").read_text())["means"]}
    assert rows[LIMIT, "self"]["z_distance"] == 0 < rows["decoder alone", "self"]["z_distance"]
    assert all(np.isfinite(rows[name, setting][column]) for column, *_ in COLUMNS for name in names
               for setting in ("self", "one good frame", "misaligned"))
    assert rows["C LCA", "one good frame"]["z_distance"] != rows["C3 + temporal", "one good frame"]["z_distance"]
    assert rows["C LCA", "one good frame"]["psnr"] > rows["C LCA", "misaligned"]["psnr"]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "ablation").glob("*/bundle/*")}
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out == told and "measured anew" not in said.err and "seed 0" not in said.err
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_still_flow_leads_nowhere_from_everywhere():
    from genve_core.clip import ClipFlow

    flow = ClipFlow(torch.ones(2, 2, 4, 4), torch.ones(2, 2, 4, 4), {1: torch.ones(2, 2, 4, 4)}, {1: torch.zeros(2, 1, 4, 4)})
    assert (still(flow).to_key[1] == 0).all() and (still(flow).valid[1] == 1).all() and (still(flow).forward == 1).all()


@pytest.mark.parametrize("name, extra, message", [
    ("ablation", [], "it needs --clips-data"),
    ("noise", ["--clips-data", "x"], "--clips-data and --config go with the study ablation, got noise"),
])
def test_wrong_options_are_refused(data, tmp_path, capsys, name, extra, message):
    assert main(["study", name, "--data", str(data), "--out", str(tmp_path), *extra]) == 2
    assert message in capsys.readouterr().err


def test_a_crop_that_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="crop must be a multiple of 32 px, 64 or more, got 40"):
        AblationConfig(crop=40)
