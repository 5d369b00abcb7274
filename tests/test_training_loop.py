import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from media_clips import write_clip

from genve_core.bundle import load_bundle
from genve_core.decoder.detail_decoder import DetailDecoder
from genve_core.decoder.inputs import decoder_inputs
from genve_core.errors import InputError
from genve_core.pipeline import enhance
from genve_core.training.clip_store import ClipConfig, ClipStore, make_clips
from genve_core.training.loop import LoopConfig, LossModule, Trainer, learning_rate
from genve_core.training.run import configured, read_config, train
from genve_core.training.stages.controller import ControllerConfig
from genve_core.training.stages.decoder import ROW, DecoderConfig, DecoderStage
from genve_core.training.stages.flow import FlowStageConfig
from genve_core.training.stages.image import ImageConfig
from genve_core.training.stages.motion import MotionConfig
from genve_core.training.stages.vae import VaeConfig
from genve_core.training.views import ViewsConfig
from genve_core.vae import MiniVAE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

ROOT = Path(__file__).resolve().parent.parent
SMALL = {  # settings of each stage at which a step takes a moment
    "vae": {"latent_channels": 4, "channels": [8, 8, 16], "depth": 1, "crop": 32},
    "decoder": {"channels": [8, 8, 16], "depth": [1, 1, 1, 1, 1], "crop": 32, "adversarial": 0.05},
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


@pytest.mark.parametrize("stage, part", [("vae", "vae"), ("image", "unet"), ("decoder", "decoder")])
def test_a_resumed_run_equals_one_that_was_never_stopped(clips, tmp_path, stage, part):
    for name in ("whole", "parts"):
        if stage != "vae":
            train("vae", clips, tmp_path / name, config_file(tmp_path, "vae", steps=1))
    train(stage, clips, tmp_path / "whole", config_file(tmp_path, stage, steps=5, final_lr=1.0))
    train(stage, clips, tmp_path / "parts", config_file(tmp_path, stage, steps=2, final_lr=1.0))
    train(stage, clips, tmp_path / "parts", config_file(tmp_path, stage, steps=5, final_lr=1.0), resume=True)
    whole, parts = weights(tmp_path / "whole", part), weights(tmp_path / "parts", part)
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def losses_with(clips, **weight):
    """A function of what to change in a batch: its loss without and with a weight of the stage `decoder`."""
    small = DecoderConfig(channels=(8, 8, 16), depth=(1, 1, 1, 1, 1), crop=32)
    vae, store = MiniVAE(4, (8, 8, 16), 1), ClipStore(clips)
    stages = [DecoderStage(store, config, vae) for config in (small, replace(small, **weight))]
    drawn = [stages[0].draw(np.random.default_rng(i)) for i in range(4)]
    batch = {name: torch.stack([d[name] for d in drawn]) for name in drawn[0]}
    restored = stages[0].restore(stages[0].decoder, batch)

    def losses(**changes):
        changed = batch | {name: torch.full((4,), value) for name, value in changes.items()}
        return [stage.pixel_loss(restored, changed).item() for stage in stages]

    return losses


def test_only_what_a_true_reference_shows_has_its_contrast_asked_for_at_n_0(clips):
    losses = losses_with(clips, carried=1.0)
    for use, own, more in ((1.0, 0.0, True), (1.0, 1.0, False), (0.0, 0.0, False)):
        without, asked = losses(use=use, own=own)
        assert (asked > without + 1e-3) if more else (asked == without)


def test_contrast_is_asked_for_at_n_0_as_far_as_the_input_is_poor(clips):
    losses = losses_with(clips, firm=1.0)
    for poor, more in ((1.0, True), (0.0, False)):
        without, asked = losses(use=0.0, poor=poor)
        assert (asked > without + 1e-3) if more else (asked == without)


@pytest.mark.parametrize("likely", [True, False])
def test_emphasis_is_no_part_of_training(clips, likely):
    vae, store = MiniVAE(4, (8, 8, 16), 1), ClipStore(clips)
    config = DecoderConfig(crop=32, no_reference=1.0, likely=likely)
    decoder = DetailDecoder(4, (8, 8, 16), (1, 1, 1, 1, 1), config.reach, full_noise=400, emphasis=0.5)
    torch.nn.init.normal_(decoder.tail.weight, std=0.1)
    stage = DecoderStage(store, config, vae, decoder)
    assert (stage.decoder.further is not None) == likely
    batch = {name: x.unsqueeze(0) for name, x in stage.draw(np.random.default_rng(0)).items()}
    restored = stage.restore(stage.decoder, batch)
    assert torch.equal(restored.full, restored.certain)
    assert not torch.equal(restored.certain, stage.decoded(batch["up"][:, 1:], batch))


def decoder_batch(clips, **config):
    """A small decoder, as it is after training for a while, and a batch of six samples."""
    torch.manual_seed(5)
    settings = DecoderConfig(channels=(8, 8, 16), depth=(1,) * 5, crop=32, imperfect_reference=0.3, **config)
    stage = DecoderStage(ClipStore(clips), settings, MiniVAE(4, (8, 8, 16), 1))
    torch.nn.init.normal_(stage.decoder.tail.weight, std=0.1)
    drawn = [stage.draw(np.random.default_rng([2, k])) for k in range(6)]
    return stage, {name: torch.stack([d[name] for d in drawn]) for name in drawn[0]}


def test_frames_are_decoded_in_a_batch_as_each_row_is_as_a_whole(clips):
    """Also at the ends of a row, where there are no neighbours."""
    stage, batch = decoder_batch(clips, own_reference=0.3)
    batch["start"] = torch.tensor([0, 1, 2, 4, 5, ROW - 2])
    with torch.no_grad():
        batch["reference"] = stage.references(stage.decoder, batch)
        together = stage.inputs(batch)
        for i in range(6):
            start = int(batch["start"][i])
            own = {name: x[i : i + 1] for name, x in batch.items()}
            alone = decoder_inputs(own["up"][:, 1:], own["forward"], own["backward"], reference=own["reference"],
                                   key=own["up"][:, 0], to_key=own["to_key"], valid=own["valid"], strength=float(own["use"]),
                                   guess=bool(own["own"]), reach=3, frames=slice(start, start + 2))
            for name in ("up", "detail", "valid", "key", "near"):
                assert torch.allclose(getattr(together, name)[2 * i : 2 * i + 2], getattr(alone, name), atol=1e-5), (i, name)


def test_nothing_in_the_decoders_loss_makes_a_gpu_wait(clips):
    """Such places would break the graph that torch compiles."""
    stage, batch = decoder_batch(clips)
    found = torch._dynamo.explain(stage.loss)(batch)
    assert found.graph_break_count == 0 and found.graph_count == 1, found.break_reasons
    torch._dynamo.reset()


def test_the_loss_is_compiled_where_the_config_says_so(clips, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    for asked in (False, True):
        train("vae", clips, tmp_path / str(asked), config_file(tmp_path, "vae", steps=1, compile=asked))
        assert [type(module) for module in compiled] == [LossModule] * asked


def test_figures_are_means_over_the_steps_since_the_last_line(clips, tmp_path):
    for every in (1, 2):
        train("vae", clips, tmp_path / str(every), config_file(tmp_path, "vae", steps=4, log_every=every))
    each, pairs = log_of(tmp_path / "1", "vae"), log_of(tmp_path / "2", "vae")
    for name in ("loss", "psnr", "grad"):
        means = [(a[name] + b[name]) / 2 for a, b in zip(each[::2], each[1::2], strict=True)]
        assert [line[name] for line in pairs] == pytest.approx(means, rel=1e-5)


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


def test_how_many_clips_there_are_is_said_and_none_is_refused(tmp_path):
    rng, said = np.random.default_rng(0), []
    for name, frames in (("short", 9), ("long", 12)):
        pictures = [cv2.resize(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), (640, 480)) for _ in range(1)] * frames
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "a.mp4", pictures, codec="libx264", pixel_format="yuv420p")
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"stage": {"clips": 5, "size": 64, "reach": 10}}))
    train("clips", tmp_path / "long", tmp_path / "clips", file, say=said.append)
    assert said == ["clips: 3 of the 5 asked for"]  # one stretch of 10 frames gives three crops
    with pytest.raises(InputError, match="gave no clip; videos need 10 frames without a cut and 64 px a side"):
        train("clips", tmp_path / "short", tmp_path / "none", file)


