from itertools import pairwise

import pytest
import torch

from genve_core.diffuser.sampler import sample, timesteps
from genve_core.errors import InputError
from genve_core.noise_schedule import NoiseSchedule, NoiseScheduleConfig

SHAPE = (2, 3, 4, 5, 7)


def latents(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def toy_clean(x, t):
    """A denoiser that is wrong in a way that depends on the state and on the time."""
    return 0.6 * x.tanh() + t / 3000


def denoiser(schedule, clean_of):
    return lambda x, t: schedule.target(x, clean_of(x, t), t)


def test_timesteps_by_hand():
    assert timesteps(999, 4) == [999, 749, 499, 249]
    assert timesteps(250, 1) == [250]
    assert timesteps(2, 3) == [2, 1, 0]
    assert timesteps(0, 1) == [0]


@pytest.mark.parametrize("start", [1, 7, 250, 620, 999])
def test_timesteps_descend_evenly_from_start_to_clean(start):
    for steps in {1, 2, min(3, start + 1), min(13, start + 1), start + 1}:
        times = timesteps(start, steps)
        gaps = [t - s for t, s in pairwise([*times, -1])]
        assert times[0] == start and len(times) == steps and times[-1] >= 0
        assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1, f"{times} is not even"


@pytest.mark.parametrize(("start", "steps"), [(9, 0), (9, 11), (0, 2)])
def test_a_step_count_without_distinct_times_is_refused(start, steps):
    with pytest.raises(InputError, match=rf"steps must be in \[1, {start + 1}\].*got {steps}"):
        timesteps(start, steps)


def test_a_negative_start_is_refused():
    with pytest.raises(InputError, match="start time must be at least 0, got -1"):
        timesteps(-1, 1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_step_gives_exactly_the_prediction(prediction):
    schedule = NoiseSchedule(NoiseScheduleConfig(prediction=prediction))
    x, output = latents(1), latents(2)
    result = sample(lambda x, t: output, x, schedule, [617])
    assert torch.equal(result, schedule.predict_clean(x, output, 617))


def test_epsilon_and_v_prediction_of_the_same_denoiser_agree():
    results = []
    for prediction in ("epsilon", "v_prediction"):
        schedule = NoiseSchedule(NoiseScheduleConfig(prediction=prediction))
        results.append(sample(denoiser(schedule, toy_clean), latents(1), schedule, timesteps(700, 6)))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


def test_a_perfect_denoiser_reaches_the_truth_in_any_number_of_steps():
    schedule, truth = NoiseSchedule(), latents(3)
    for steps in (1, 2, 50):
        model = denoiser(schedule, lambda x, t: truth)
        result = sample(model, latents(1), schedule, timesteps(999, steps))
        torch.testing.assert_close(result, truth, atol=1e-3, rtol=1e-3)


def test_more_steps_let_an_imperfect_denoiser_correct_itself():
    schedule = NoiseSchedule()
    one, four = (
        sample(denoiser(schedule, toy_clean), latents(1), schedule, timesteps(700, steps)) for steps in (1, 4)
    )
    assert (one - four).abs().mean() > 0.05


def test_the_same_start_gives_the_same_bits_and_leaves_the_input_alone():
    schedule, x = NoiseSchedule(), latents(1)
    runs = [sample(denoiser(schedule, toy_clean), x, schedule, timesteps(500, 5)) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(x, latents(1))


def test_refine_sees_every_step_and_replaces_the_state():
    schedule, calls = NoiseSchedule(), []

    def refine(x_s, clean, noise, t, s):
        calls.append((t, s))
        level = (float(schedule.alpha[s]), float(schedule.sigma[s])) if s >= 0 else (1.0, 0.0)
        torch.testing.assert_close(x_s, level[0] * clean + level[1] * noise, atol=1e-5, rtol=1e-4)
        return torch.full_like(x_s, float(s))

    model_saw = []

    def model(x, t):
        model_saw.append(x.flatten()[0].item())
        return schedule.target(x, toy_clean(x, t), t)

    result = sample(model, latents(1), schedule, [90, 60, 30], refine=refine)
    assert calls == [(90, 60), (60, 30), (30, -1)]
    assert model_saw[1:] == [60.0, 30.0]
    assert (result == -1).all()


def test_a_refinement_that_changes_nothing_changes_no_bit():
    schedule = NoiseSchedule()
    model, times = denoiser(schedule, toy_clean), timesteps(800, 4)
    plain = sample(model, latents(1), schedule, times)
    assert torch.equal(plain, sample(model, latents(1), schedule, times, refine=lambda x_s, *_: x_s))


def test_on_step_gets_the_estimates_and_the_last_one_is_the_result():
    schedule, seen = NoiseSchedule(), []
    model = denoiser(schedule, toy_clean)
    result = sample(model, latents(1), schedule, [300, 100], on_step=lambda i, clean: seen.append((i, clean)))
    assert [i for i, _ in seen] == [0, 1]
    assert torch.equal(seen[-1][1], result) and not torch.equal(seen[0][1], result)


def test_half_precision_stays_half():
    schedule = NoiseSchedule()
    result = sample(lambda x, t: x, latents(1).bfloat16(), schedule, [300, 100])
    assert result.dtype == torch.bfloat16


@pytest.mark.parametrize("times", [[], [5, 5], [3, 9], [4, -1]])
def test_times_that_do_not_descend_to_zero_are_refused(times):
    with pytest.raises(InputError, match="times must be one or more, descending, none below 0"):
        sample(lambda x, t: x, latents(1), NoiseSchedule(), times)
