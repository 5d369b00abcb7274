"""Auto-fit: sizes by the free memory, and smaller ones when it runs out all the same."""

import json
import re
from fractions import Fraction

import pytest
import torch
from media_clips import write_clip

from genve_core.bundle import load_bundle
from genve_core.cli import main
from genve_core.diffuser.windows import WindowConfig
from genve_core.film import Film, FilmRun, assign, pieces, retrying, scan
from genve_core.fit import Free, Task, described, film_task, fitted, needed
from genve_core.job import job_folder, recorded_sizes
from genve_core.media import VideoReader
from genve_core.media.shots import Shot
from genve_core.memory import _free_in_cgroups, free_ram, free_vram
from genve_core.pipeline import EnhanceConfig, Enhancer
from genve_core.settings import at_once
from genve_core.sizes import Retrying, Sizes, is_oom
from genve_core.steps import matched_at_once
from genve_core.video_codec import TilingConfig

GB = 10**9
LONG_4K = Task((1080, 1920), (2160, 3840), frames=500, keys=1, steps=1, reach=3, bf16=False)
SMALL = Task((112, 168), (448, 672), frames=500, keys=1, steps=1, reach=3, bf16=False)


def test_the_usual_sizes_stay_where_they_fit():
    assert fitted(Sizes(), SMALL, Free(8 * GB)) == Sizes()
    assert described(Sizes(), SMALL, Free(8 * GB)).startswith(
        "sizes: segment 96, window 16, decode 2 frames at once: 8.0 GB of RAM free, needs about 1.")


@pytest.mark.parametrize("free", [6, 10, 16])
def test_4k_is_made_to_fit_and_the_window_is_the_last_to_shrink(free):
    sizes = fitted(Sizes(), LONG_4K, Free(free * GB))
    assert max(needed(sizes, LONG_4K).values()) <= 0.85 * free * GB
    assert max(needed(Sizes(), LONG_4K).values()) > 20 * GB
    assert sizes.window.length == (8 if free == 6 else 16)
    assert sizes.segment < 96


def test_what_was_asked_for_stays_and_the_line_says_if_that_may_not_do():
    asked = Sizes(segment=96, chunk=4)
    sizes = fitted(asked, LONG_4K, Free(6 * GB), {"segment", "chunk"})
    assert (sizes.segment, sizes.chunk) == (96, 4)
    assert described(sizes, LONG_4K, Free(6 * GB)).endswith(", which may not be enough")


def test_more_references_or_a_longer_segment_need_more_and_bf16_less():
    def most(task, sizes=Sizes()):
        return max(needed(sizes, task).values())

    assert most(Task(**{**vars(SMALL), "keys": 3})) > most(SMALL) > most(Task(**{**vars(SMALL), "bf16": True}))
    assert most(SMALL, Sizes(segment=200)) > most(SMALL)
    assert most(Task(**{**vars(SMALL), "whole_shots": True})) > 2 * most(SMALL)


def test_with_a_gpu_its_own_memory_counts_and_the_frames_that_were_read_lie_in_ram():
    gpu = Task(**{**vars(LONG_4K), "apart": True})
    roomy, poor_in_ram = (fitted(Sizes(), gpu, Free(ram, 80 * GB)) for ram in (60 * GB, 2 * GB))
    assert roomy == Sizes() and poor_in_ram.segment < 96
    assert (poor_in_ram.chunk, poor_in_ram.tiling) == (roomy.chunk, roomy.tiling)
    assert "8.0 GB of GPU memory free" in described(Sizes(), gpu, Free(60 * GB, 8 * GB))


def test_a_gpu_is_given_more_frames_at_once_where_they_fit_into_its_memory():
    gpu = Task((180, 320), (720, 1280), frames=96, keys=1, steps=1, reach=5, bf16=True, context=10, apart=True)
    cpu = Task(**{**vars(gpu), "apart": False})
    assert "decode 8 frames at once" in described(Sizes(), gpu, Free(60 * GB, 16 * GB))
    assert "decode 2 frames at once" in described(Sizes(), cpu, Free(60 * GB))
    assert needed(Sizes(), gpu)["decode"] > needed(Sizes(), cpu)["decode"]
    assert fitted(Sizes(), gpu, Free(60 * GB, 16 * GB)) == Sizes()
    assert fitted(Sizes(), gpu, Free(60 * GB, 2 * GB)).chunk == 1