def log_of(out, stage):
    return [json.loads(line) for line in (out / stage / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage, part", [("vae", "vae"), ("decoder", "decoder"), ("image", "unet"), ("motion", "motion"),
                                         ("controller", "controller")])
def test_a_run_that_starts_from_a_bundle_goes_on_with_its_weights(clips, tiny_bundle, tmp_path, stage, part):
    said = []
    file = tmp_path / "c.json"
    stage_settings = {"decoder": {"crop": 32}} if stage == "controller" else {"crop": 32}
    file.write_text(json.dumps({"loop": {"steps": 1, "batch": 1, "lr": 1e-12, "precision": "no"}, "stage": stage_settings}))
    train(stage, clips, tmp_path / "run", file, start=tiny_bundle, say=said.append)
    assert said[0] == f"{stage}: goes on with the {part} in {tmp_path / 'run' / 'bundle'}"
    before, after = load_bundle(tiny_bundle), load_bundle(tmp_path / "run" / "bundle")
    for name, module in before.components.items():
        for key, tensor in module.state_dict().items():
            if stage == "vae" and key in ("shift", "spread"):  # measured anew
                continue
            assert torch.allclose(after[name].state_dict()[key], tensor, atol=1e-6), (name, key)
    records = [record["stage"] for record in after.training]
    assert records == [f"tiny/{name}" for name in before.components] + [stage]


