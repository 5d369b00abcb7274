import itertools

import pytest
import torch

from genve_core.diffuser.sampler import sample, timesteps
from genve_core.errors import InputError
from genve_core.noise_schedule import NoiseSchedule
from genve_core.reference.image_diffuser import make_reference
from genve_core.reference.semantic_alignment import align, gamma

SHAPE = (2, 4, 40, 37)  # b c h w; large enough for a standard deviation to mean something
SCHEDULE = NoiseSchedule()


def latents(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def image_model(x, t):
    """A denoiser whose clean estimate depends on state and time, so that every change of a state shows."""
    return SCHEDULE.target(x, 0.7 * x.tanh() + t / 5000, t)


def test_gamma_falls_from_its_maximum_at_t_max_to_zero_at_zero():
    assert gamma(1000) == pytest.approx(0.5) and gamma(500) == pytest.approx(0.25)
    assert gamma(0) == 0 and gamma(-1) == 0
    assert gamma(40, timesteps=80, gamma_max=0.8) == pytest.approx(0.4)
    values = [gamma(t) for t in range(1001)]
    assert all(low < high for low, high in itertools.pairwise(values))


@pytest.mark.parametrize("noise", ["same", "literal"])
def test_gamma_zero_is_plain_sampling_bit_for_bit(noise):
    x, times = latents(1), timesteps(800, 5)
    plain = sample(image_model, x, SCHEDULE, times)
    refine = align(latents(2), SCHEDULE, gamma_max=0.0, noise=noise)
    assert torch.equal(plain, sample(image_model, x, SCHEDULE, times, refine=refine))
    refine = align(latents(2), SCHEDULE, gamma_max=0.5, noise=noise)
    assert not torch.equal(plain, sample(image_model, x, SCHEDULE, times, refine=refine))


def state_noise(noise: str, s: int, gamma_max: float) -> tuple[torch.Tensor, float]:
    """Standard deviation that Eq. 3 leaves beside the clean part of the state, and gamma."""
    z, clean, eps = latents(1), latents(2), latents(3)
    x_s = SCHEDULE.add_noise(clean, eps, s)
    state = align(z, SCHEDULE, gamma_max=gamma_max, noise=noise)(x_s, clean, eps, 999, s)
    g = gamma(s, gamma_max=gamma_max)
    blend = (1 - g) * clean + g * z
    return (state - SCHEDULE.alpha[s] * blend).std(), g


@pytest.mark.parametrize("s", [120, 500, 930])
def test_the_same_noise_keeps_the_state_on_the_schedule(s):
    z, clean, eps = latents(1), latents(2), latents(3)
    deviation, g = state_noise("same", s, 0.5)
    torch.testing.assert_close(deviation, SCHEDULE.sigma[s], rtol=0.02, atol=0)
    state = align(z, SCHEDULE, noise="same")(SCHEDULE.add_noise(clean, eps, s), clean, eps, 999, s)
    torch.testing.assert_close(
        state, SCHEDULE.add_noise((1 - g) * clean + g * z, eps, s), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(("s", "gamma_max"), [(500, 0.5), (930, 0.5), (999, 1.0)])
def test_fresh_noise_shrinks_the_noise_as_two_independent_ones_do(s, gamma_max):
    deviation, g = state_noise("literal", s, gamma_max)
    shrunk = ((1 - g) ** 2 + g**2) ** 0.5
    torch.testing.assert_close(deviation, SCHEDULE.sigma[s] * shrunk, rtol=0.02, atol=0)


def test_the_end_of_sampling_is_left_alone():
    x = latents(1)
    assert align(latents(2), SCHEDULE)(x, x, latents(3), 40, -1) is x
    assert align(latents(2), SCHEDULE)(x, x, latents(3), 40, 0) is x


def test_a_larger_gamma_brings_the_reference_nearer_to_the_frame():
    z = latents(1)
    distances = [
        (make_reference(image_model, z, SCHEDULE, start=900, steps=6, gamma_max=g) - z).abs().mean().item()
        for g in (0.0, 0.25, 0.5, 1.0)
    ]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.9 * distances[0], distances


def test_a_perfect_image_model_makes_its_truth_whatever_gamma():
    z, truth = latents(1), latents(2)
    y = make_reference(lambda x, t: SCHEDULE.target(x, truth, t), z, SCHEDULE, start=600, steps=3)
    torch.testing.assert_close(y, truth, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("noise", ["same", "literal"])
def test_the_reference_depends_on_the_seed_alone(noise):
    z, settings = latents(1), {"start": 700, "steps": 4, "noise": noise}
    first, again, other = (
        make_reference(image_model, z, SCHEDULE, seed=seed, **settings) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == z.shape


def test_sampling_starts_from_the_noised_key_frame():
    starts, z = [], latents(1)

    def model(x, t):
        starts.append((t, x))
        return image_model(x, t)

    seen = []
    make_reference(model, z, SCHEDULE, start=300, steps=2, on_step=lambda i, clean: seen.append(i))
    t, x = starts[0]
    assert t == 300 and seen == [0, 1]
    noise = SCHEDULE.predict_noise(x, z, 300)
    assert abs(noise.std() - 1) < 0.02 and abs((noise * z).mean()) < 0.03


def test_wrong_settings_are_refused():
    z = latents(1)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"gamma_max must be in \[0, 1\], got"):
            align(z, SCHEDULE, gamma_max=wrong)
    with pytest.raises(InputError, match=r"alignment noise must be one of .*got 'fresh'"):
        align(z, SCHEDULE, noise="fresh")
    with pytest.raises(InputError, match=r"timestep must be in \[0, 999\], got 1000"):
        make_reference(image_model, z, SCHEDULE, start=1000, steps=2)
    with pytest.raises(InputError, match=r"steps must be in \[1, 301\].*got 0"):
        make_reference(image_model, z, SCHEDULE, start=300, steps=0)
    with pytest.raises(ValueError, match=r"z must be \(b, c, h, w\), got \(4, 40, 37\)"):
        make_reference(image_model, z[0], SCHEDULE, start=300, steps=2)
