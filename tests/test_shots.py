import sys

import pytest
import skimage.data
import torch
import torch.nn.functional as F

pytest.importorskip("scenedetect")

from genve_core.errors import InputError
from genve_core.media.shots import Shot, ShotConfig, find_shots, with_keys
from genve_core.reference.key_frame import parse_numbers


def scene(name: str, frames: int, speed: int = 1) -> torch.Tensor:
    """A camera that moves over a photograph by `speed` pixels a frame, (frames, 3, 90, 120) in [-1, 1]."""
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).float() / 127.5 - 1
    picture = F.interpolate(picture[None], size=(200, 300), mode="area")[0]
    return torch.stack([picture[:, 40:130, speed * i : speed * i + 120] for i in range(frames)])


def spans(shots: list[Shot]) -> list[tuple[int, int]]:
    return [(shot.start, shot.stop) for shot in shots]


def test_every_cut_is_found_and_no_frame_is_lost():
    clip = torch.cat([scene("astronaut", 9), scene("coffee", 12), scene("chelsea", 7)])
    shots = find_shots(clip)
    assert spans(shots) == [(0, 9), (9, 21), (21, 28)]
    assert all(shot.start <= shot.key < shot.stop for shot in shots)


@pytest.mark.parametrize("at", [4, 5, 12, 15, 16])
def test_a_cut_near_an_end_is_found(at):
    clip = torch.cat([scene("astronaut", at), scene("coffee", 20 - at)])
    assert spans(find_shots(clip)) == [(0, at), (at, 20)]


@pytest.mark.parametrize("at", [1, 3, 17, 19])
def test_a_shot_shorter_than_the_shortest_is_left_with_its_neighbour(at):
    clip = torch.cat([scene("astronaut", at), scene("coffee", 20 - at)])
    assert spans(find_shots(clip)) == [(0, 20)]
    assert spans(find_shots(clip, ShotConfig(shortest=1))) == [(0, at), (at, 20)]


@pytest.mark.parametrize("speed", [0, 1, 8])
def test_still_slow_and_fast_cameras_are_no_cut(speed):
    assert spans(find_shots(scene("coffee", 20, speed))) == [(0, 20)]


def test_only_a_high_sensitivity_sees_a_small_jump():
    slow = scene("coffee", 20)
    jump = torch.cat([slow[:10], (slow[10:] + 0.22).clamp(-1, 1)])  # 28 grey levels brighter, a third of the score
    assert spans(find_shots(jump, ShotConfig(sensitivity=0.2))) == [(0, 20)]
    assert spans(find_shots(jump, ShotConfig(sensitivity=0.9))) == [(0, 10), (10, 20)]


def test_the_key_frame_is_the_sharp_one_of_its_own_shot():
    clip = torch.cat([scene("astronaut", 9), scene("coffee", 9)])
    blurred = F.avg_pool2d(clip, 7, 1, 3, count_include_pad=False)
    blurred[3], blurred[14] = clip[3], clip[14]
    assert [shot.key for shot in find_shots(blurred)] == [3, 14]


def test_one_frame_is_one_shot():
    assert find_shots(scene("coffee", 1)) == [Shot(0, 1, 0)]


def test_frames_may_come_one_by_one_and_in_any_size():
    clip = torch.cat([scene("astronaut", 6), scene("coffee", 6)])
    large = F.interpolate(clip, size=(722, 963), mode="bilinear")
    assert spans(find_shots(frame for frame in large)) == [(0, 6), (6, 12)]
    tiny = F.interpolate(clip, size=(7, 9), mode="area")
    assert spans(find_shots(tiny)) == [(0, 6), (6, 12)]


def test_no_frames_are_refused():
    with pytest.raises(InputError, match="shots cannot be found in 0 frames"):
        find_shots([])


@pytest.mark.parametrize(("config", "message"), [
    ({"sensitivity": 1.1}, r"sensitivity must be in \[0, 1\], got 1.1"),
    ({"sensitivity": -0.1}, r"sensitivity must be in \[0, 1\], got -0.1"),
    ({"shortest": 0}, "shortest shot must be 1 frame or more, got 0"),
])
def test_settings_out_of_range_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        ShotConfig(**config)


def test_without_pyscenedetect_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect.common", None)
    with pytest.raises(InputError, match="pip install scenedetect-headless"):
        find_shots(scene("coffee", 2))


SHOTS = [Shot(0, 9, 4), Shot(9, 21, 15), Shot(21, 28, 24)]


def test_named_key_frames_replace_those_of_their_shots():
    assert [shot.key for shot in with_keys(SHOTS, [8, 21])] == [8, 15, 21]
    assert with_keys(SHOTS, []) == SHOTS
    assert [shot.key for shot in with_keys(SHOTS, [3, 3])] == [3, 15, 24]


def test_key_frames_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="key frame 28 is not in the clip of 28 frames; choose from 0 to 27"):
        with_keys(SHOTS, [28])
    with pytest.raises(InputError, match=r"key frames 10 and 12 are both in shot 1 \(frames 9 to 20\)"):
        with_keys(SHOTS, [10, 12])


@pytest.mark.parametrize(("text", "frames"), [("", []), (" 12, 57 ", [12, 57]), ("3 4;", None), ("-1", None), ("²", None)])
def test_frame_numbers_from_a_text(text, frames):
    if frames is not None:
        assert parse_numbers(text, "frames") == frames
        return
    with pytest.raises(InputError, match="key frames must be whole numbers from 0, separated by commas, such as 12, 57; got"):
        parse_numbers(text, "key frames")