def test_every_stage_of_a_run_may_name_the_bundle_it_started_from(clips, tiny_bundle, tmp_path):
    out, file = tmp_path / "run", config_file(tmp_path, "vae", steps=2, lr=1e-2, warmup=1)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"stage": {"crop": 32}}))
    train("vae", clips, out, file, start=tiny_bundle)
    trained = weights(out, "vae")
    assert not torch.equal(trained["encoder.1.weight"], load_bundle(tiny_bundle)["vae"].state_dict()["encoder.1.weight"])
    file.write_text(json.dumps({"loop": {"steps": 1, "batch": 1}, "stage": {"crop": 32}}))
    train("decoder", clips, out, file, start=tiny_bundle)
    assert torch.equal(weights(out, "vae")["encoder.1.weight"], trained["encoder.1.weight"])
    with pytest.raises(InputError, match="is a bundle that was not started from genve-mini; leave out --from"):
        train("decoder", clips, out, file, start="genve-mini")


def test_a_run_that_starts_from_nothing_or_with_clips_is_refused(clips, tmp_path):
    with pytest.raises(InputError, match="bundle 'nowhere' was not found"):
        train("vae", clips, tmp_path / "run", start="nowhere")
    with pytest.raises(InputError, match="clips are made without weights; leave out --from"):
        train("clips", clips, tmp_path / "run", start="genve-mini")


@pytest.mark.parametrize("stage, settings, said", [
    ("vae", {"latent_channels": 8}, "a vae with latent_channels 8, but the one to go on with has 4; leave latent_channels out"),
    ("decoder", {"channels": [8, 8, 32]}, r"a decoder with channels \[8, 8, 32\], but .* has \[8, 8, 16\]"),
    ("image", {"channels": [16, 48]}, r"a unet with channels \[16, 48\], but .* has \[16, 32\]"),
    ("controller", {"lca": {"dim": 32}}, "a controller with dim 32, but .* has 16"),
    ("controller", {"decoder": {"depth": [1, 1, 1, 1, 2]}}, "a decoder with depth"),
    ("decoder", {"depth": [1, 1, 1, 1, 0]}, r"can only be made deeper, got \[1, 1, 1, 1, 0\]"),
])
def test_a_config_that_contradicts_the_weights_to_go_on_with_is_refused(clips, tiny_bundle, tmp_path, stage, settings, said):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"stage": settings}))
    with pytest.raises(InputError, match=said):
        train(stage, clips, tmp_path / "run", file, start=tiny_bundle)


def test_a_config_that_agrees_with_the_weights_to_go_on_with_is_taken(clips, tiny_bundle, tmp_path):
    file = config_file(tmp_path, "controller", steps=1)
    settings = json.loads(file.read_text())
    settings["stage"]["decoder"] |= {"channels": [8, 8, 16]}
    file.write_text(json.dumps(settings))
    train("controller", clips, tmp_path / "run", file, start=tiny_bundle)


def test_a_decoder_goes_on_deeper_where_the_config_asks_for_it(clips, tiny_bundle, tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"loop": {"steps": 2, "batch": 1}, "stage": {"crop": 32, "depth": [1, 1, 2, 1, 1]}}))
    bundle = train("decoder", clips, tmp_path / "run", file, start=tiny_bundle)
    assert list(load_bundle(bundle, only=("decoder",))["decoder"].config["depth"]) == [1, 1, 2, 1, 1]


