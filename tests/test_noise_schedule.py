import dataclasses
import math

import pytest
import torch

from genve_core.diffuser.sampler import sample, timesteps
from genve_core.errors import InputError
from genve_core.noise_schedule import NoiseSchedule, NoiseScheduleConfig

SHAPE = (3, 2, 4, 5, 7)  # b f c h w
BOTH = pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])


def latents(seed: int, shape=SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make(prediction="v_prediction", **changes) -> NoiseSchedule:
    return NoiseSchedule(NoiseScheduleConfig(prediction=prediction, **changes))


def test_first_two_steps_agree_with_a_hand_computation():
    schedule = make(timesteps=2, beta_start=0.19, beta_end=0.36, kind="linear")
    # alpha_bar = 0.81, 0.81 * 0.64
    torch.testing.assert_close(schedule.alpha, torch.tensor([0.9, 0.72]))
    torch.testing.assert_close(schedule.sigma, torch.tensor([math.sqrt(0.19), math.sqrt(1 - 0.72**2)]))
    x = schedule.add_noise(torch.tensor([[2.0]]), torch.tensor([[-1.0]]), 0)
    assert x.item() == pytest.approx(2 * 0.9 - math.sqrt(0.19), abs=1e-6)


def test_scaled_linear_betas_are_linear_in_their_root():
    schedule = make(timesteps=3, beta_start=0.04, beta_end=0.16)
    kept = [1 - 0.04, (1 - 0.04) * (1 - 0.09), (1 - 0.04) * (1 - 0.09) * (1 - 0.16)]
    torch.testing.assert_close(schedule.alpha**2, torch.tensor(kept))


def test_default_schedule_goes_from_nearly_clean_to_nearly_noise():
    schedule = NoiseSchedule()
    assert schedule.alpha[0] > 0.999 and schedule.alpha[-1] < 0.07
    assert (schedule.alpha.diff() < 0).all() and (schedule.sigma.diff() > 0).all()
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(1000))


@BOTH
@pytest.mark.parametrize("t", [0, 250, 999, torch.tensor([3, 250, 998])])
def test_target_is_what_predict_clean_inverts(prediction, t):
    schedule, clean, noise = make(prediction), latents(1), latents(2)
    x_t = schedule.add_noise(clean, noise, t)
    found = schedule.predict_clean(x_t, schedule.target(x_t, clean, t), t)
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(schedule.predict_noise(x_t, clean, t), noise, atol=1e-4, rtol=1e-4)


def test_target_is_the_noise_or_the_velocity():
    clean, noise, t = latents(1), latents(2), 600
    for prediction in ("epsilon", "v_prediction"):
        schedule = make(prediction)
        target = schedule.target(schedule.add_noise(clean, noise, t), clean, t)
        velocity = schedule.alpha[t] * noise - schedule.sigma[t] * clean
        wanted = noise if prediction == "epsilon" else velocity
        torch.testing.assert_close(target, wanted, atol=1e-5, rtol=1e-5)


def test_an_int_and_a_tensor_of_it_give_the_same_bits():
    schedule, clean, noise = make(), latents(1), latents(2)
    one = schedule.add_noise(clean, noise, 417)
    assert torch.equal(one, schedule.add_noise(clean, noise, torch.full((3,), 417)))
    each = schedule.add_noise(clean, noise, torch.tensor([5, 417, 999]))
    assert torch.equal(each[1], one[1]) and not torch.equal(each[0], one[0])


def test_a_step_keeps_clean_part_and_noise_and_lands_on_eq_1():
    schedule, clean, noise = make(), latents(1), latents(2)
    x_t = schedule.add_noise(clean, noise, 700)
    for s in (699, 300, 0):
        landed = schedule.step(x_t, clean, 700, s)
        torch.testing.assert_close(landed, schedule.add_noise(clean, noise, s), atol=1e-5, rtol=1e-5)
    assert torch.equal(schedule.step(x_t, clean, 700, -1), clean)


def test_a_step_is_the_papers_equation_2_between_neighbours():
    schedule, clean, noise, t = make(), latents(1), latents(2), 400
    x_t = schedule.add_noise(clean, noise, t)
    alpha = schedule.alpha[t] / schedule.alpha[t - 1]
    sigma = schedule.sigma[t] - alpha * schedule.sigma[t - 1]
    torch.testing.assert_close(schedule.step(x_t, clean, t, t - 1), (x_t - sigma * noise) / alpha)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_only_once(dtype):
    schedule = make()
    clean, noise = latents(1).to(dtype), latents(2).to(dtype)
    x_t = schedule.add_noise(clean, noise, 250)
    assert x_t.dtype == dtype
    assert torch.equal(x_t, schedule.add_noise(clean.float(), noise.float(), 250).to(dtype))
    assert schedule.step(x_t, clean, 250, 10).dtype == dtype
    assert schedule.target(x_t, clean, 250).dtype == dtype


