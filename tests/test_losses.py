import pytest
import torch

from genve_core.training.losses import contrast_loss, input_loss, poorness, structure_loss


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


def test_an_input_is_poor_by_what_is_wrong_with_its_cells():
    truth = noise(3, 3, 16, 16)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    up = truth + torch.stack([checks, torch.full_like(checks, 0.02), torch.full_like(checks, 0.5)]).unsqueeze(1)
    assert poorness(up, truth, full=0.04).tolist() == pytest.approx([0, 0.5, 1], abs=1e-4)


def test_contrast_is_asked_of_what_the_dial_adds_and_only_where_the_input_is_poor():
    truth = noise(2, 3, 32, 32)
    certain = (0.5 * truth).requires_grad_()
    further = (0.1 * truth).requires_grad_()
    poor = truth + 0.5
    loss = contrast_loss(certain, certain + further, truth, poor)
    assert loss.item() == pytest.approx(structure_loss(0.6 * truth, truth).item(), rel=1e-5)
    loss.backward()
    assert certain.grad is None or certain.grad.abs().max() == 0
    assert (further.grad * truth).sum() < 0  # more of it is wanted
    assert contrast_loss(certain, certain + further, truth, truth).item() == 0  # nothing is wrong with that input