def in_two_processes(*program):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *program]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def vae_by_two_processes(clips, tmp_path, loop, *changes):
    """Train a VAE; each process runs the lines `changes` before it begins. Returns the run's folder."""
    file, program, out = tmp_path / "c.json", tmp_path / "changed.py", tmp_path / "run"
    file.write_text(json.dumps({"loop": loop, "stage": {"crop": 32}}))
    program.write_text("\n".join(["import os, sys, time", *changes, "from genve_core.cli import main",
                                  "sys.exit(main(sys.argv[1:]))"]))
    run = in_two_processes(str(program), "train", "vae", "--data", str(clips), "--out", str(out), "--config", str(file))
    assert run.returncode == 0, run.stderr
    return out


def test_two_processes_whose_clocks_differ_stop_after_the_same_step(clips, tmp_path):
    out = vae_by_two_processes(clips, tmp_path, {"steps": 100000, "batch": 2, "minutes": 0.05},
                               "clock, fast = time.perf_counter, 1 + 2 * int(os.environ['RANK'])",
                               "time.perf_counter = lambda: fast * clock()")
    (record,) = load_bundle(out / "bundle").training
    assert 3 <= 60 * record["minutes"] < 9  # it is the main process's clock


def test_a_checkpoint_of_two_processes_is_whole_when_one_is_slow(clips, tmp_path):
    out = vae_by_two_processes(clips, tmp_path, {"steps": 2, "batch": 2, "save_every": 1},
                               "from accelerate import Accelerator",
                               "save, late = Accelerator.save_state, 1.5 * int(os.environ['RANK'])",
                               "Accelerator.save_state = lambda *a, **k: (time.sleep(late), save(*a, **k))")
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= {path.name for path in (out / "vae" / "checkpoint").iterdir()}
    assert not (out / "vae" / "checkpoint.part").exists()


def test_two_processes_have_the_losses_of_one_with_the_same_global_batch(clips, tiny_bundle, tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"loop": {"steps": 3, "batch": 4, "log_every": 1, "precision": "no"}, "stage": {"crop": 32}}))
    train("vae", clips, tmp_path / "one", file, start=tiny_bundle)
    run = in_two_processes("-m", "genve_core", "train", "vae", "--data", str(clips), "--out", str(tmp_path / "two"),
                           "--config", str(file), "--from", str(tiny_bundle))
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("vae: goes on with the vae in") == 1  # only one of them speaks
    one, two = log_of(tmp_path / "one", "vae"), log_of(tmp_path / "two", "vae")
    assert [line["step"] for line in two] == [1, 2, 3]
    for a, b in zip(one, two):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["grad"] == pytest.approx(a["grad"], rel=1e-3)  # sums in another order; Adam magnifies it from step to step
    for name, tensor in weights(tmp_path / "one", "vae").items():
        assert torch.allclose(weights(tmp_path / "two", "vae")[name], tensor, atol=1e-3), name


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


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("[cg]pu/*.json")), ids=lambda file: "/".join(file.parts[-2:]))
def test_every_config_that_ships_is_understood(file):
    kinds = {"clips": ClipConfig, "vae": VaeConfig, "decoder": DecoderConfig, "image": ImageConfig, "motion": MotionConfig,
             "controller": ControllerConfig, "flow": FlowStageConfig, "views": ViewsConfig}
    configured(LoopConfig, read_config(file, "loop"), "loop")
    others = {"finetune_clips": "clips", "finetune": "controller", "ablation": "controller"}
    name = others.get(file.stem, file.stem.split("_")[0])
    settings = read_config(file, "stage")
    assert all(isinstance(settings.pop(ours, 0.0), float) for ours in ("fresh", "turn", "grow"))
    configured(kinds[name], settings, name)


def test_learning_rate_rises_then_falls_to_its_floor():
    config = LoopConfig(lr=1.0, warmup=10, final_lr=0.1)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(config, 500, 0.5) == pytest.approx(0.55)
    assert learning_rate(config, 999, 1.0) == pytest.approx(0.1)


def test_no_steps_is_refused():
    with pytest.raises(InputError, match="steps and batch must be 1 or more"):
        LoopConfig(steps=0)