@BOTH
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_perfect_sampling_from_the_poor_latent_visits_the_restoration_states(prediction, steps):
    schedule, clean, poor, noise, start = make(prediction), latents(1), latents(2), latents(3), 620
    seen = {}

    def oracle(x, t):
        seen[t] = x
        return schedule.target(x, clean, t)

    times = timesteps(start, steps)
    result = sample(oracle, schedule.add_noise(poor, noise, start), schedule, times)
    assert list(seen) == times
    for t, x in seen.items():
        state = schedule.restoration_state(clean, poor, noise, t, start)
        torch.testing.assert_close(x, state, atol=2e-5, rtol=1e-4, msg=lambda m, t=t: f"at t={t}: {m}")
    torch.testing.assert_close(result, clean, atol=1e-4, rtol=1e-4)


def test_restoration_state_is_eq_1_of_the_poor_latent_from_its_start_upwards():
    schedule, clean, poor, noise = make(), latents(1), latents(2), latents(3)
    t = torch.tensor([500, 501, 999])
    torch.testing.assert_close(
        schedule.restoration_state(clean, poor, noise, t, 500), schedule.add_noise(poor, noise, t)
    )
    low = schedule.restoration_state(clean, poor, noise, 0, 500)
    assert (low - clean).abs().mean() < 0.1 * (low - poor).abs().mean()


@pytest.mark.parametrize("t", [-1, 1000])
def test_a_time_outside_the_schedule_is_refused(t):
    schedule, x = make(), latents(1)
    with pytest.raises(InputError, match=rf"timestep must be in \[0, 999\], got {t}"):
        schedule.add_noise(x, x, t)
    with pytest.raises(InputError, match=r"timesteps must be in \[0, 999\], got \[5, "):
        schedule.predict_clean(x, x, torch.tensor([5, t, 7]))


def test_times_of_a_wrong_shape_or_type_are_refused():
    schedule, x = make(), latents(1)
    with pytest.raises(ValueError, match=r"must be \(3,\) integers.*got \(2,\)"):
        schedule.add_noise(x, x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"must be \(3,\) integers.*float32"):
        schedule.add_noise(x, x, torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"must be an int"):
        schedule.add_noise(torch.tensor(1.0), torch.tensor(1.0), torch.tensor([1]))


@pytest.mark.parametrize("s", [300, 301, -2])
def test_a_step_that_does_not_go_down_is_refused(s):
    x = latents(1)
    with pytest.raises(InputError, match=f"must go down in time to -1 at the lowest, got t=300 to s={s}"):
        make().step(x, x, 300, s)


def test_unlike_tensors_are_refused_by_name():
    schedule, x, other = make(), latents(1), latents(1, (3, 2, 4, 5, 8))
    for call, name in [
        (lambda: schedule.add_noise(x, other, 3), "noise"),
        (lambda: schedule.predict_clean(x, other, 3), "output"),
        (lambda: schedule.predict_noise(x, other, 3), "clean"),
        (lambda: schedule.step(x, other, 3, 2), "clean"),
        (lambda: schedule.target(x, other, 3), "clean"),
        (lambda: schedule.restoration_state(x, other, x, 3, 5), "poor"),
        (lambda: schedule.restoration_state(x, x, other, 3, 5), "noise"),
    ]:
        with pytest.raises(
            ValueError, match=rf"^{name} must be \(3, 2, 4, 5, 7\) like .*got \(3, 2, 4, 5, 8\)"
        ):
            call()
    with pytest.raises(ValueError, match="noise must be on cpu like x0, got meta"):
        schedule.add_noise(x, x.to("meta"), 3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("timesteps", 0, "timesteps must be at least 1, got 0"),
        ("beta_start", 0.5, "need 0 < beta_start <= beta_end < 1, got 0.5"),
        ("kind", "cosine", "kind must be one of .*got 'cosine'"),
        ("prediction", "sample", "prediction must be one of .*got 'sample'"),
    ],
)
def test_a_wrong_config_is_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(NoiseScheduleConfig(), **{field: value})