@pytest.mark.parametrize(("scale", "preclean", "size"), [(0.5, 0.0, (90, 160)), (0.5, 1.0, (180, 320)), (2.0, 1.0, (360, 640))])
def test_a_first_pass_at_the_clips_own_size_counts_too(tiny_bundle, scale, preclean, size):
    enhancer = Enhancer(load_bundle(tiny_bundle), EnhanceConfig(scale=scale, preclean=preclean), "cpu")
    film = Film([Fraction(i, 25) for i in range(9)], [Shot(0, 9, 4)], torch.zeros(9, 1))
    assert film_task(enhancer, film, [{4: None}], (180, 320), Free(8 * GB)).size == size


def test_small_frames_are_worked_on_more_at_once_and_take_no_more_memory():
    sizes = [(2160, 3840), (448, 704), (224, 352), (56, 88)]
    assert [at_once(size, 2) for size in sizes] == [2, 2, 8, 8]
    assert [matched_at_once(size, 2) for size in sizes] == [2, 8, 32, 512]
    assert {at_once(size, 1) for size in sizes} == {matched_at_once(size, 1) for size in sizes} == {1}
    assert [at_once(size, 2, accelerated=True) for size in [(2160, 3840), (1080, 1920), (720, 1280), (56, 88)]] == [2, 2, 8, 8]
    assert at_once((56, 88), 1, accelerated=True) == 1
    taken = [max(needed(Sizes(), Task((h // 4, w // 4), (h, w), 96, 1, 1, 3, True, 10)).values()) for h, w in sizes]
    assert taken == sorted(taken, reverse=True)


def test_sizes_survive_json_and_nothing_else_is_taken_for_them():
    sizes = Sizes(WindowConfig(8, 2), TilingConfig(2, 384, 96, 1024), 2, 24)
    assert Sizes.restored(json.loads(json.dumps(sizes.stored()))) == sizes
    for bad in (None, 3, {}, {**sizes.stored(), "window": {"length": 2, "overlap": 3}}, {**sizes.stored(), "more": 1}):
        assert Sizes.restored(bad) is None


def test_free_memory_is_what_the_tightest_control_group_leaves(tmp_path):
    def group(path, **files):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / path / name.replace("_", ".", 1)).write_text(text)

    told = tmp_path / "cgroup"
    told.write_text("0::/box/me\n")
    group("box", memory_max="1000", memory_current="700", memory_stat="inactive_file 100\nanon 5\n")
    group("box/me", memory_max="max", memory_current="300", memory_stat="inactive_file 0\n")
    assert min(_free_in_cgroups(tmp_path, told)) == 400
    told.write_text("5:cpu:/x\n4:memory:/old\n0::/\n")
    (tmp_path / "memory" / "old").mkdir(parents=True)
    for name, text in (("memory.limit_in_bytes", "500"), ("memory.usage_in_bytes", "450"),
                       ("memory.stat", "inactive_file 3\ntotal_inactive_file 20")):
        (tmp_path / "memory" / "old" / name).write_text(text)
    assert min(_free_in_cgroups(tmp_path, told)) == 70
    assert _free_in_cgroups(tmp_path, tmp_path / "none") == []
    assert free_ram() > 0 and free_vram(torch.device("cpu")) is None


def run_out():
    torch.empty(1 << 60, dtype=torch.uint8)


def test_what_says_that_memory_ran_out():
    with pytest.raises(RuntimeError) as told:
        run_out()
    assert is_oom(told.value) and is_oom(MemoryError()) and is_oom(OSError(12, "Cannot allocate memory"))
    assert is_oom(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert not any(map(is_oom, [ValueError("not enough memory of it"), RuntimeError("shapes"), OSError(28, "full"),
                                KeyboardInterrupt()]))


def test_a_retry_passes_over_what_was_given_out_and_keeps_its_sizes():
    tried, told = [], []
    retry = Retrying(Sizes(chunk=4), ("chunk",), ("window",), tell=told.append)

    def make(sizes):
        tried.append((sizes.chunk, sizes.window.length))
        for i in range(5):
            if i == 3 and len(tried) < 4:
                run_out()
            yield i

    assert list(retry.items(make)) == [0, 1, 2, 3, 4]
    assert tried == [(4, 16), (2, 16), (1, 16), (1, 8)]
    assert told == retry.notes and told[-1] == "Memory ran out; tried again with windows of 8 frames, 1 frames at once."
    assert retry.call(lambda sizes: sizes.window.length) == 8


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    ys, xs = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    frames = [torch.stack([torch.sin((xs - i) / 4), torch.cos(ys / 5), torch.sin((xs + ys - i) / 6)]) for i in range(40)]
    pixels = [((frame * 0.8 + 1) * 127.5).round().byte().permute(1, 2, 0).numpy() for frame in frames]
    return write_clip(tmp_path_factory.mktemp("fit") / "clip.mkv", pixels, pixel_format="bgr0")


class Scarce(Enhancer):
    """An enhancer on a machine where segments with more than `most` frames in sight do not fit."""

    most = 20

    def run_segment(self, shot, segment, references, on_progress=None):
        for i, frame in enumerate(super().run_segment(shot, segment, references, on_progress)):
            if i == 2 and len(segment.seen) > self.most:
                run_out()
            yield frame


@pytest.mark.parametrize("most", [1000, 20])
def test_a_piece_goes_on_in_smaller_segments_with_the_same_frames(video, tiny_bundle, most):
    enhancer = Scarce(load_bundle(tiny_bundle), EnhanceConfig(scale=1.0, precision="float32", window=WindowConfig(6, 2)), "cpu")
    enhancer.most, told = most, []
    with VideoReader(video) as reader:
        film, pictures, _ = assign(scan(reader, cuts=None), (), (24, 32))
        run = FilmRun(enhancer, reader, film, pictures, retrying(enhancer, told.append))
        (piece,) = pieces(enhancer, film)
        frames = torch.stack([rgb for rgb, _ in run.piece(piece)])
        poor = torch.stack([frame.rgb for frame in reader])
    plain = Enhancer(enhancer.models, EnhanceConfig(scale=1.0, window=WindowConfig(6, 2), key_frame=film.shots[0].key))
    assert (frames - torch.cat(list(plain.run(poor)))).abs().max() < 1e-4
    assert bool(told) == (most == 20)
    if told:
        assert "segments of" in told[-1] and enhancer.config.segment < 40 and enhancer.config.window.length == 6


def enhance(video, out, bundle, *more):
    return main(["enhance", str(video), "-o", str(out), "--scale", "1", "--bundle", str(bundle), "--lossless", *more])


def test_the_command_line_says_which_sizes_and_a_resumed_job_keeps_its_own(video, tiny_bundle, tmp_path, capsys, monkeypatch):
    """Interrupted with little memory and resumed with much, the bytes are those of a run that was not interrupted."""
    monkeypatch.setattr("genve_core.cli_fit.free_ram", lambda: int(2**28 / 0.85) + 10**6)
    kept, stop = FilmRun.piece, []

    def interrupted(self, piece, report):
        if stop and piece.segment.own.start:
            raise KeyboardInterrupt
        yield from kept(self, piece, report)

    monkeypatch.setattr(FilmRun, "piece", interrupted)
    assert enhance(video, tmp_path / "whole.mkv", tiny_bundle) == 0
    said = capsys.readouterr().err
    assert re.search(r"^note: sizes: segment \d, window \d+, decode 1 frame at once: 0.3 GB of RAM free, needs", said, re.M)
    stop.append(True)
    assert enhance(video, tmp_path / "parts.mkv", tiny_bundle) == 130
    about = json.loads((job_folder(tmp_path / "parts.mkv") / "job.json").read_text())
    assert recorded_sizes(tmp_path / "parts.mkv", about["made_with"]) == Sizes.restored(about["sizes"]) != Sizes()
    assert recorded_sizes(tmp_path / "parts.mkv", "other") is None
    stop.clear()
    monkeypatch.setattr("genve_core.cli_fit.free_ram", lambda: 64 * GB)
    assert enhance(video, tmp_path / "parts.mkv", tiny_bundle) == 0
    said = capsys.readouterr().err
    assert "(as the earlier run)" in said and "going on: 1 of" in said
    assert (tmp_path / "parts.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


@pytest.mark.parametrize("options, message", [
    (["--segment", "0"], "--segment must be 1 or more, got 0"),
    (["--chunk", "0"], "--chunk must be 1 or more, got 0"),
    (["--window", "0"], "--window must be 1 or more, got 0"),
    (["--tile", "100"], "--tile must be 256 or more, got 100"),
    (["--window", "33"], "window is 33 frames, this bundle's motion modules know 16; set it to 16 or less"),
])  # fmt: skip
def test_sizes_that_cannot_be_are_refused_in_one_line(video, tiny_bundle, tmp_path, capsys, options, message):
    assert enhance(video, tmp_path / "out.mkv", tiny_bundle, *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
