"""More than 4x: what is made at 4x and enlarged, and what a picture that was given adds at full size."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from media_clips import moving_pattern, smooth_video

from genve_core.bundle import load_bundle
from genve_core.film import Film
from genve_core.fit import Free, film_task, needed
from genve_core.media.shots import Shot
from genve_core.pipeline import EnhanceConfig, Enhancer, enhance
from genve_core.pyramid import joined, worked_size
from genve_core.segments import InMemory
from genve_core.sizes import Sizes
from genve_core.video_codec import upsample

SHARED = {"precision": "float32", "key_frame": 2, "align": False}


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def clip():
    return moving_pattern(4, 16, 24)


@pytest.fixture(scope="module")
def picture():
    return torch.rand(3, 96, 144, generator=torch.Generator().manual_seed(1)) * 2 - 1


def run(clip, bundle, reference=None, **config):
    return enhance(clip, bundle=bundle, device="cpu", reference=reference, **{**SHARED, **config})


@pytest.mark.parametrize(("size", "worked_on", "given", "finer"), [
    ((90, 160), (90, 160), (90, 160), (180, 320)),  # half
    ((180, 320), (180, 320), (180, 320), (360, 640)),
    ((200, 356), (200, 356), (200, 356), (360, 640)),  # 1.11x: 2x would be dear
    ((270, 480), (360, 640), (270, 480), (360, 640)),  # 1.5x
    ((360, 640), (360, 640), (360, 640), (720, 1280)),
    ((362, 642), (362, 642), (362, 642), (721, 1278)),
    ((405, 720), (360, 640), (405, 720), (720, 1280)),  # 2.25x
    ((540, 960), (720, 1280), (540, 960), (720, 1280)),
    ((720, 1280), (720, 1280), (720, 1280), (720, 1280)),
    ((722, 1284), (722, 1284), (722, 1284), (722, 1284)),
    ((1080, 1920), (720, 1280), (720, 1280), (720, 1280)),
    ((1080, 1440), (831, 1109), (831, 1109), (831, 1109)),  # another aspect
])
def test_the_networks_work_at_what_they_learnt_and_with_a_picture_at_the_wanted_size(size, worked_on, given, finer):
    assert worked_size((180, 320), size, given=False) == worked_on
    assert worked_size((180, 320), size, given=True) == given
    assert worked_size((180, 320), size, given=False, supersample=True) == finer


@pytest.mark.parametrize(("scale", "at", "supersample"), [
    (1.5, 2.0, False), (3.0, 4.0, False), (2.25, 2.0, False), (1.0, 2.0, True), (2.0, 4.0, True)])
def test_without_a_picture_other_scales_are_made_at_one_of_those_and_resized(clip, bundle, scale, at, supersample):
    size = (round(16 * scale), round(24 * scale))
    wanted = upsample(run(clip, bundle, scale=at).unsqueeze(0), size, clamp=False)[0].clamp(-1, 1)
    assert torch.equal(run(clip, bundle, scale=scale, supersample=supersample), wanted)


def test_a_picture_is_not_carried_at_another_size_up_to_4x(clip, bundle, picture):
    plain, finer = (run(clip, bundle, picture, scale=1.5, supersample=on) for on in (False, True))
    assert torch.equal(plain, finer)
    enhancer = Enhancer(bundle, EnhanceConfig(scale=1.5, **SHARED), "cpu")
    (reference,) = enhancer.references(InMemory(clip), {2: picture})
    assert reference.image.shape == (3, 32, 64) and reference.lower is None


def test_without_a_picture_more_than_4x_is_4x_enlarged(clip, bundle):
    at_4x, at_6x = (run(clip, bundle, scale=scale) for scale in (4.0, 6.0))
    assert at_6x.shape == (4, 3, 96, 144)
    assert torch.equal(at_6x, upsample(at_4x.unsqueeze(0), (96, 144))[0])


def test_at_strength_0_a_picture_has_no_part_in_it(clip, bundle, picture):
    wanted = run(clip, bundle, scale=6.0, reference_strength=0.0)
    assert torch.equal(run(clip, bundle, picture, scale=6.0, reference_strength=0.0), wanted)
    assert not torch.equal(run(clip, bundle, picture, scale=6.0), wanted)


def test_a_picture_brings_detail_that_4x_cannot_hold(clip, bundle, picture):
    def finest(frame):
        return (frame - upsample(upsample(frame[None, None], (64, 96)), (96, 144))[0, 0]).square().mean()

    poor, rich = (run(clip, bundle, one, scale=6.0)[2] for one in (None, picture))
    assert finest(rich) > 100 * finest(poor)


def test_both_levels_have_the_picture_in_the_same_place(clip, bundle, picture):
    shown = upsample(clip[2][None, None], (96, 144))[0, 0] * 0.7
    moved = torch.roll(shown, (3, -4), (-2, -1))
    enhancer = Enhancer(bundle, EnhanceConfig(scale=6.0, key_frame=2, precision="float32"), "cpu")
    (reference,) = enhancer.references(InMemory(clip), {2: moved})
    assert reference.image.shape == (3, 96, 160) and reference.lower.image.shape == (3, 64, 96)
    reduced = F.interpolate(reference.image[None, :, :, :144], size=(64, 96), mode="bicubic", antialias=True)[0]
    assert (reduced - reference.lower.image)[:, 4:-4, 4:-4].abs().mean() < 0.01
    assert reference.lower.calm.shape[-2:] == (32, 48) and reference.calm.shape[-2:] == (48, 80)
    assert reference.lower.key == 2 and not reference.lower.own


def test_up_to_4x_there_is_one_level(clip, bundle, picture):
    enhancer = Enhancer(bundle, EnhanceConfig(scale=4.0, **SHARED), "cpu")
    assert enhancer.references(InMemory(clip), {2: picture})[0].lower is None


def one_by_one(frames):
    return iter(frames.split(1))


def test_where_both_levels_agree_the_upper_one_stays_and_elsewhere_the_coarse_is_the_lower_ones():
    coarse = smooth_video(2, 32, 48)
    checks = 0.2 * (1 - 2 * (torch.arange(64).view(-1, 1) + torch.arange(96)).remainder(2).float())
    fine = (0.8 * upsample(coarse.unsqueeze(0), (64, 96))[0] + checks)
    alike = torch.cat(list(joined(one_by_one(0.8 * coarse), one_by_one(fine), (64, 96))))
    assert (alike - fine).abs().max() < 0.01

    blank = fine.clone()
    blank[..., 48:] = checks[:, 48:]  # the upper level found nothing there
    made = torch.cat(list(joined(one_by_one(0.8 * coarse), one_by_one(blank), (64, 96))))
    assert (F.avg_pool2d(made, 2) - 0.8 * coarse)[..., 28:].abs().mean() < 0.02 < 0.1 < F.avg_pool2d(
        blank - fine, 2)[..., 28:].abs().mean()
    assert (made - blank)[..., :36].abs().max() < 0.01


def test_results_stay_in_range():
    loud = torch.ones(1, 3, 32, 48)
    loud[..., ::2] = -1
    for above in (None, one_by_one(-torch.ones(1, 3, 64, 96))):
        (made,) = joined(one_by_one(loud), above, (64, 96))
        assert made.shape == (1, 3, 64, 96) and made.abs().max() <= 1


@pytest.mark.parametrize("given", [False, True])
def test_segments_give_what_the_whole_gives(bundle, picture, given):
    from genve_core.diffuser.windows import WindowConfig

    shot, pictures = moving_pattern(23, 16, 16), {11: picture if given else None}
    made = []
    for length in (100, 5):
        config = EnhanceConfig(scale=5.0, window=WindowConfig(4, 1), segment=length, precision="float32", align=False)
        enhancer = Enhancer(bundle, config, "cpu")
        references = enhancer.references(InMemory(shot), pictures)
        made.append(torch.cat([frame for piece in enhancer.segments(23)
                               for frame in enhancer.run_segment(InMemory(shot), piece, references)]))
    assert made[0].shape == (23, 3, 80, 80) and (made[0] - made[1]).abs().max() < 1e-4


def test_a_bar_never_goes_back_and_every_call_can_stop_the_run(clip, bundle, picture):
    said = []
    run(clip, bundle, picture, scale=6.0, on_progress=lambda *now: said.append(now))
    stages = list(dict.fromkeys(stage for stage, _, _ in said))
    assert [stages.index(stage) for stage, _, _ in said] == sorted(stages.index(stage) for stage, _, _ in said)
    assert said[-1] == ("decode", 4, 4)
    assert len(said) > len(set(said))  # while the lower level is at work, the last is said again


def test_memory_is_reckoned_with_at_the_sizes_that_are_worked_on(bundle, picture):
    enhancer = Enhancer(bundle, EnhanceConfig(scale=6.0), "cpu")
    film = Film([Fraction(i, 25) for i in range(99)], [Shot(0, 99, 4)], torch.zeros(99, 1))
    alone, given = (film_task(enhancer, film, [{4: one}], (180, 320), Free(8 * 10**9)) for one in (None, picture))
    assert (alone.size, alone.lower) == ((720, 1280), None)
    assert (given.size, given.lower) == ((1080, 1920), (720, 1280))
    most, upper, lower = (max(needed(Sizes(), task).values()) for task in (
        given, film_task(Enhancer(bundle, EnhanceConfig(size=(1080, 1920)), "cpu"), film, [{4: picture}], (360, 640),
                         Free(8 * 10**9)), alone))
    assert upper < most < upper + lower


def test_memory_is_reckoned_with_where_only_some_shots_have_a_picture(bundle, picture):
    film = Film([Fraction(i, 25) for i in range(9)], [Shot(0, 4, 1), Shot(4, 9, 6)], torch.zeros(9, 1))

    def size(scale, pictures, **settings):
        enhancer = Enhancer(bundle, EnhanceConfig(scale=scale, **settings), "cpu")
        task = film_task(enhancer, film, pictures, (180, 320), Free(8 * 10**9))
        return task.size, task.lower

    both, some, none = [{1: picture}, {2: picture}], [{1: None}, {2: picture}], [{1: None}, {2: None}]
    assert size(1.5, both) == ((270, 480), None) and size(1.5, some) == size(1.5, none) == ((360, 640), None)
    assert size(6.0, some) == size(6.0, both) == ((1080, 1920), (720, 1280)) and size(6.0, none) == ((720, 1280), None)
    assert size(2.0, some, supersample=True) == ((720, 1280), None) and size(2.0, both, supersample=True) == ((360, 640), None)
    assert size(6.0, both, reference_strength=0.0) == ((720, 1280), None)
