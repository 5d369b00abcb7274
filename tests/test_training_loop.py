import json

import cv2
import numpy as np
import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.errors import InputError
from genve_core.pipeline import enhance
from genve_core.training.clip_store import ClipConfig, make_clips
from genve_core.training.loop import LoopConfig, Trainer, learning_rate
from genve_core.training.run import configured, train
from genve_core.training.stages.vae import VaeConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SMALL = {  # settings of each stage at which a step takes a moment
    "vae": {"latent_channels": 4, "channels": [8, 8, 16], "depth": 1, "crop": 32},
    "decoder": {"channels": [8, 8, 16], "depth": [1, 1, 1, 1, 1], "crop": 32},
    "image": {"channels": [16, 32], "crop": 32},
    "motion": {"crop": 32, "frames": 3},
    "controller": {"lca": {"dim": 16, "heads": 2, "d": 2}, "decoder": {"crop": 32}},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three small clips, made as users make them: from a folder of photographs."""
    photos, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("clips")
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{i}.png"), cv2.resize(noise, (240, 200), interpolation=cv2.INTER_CUBIC))
    assert make_clips(photos, out, ClipConfig(clips=3, size=64, reach=10), workers=1) == 3
    return out


def config_file(folder, stage, **loop):
    file = folder / f"{stage}.json"
    settings = {"steps": 4, "batch": 2, "log_every": 1, "sample_every": 100, "save_every": 100, "precision": "no", **loop}
    file.write_text(json.dumps({"loop": settings, "stage": SMALL[stage]}))
    return file


def weights(out, part):
    return load_bundle(out / "bundle", only=(part,))[part].state_dict()


def test_every_stage_runs_from_its_command_and_the_bundle_enhances(clips, tmp_path):
    for stage in ("vae", "decoder", "image", "motion", "controller"):
        train(stage, clips, tmp_path / "run", config_file(tmp_path, stage, steps=2))
        assert (tmp_path / "run" / stage / "log.jsonl").read_text().count("\n") == 2
        assert list((tmp_path / "run" / stage / "pictures").glob("*.png"))
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert [r["stage"] for r in bundle.training] == ["vae", "decoder", "image", "motion", "controller"]
    result = enhance(torch.rand(3, 3, 16, 24) * 2 - 1, bundle=bundle, device="cpu", scale=2.0)
    assert result.shape == (3, 3, 32, 48) and torch.isfinite(result).all()


@pytest.mark.parametrize("stage", ["vae", "image"])
def test_a_resumed_run_equals_one_that_was_never_stopped(clips, tmp_path, stage):
    for name in ("whole", "parts"):
        if stage != "vae":
            train("vae", clips, tmp_path / name, config_file(tmp_path, "vae", steps=1))
    train(stage, clips, tmp_path / "whole", config_file(tmp_path, stage, steps=5, final_lr=1.0))
    train(stage, clips, tmp_path / "parts", config_file(tmp_path, stage, steps=2, final_lr=1.0))
    train(stage, clips, tmp_path / "parts", config_file(tmp_path, stage, steps=5, final_lr=1.0), resume=True)
    part = "vae" if stage == "vae" else "unet"
    whole, parts = weights(tmp_path / "whole", part), weights(tmp_path / "parts", part)
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_training_lowers_the_loss(clips, tmp_path):
    train("vae", clips, tmp_path / "run", config_file(tmp_path, "vae", steps=120, lr=4e-3, warmup=2))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/vae/log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-30:]) < 0.9 * np.mean(losses[:30])


def test_an_interrupted_run_saves_what_it_has(clips, tmp_path, monkeypatch):
    steps = []

    def interrupt_third(self, *args):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return original(self, *args)

    original = Trainer._train_step
    monkeypatch.setattr(Trainer, "_train_step", interrupt_third)
    with pytest.raises(KeyboardInterrupt):
        train("vae", clips, tmp_path / "run", config_file(tmp_path, "vae"))
    assert load_bundle(tmp_path / "run" / "bundle").training[0]["steps"] == 2
    assert (tmp_path / "run/vae/checkpoint/loop.pt").exists()


def test_a_checkpoint_is_not_overwritten_without_a_word(clips, tmp_path):
    train("vae", clips, tmp_path / "run", config_file(tmp_path, "vae", steps=1))
    with pytest.raises(InputError, match="holds a checkpoint; add --resume"):
        train("vae", clips, tmp_path / "run", config_file(tmp_path, "vae", steps=1))


def test_a_stage_whose_forerunner_is_missing_says_so(clips, tmp_path):
    with pytest.raises(InputError, match="was not found"):
        train("image", clips, tmp_path / "run", config_file(tmp_path, "image"))
    train("vae", clips, tmp_path / "run", config_file(tmp_path, "vae", steps=1))
    with pytest.raises(InputError, match="has no unet, only vae; train that stage"):
        train("motion", clips, tmp_path / "run", config_file(tmp_path, "motion"))


def test_a_wrong_config_is_explained(clips, tmp_path):
    file = tmp_path / "c.json"
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        train("vae", clips, tmp_path / "run", file)
    file.write_text('{"loop": []}')
    with pytest.raises(InputError, match="'loop' must be an object"):
        train("vae", clips, tmp_path / "run", file)
    with pytest.raises(InputError, match="no setting 'speed'; known: channels"):
        configured(VaeConfig, {"speed": 1}, "stage vae")


def test_learning_rate_rises_then_falls_to_its_floor():
    config = LoopConfig(lr=1.0, warmup=10, final_lr=0.1)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(config, 500, 0.5) == pytest.approx(0.55)
    assert learning_rate(config, 999, 1.0) == pytest.approx(0.1)


def test_no_steps_is_refused():
    with pytest.raises(InputError, match="steps and batch must be 1 or more"):
        LoopConfig(steps=0)
