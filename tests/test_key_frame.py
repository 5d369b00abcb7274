import pytest
import skimage.data
import torch
import torch.nn.functional as F

from genve_core.errors import InputError
from genve_core.reference.key_frame import (
    KeyFrameScorer,
    check_key_frame,
    choose_key_frame,
    noise_variance,
    parse_key_frame,
    sharpness,
)


def photograph(name: str = "astronaut") -> torch.Tensor:
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).float() / 127.5 - 1
    return F.interpolate(picture[None], size=(200, 310), mode="area")[0]


def blurred(frame: torch.Tensor, side: int = 7) -> torch.Tensor:
    return F.avg_pool2d(F.pad(frame[None], (side // 2,) * 4, mode="replicate"), side, 1)[0]


def noisy(frame: torch.Tensor, deviation: float, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(frame.shape, generator=torch.Generator().manual_seed(seed))
    return (frame + deviation * noise).clamp(-1, 1)


@pytest.mark.parametrize(("frames", "middle"), [(1, 0), (2, 0), (3, 1), (8, 3), (9, 4)])
def test_equal_frames_give_the_middle_one(frames, middle):
    assert choose_key_frame(photograph().expand(frames, -1, -1, -1)) == middle
    assert choose_key_frame(torch.full((frames, 3, 9, 11), -1.0)) == middle


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("sharp", [2, 4, 6])
def test_the_one_sharp_frame_is_chosen(name, sharp):
    frames = [blurred(photograph(name), 11)] * 9
    frames[sharp] = photograph(name)
    assert choose_key_frame(frames) == sharp


def test_centre_wins_over_a_slightly_sharper_end():
    frames = [blurred(photograph(), 3)] * 9
    frames[0] = photograph()
    assert sharpness(frames[0]) > sharpness(frames[4])
    assert choose_key_frame(frames) != 0


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_noise_is_not_taken_for_detail(name):
    frames = [blurred(photograph(name), 9)] * 7
    frames[2] = noisy(blurred(photograph(name), 9), 0.2)
    frames[4] = photograph(name)
    assert choose_key_frame(frames) == 4
    assert sharpness(frames[2]) < sharpness(frames[4])


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_a_blank_or_faded_middle_is_passed_over(level):
    frames = [photograph()] * 7
    frames[3] = noisy(torch.full_like(photograph(), level), 0.05)
    assert choose_key_frame(frames) in (2, 4)
    frames[3] = photograph() * 0.2 + level * 0.8
    assert choose_key_frame(frames) in (2, 4)


def test_a_broken_frame_is_passed_over():
    frames = [photograph()] * 5
    frames[2] = torch.full_like(photograph(), float("nan"))
    assert choose_key_frame(frames) in (1, 3)


def test_frames_fed_one_by_one_give_the_same_choice():
    frames = [blurred(photograph(), side) for side in (9, 5, 3, 7, 11)]
    scorer = KeyFrameScorer()
    for frame in frames:
        scorer.add(frame)
    assert scorer.best() == choose_key_frame(torch.stack(frames)) == 2


def test_the_resolution_of_the_video_hardly_matters():
    sharp = photograph()
    large = F.interpolate(sharp[None], scale_factor=4, mode="bicubic")[0]
    assert sharpness(large) == pytest.approx(sharpness(sharp), rel=0.25)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (8, 8), (161, 5)])
def test_any_size_can_be_judged(size):
    assert sharpness(torch.rand((3, *size)) * 2 - 1) >= 0


def test_white_noise_is_measured():
    grey = noisy(torch.zeros(1, 1, 200, 300), 0.05)
    assert noise_variance(grey).item() == pytest.approx(0.05**2, rel=0.05)


def test_an_edge_slope_has_the_energy_computed_by_hand():
    ramp = torch.linspace(-1, 1, 101).expand(3, 50, 101)  # grey rises by 0.01 per pixel; edges are replicated
    inner = 0.01**2
    assert sharpness(ramp) == pytest.approx(inner, rel=0.05)


def test_no_frames_and_wrong_frames_are_refused():
    with pytest.raises(InputError, match="cannot be chosen from 0 frames"):
        choose_key_frame([])
    with pytest.raises(ValueError, match=r"a frame must be \(3, h, w\), got \(1, 5, 7\)"):
        sharpness(torch.zeros(1, 5, 7))


def test_key_frame_text():
    assert parse_key_frame("auto") is None and parse_key_frame(" Auto ") is None
    assert parse_key_frame("0") == 0 and parse_key_frame("17") == 17
    for wrong in ("-1", "1.5", "", "middle", "²"):
        with pytest.raises(InputError, match=f"must be auto or a frame number from 0, got {wrong!r}"):
            parse_key_frame(wrong)


def test_a_key_frame_outside_the_clip_is_refused_with_the_range():
    assert [check_key_frame(i, 10) for i in (0, 9)] == [0, 9]
    for wrong in (-1, 10):
        with pytest.raises(
            InputError, match=rf"key frame must be in \[0, 9\] for a clip of 10 frames, got {wrong}"
        ):
            check_key_frame(wrong, 10)
