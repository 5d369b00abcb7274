import pytest
import torch

from genve_core.training.losses import input_loss, structure_loss


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
