import itertools

import pytest
import torch

from genve_core.conditioning.noise import augment, augment_conditions
from genve_core.errors import InputError
from genve_core.noise_schedule import NoiseSchedule

SCHEDULE = NoiseSchedule()


def latents(seed: int, shape=(2, 5, 4, 6, 7)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_noise_level_zero_changes_no_bit():
    Z, noise = latents(1), latents(2)
    assert torch.equal(augment(Z, 0, noise, SCHEDULE), Z)
    mixed = augment(Z, torch.tensor([0, 250]), noise, SCHEDULE)
    assert torch.equal(mixed[0], Z[0])
    assert torch.equal(mixed[1], augment(Z, 250, noise, SCHEDULE)[1])


def test_augmentation_is_equation_1():
    Z, noise = latents(1), latents(2)
    wanted = SCHEDULE.alpha[250] * Z + SCHEDULE.sigma[250] * noise
    torch.testing.assert_close(augment(Z, 250, noise, SCHEDULE), wanted)


def test_more_noise_steps_leave_less_of_the_input():
    Z, noise = latents(1), latents(2)
    kept = [(augment(Z, n, noise, SCHEDULE) * Z).mean() / Z.square().mean() for n in (0, 1, 100, 250, 999)]
    assert all(high > low for high, low in itertools.pairwise(kept)), kept


@pytest.mark.parametrize("n", [-1, 1000])
def test_a_noise_level_out_of_range_is_refused(n):
    Z = latents(1)
    with pytest.raises(InputError, match=rf"noise level must be in \[0, 999\], got {n}"):
        augment(Z, n, Z, SCHEDULE)
    with pytest.raises(InputError, match=r"must be in \[0, 999\]"):
        augment(Z, torch.tensor([3, n]), Z, SCHEDULE)


def test_windows_see_the_clips_noise_and_one_reference():
    Z, y = latents(1), latents(2, (2, 4, 6, 7))
    whole, y_n = augment_conditions(Z, y, 250, SCHEDULE, seed=9)
    part, y_part = augment_conditions(Z[:, 2:], y, 250, SCHEDULE, seed=9, first_frame=2)
    assert torch.equal(part, whole[:, 2:]) and torch.equal(y_part, y_n)
    other, y_other = augment_conditions(Z, y, 250, SCHEDULE, seed=10)
    assert not torch.equal(other, whole) and not torch.equal(y_other, y_n)


def test_both_conditions_get_one_level_and_noises_of_their_own():
    Z, y = torch.zeros(1, 3, 16, 20, 21), torch.zeros(1, 16, 20, 21)
    Z_n, y_n = augment_conditions(Z, y, 400, SCHEDULE, seed=0)
    for noisy in (Z_n, y_n):
        torch.testing.assert_close(noisy.std(), SCHEDULE.sigma[400], rtol=0.03, atol=0)
    assert abs((Z_n[:, 0] * y_n).mean()) < 0.03


def test_a_clips_conditions_do_not_depend_on_its_batch():
    Z, y = latents(1), latents(2, (2, 4, 6, 7))
    both = augment_conditions(Z, y, 250, SCHEDULE, seed=9)
    alone = augment_conditions(Z[1:], y[1:], 250, SCHEDULE, seed=9)
    assert torch.equal(both[0][1:], alone[0]) and torch.equal(both[1][1:], alone[1])
