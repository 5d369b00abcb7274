import pytest
import torch

from genve_core.training.losses import (
    contrast_loss,
    input_loss,
    poorness,
    restoration_loss,
    restraint_loss,
    structure_loss,
)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_structure_loss_is_zero_for_the_truth_and_asks_for_its_contrast():
    truth = noise(1, 3, 32, 32)
    assert structure_loss(truth, truth).item() == pytest.approx(0, abs=1e-5)
    # half the contrast: 1 - 2 * 0.5 / (1 + 0.25), as the constant is small beside the variance; a shift costs nothing
    assert structure_loss(0.5 * truth, truth).item() == pytest.approx(0.2, abs=0.01)
    assert structure_loss(truth + 0.3, truth).item() == pytest.approx(0, abs=1e-4)


def test_input_loss_sees_cells_not_what_is_inside_them():
    up = noise(1, 3, 8, 8)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    assert input_loss(up + checks, up).item() == pytest.approx(0, abs=1e-6)
    assert input_loss(up + 0.25, up).item() == pytest.approx(0.25, abs=1e-6)


def test_each_picture_has_its_weight_in_the_structure_loss():
    truth, result = noise(2, 3, 32, 32), noise(2, 3, 32, 32, seed=1)
    first, second = (structure_loss(result[i : i + 1], truth[i : i + 1]) for i in range(2))
    weighted = structure_loss(result, truth, torch.tensor([1.0, 0.0]))
    assert weighted.item() == pytest.approx(first.item() / 2, rel=1e-5)
    assert structure_loss(result, truth).item() == pytest.approx((first + second).item() / 2, rel=1e-5)


def test_frames_are_poor_by_what_is_wrong_with_them_beyond_their_borders():
    clean = noise(2, 3, 16, 16)
    for wrong, poor in ((0.002, 0.0), (0.009, 0.5), (0.5, 1.0)):
        assert poorness(clean + wrong, clean).item() == pytest.approx(poor, abs=1e-4)
    framed = clean.clone()
    framed[..., :2, :] += 1
    framed[..., :, -2:] += 1
    assert poorness(framed, clean).item() == 0


def test_contrast_is_asked_of_what_the_dial_adds_and_only_where_the_input_is_poor():
    truth = noise(2, 3, 32, 32)
    certain = (0.5 * truth).requires_grad_()
    further = (0.1 * truth).requires_grad_()
    loss = contrast_loss(certain, certain + further, truth, torch.ones(2))
    assert loss.item() == pytest.approx(structure_loss(0.6 * truth, truth).item(), rel=1e-5)
    loss.backward()
    assert certain.grad is None or certain.grad.abs().max() == 0
    assert (further.grad * truth).sum() < 0  # more of it is wanted
    assert contrast_loss(certain, certain + further, truth, torch.zeros(2)).item() == 0  # nothing is wrong with that input


def test_what_the_dial_adds_costs_as_far_as_the_input_is_clean():
    certain = noise(2, 3, 16, 16)
    loss = restraint_loss(certain, certain + torch.tensor([0.25, 0.5]).view(2, 1, 1, 1), torch.tensor([0.5, 1.0]))
    assert loss.item() == pytest.approx(0.25 * 0.5 / 2, rel=1e-3)


def test_squared_error_has_its_weight_in_the_restoration_loss():
    truth = noise(1, 2, 3, 16, 16)
    plain, squared = (restoration_loss(truth + 0.5, truth, squared=x).item() for x in (0.0, 4.0))
    assert plain == pytest.approx(0.5, rel=1e-4)
    assert squared == pytest.approx(0.5 + 4 * 0.25, rel=1e-4)
