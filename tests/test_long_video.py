"""A long video with cuts, uneven times and sound: nothing is lost on the way, and its length costs no memory."""

import gc
from fractions import Fraction

import pytest
import torch
from media_clips import smooth_video, to_bytes, write_clip

from benchmarks.long_video import differences, frame_times, growth, scenes, sound_packets, write_source
from genve_core import cli_enhance
from genve_core.cli import main
from genve_core.cli_progress import Progress

FRAMES, SHOT, PIECES = 300, 60, 3  # of the video, of a shot; pieces of a shot


def tensor_bytes() -> int:
    """Of all tensors alive: weights, frames, latents. What several share counts once."""
    gc.collect()
    storages = (x.untyped_storage() for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_300_frames_keep_their_number_times_and_sound_and_no_shot_holds_more_than_the_second(
        tiny_bundle, tmp_path, monkeypatch, capsys):
    held = []  # bytes of all tensors at the end of each piece, where the last of its frames is decoded

    class Watching(Progress):
        def __call__(self, stage: str, done: int, total: int) -> None:
            super().__call__(stage, done, total)
            if stage == "decode" and done == total:
                held.append(tensor_bytes())

    monkeypatch.setattr(cli_enhance, "Progress", Watching)
    source, result = tmp_path / "long.mkv", tmp_path / "out.mkv"
    pan, still, _ = scenes([], 16, 24)
    write_source(source, [0.4 * pan + 0.5, 0.4 * still - 0.5], FRAMES, SHOT)
    assert main(["enhance", str(source), "-o", str(result), "--scale", "2", "--window", "8", "--segment", "24", "--lossless",
                 "--device", "cpu", "--bundle", str(tiny_bundle)]) == 0
    assert f"{FRAMES} frames, 48x32 px, 5 shots" in capsys.readouterr().out
    assert differences(source, result) == []
    times = frame_times(result)
    assert len(times) == FRAMES and len({b - a for a, b in zip(times, times[1:])}) > 5
    assert len(sound_packets(result)) > 100
    assert len(held) == 5 * PIECES
    assert max(held[2 * PIECES :]) <= max(held[PIECES : 2 * PIECES])


def clip(path, frames=4, gap=40, sound="flac"):
    return write_clip(path, list(to_bytes(smooth_video(frames, 16, 24))), pixel_format="bgr0", time_base=Fraction(1, 1000),
                      times=[gap * i for i in range(frames)], sound=sound)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, []),
        ({"frames": 3}, ["4 frames went in, 3 came out", "sound"]),
        ({"gap": 41}, ["3 frames have other times; frame 1 was at 0.04 s, is at 0.041 s"]),
        ({"sound": "pcm_s16le"}, ["sound went in"]),
        ({"sound": None}, ["packets of sound went in, 0 came out, 0 of them in place and unchanged"]),
    ],
)
def test_the_benchmark_sees_lost_frames_other_times_and_other_sound(tmp_path, changes, said):
    found = differences(clip(tmp_path / "a.mkv"), clip(tmp_path / "b.mkv", **changes))
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found))


@pytest.mark.parametrize("last, too_much", [(104.0, False), (106.0, True), (50.0, False)])
def test_the_benchmark_sees_memory_that_grows(last, too_much, capsys):
    """10,000 frames: the last 1,000 against frames 100 to 1,000."""
    pieces = [(100, 900.0), *[(100, 100.0)] * 9, *[(100, 900.0)] * 80, *[(100, last)] * 10]
    found = growth(pieces)
    assert bool(found) == too_much
    assert f"frames 100 to 1000 100 MiB, of frames 9000 to 10000 {last:.0f} MiB" in capsys.readouterr().out
