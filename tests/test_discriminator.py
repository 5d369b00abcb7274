import torch

from genve_core.training.discriminator import PatchDiscriminator, adversarial_losses


def frames(seed, n=2):
    return torch.rand(n, 3, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_each_loss_trains_its_own_side_only():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator((4, 6, 8))
    result = frames(0).requires_grad_(True)
    fooled, told_apart = adversarial_losses(discriminator, result, frames(1), frames(2))
    assert fooled.shape == (2,) and told_apart.ndim == 0
    fooled.sum().backward(retain_graph=True)
    assert result.grad is not None and result.grad.abs().max() > 0
    assert all(p.grad is None for p in discriminator.parameters())
    result.grad = None
    told_apart.backward()
    assert result.grad is None and all(p.grad.abs().max() > 0 for p in discriminator.parameters())


def test_it_learns_to_tell_blurred_frames_from_sharp_ones():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator((4, 6, 8))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    for step in range(120):
        sharp = frames(step)
        blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
        loss = adversarial_losses(discriminator, blurred, sharp, blurred)[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sharp = frames(999)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    assert discriminator(sharp, blurred).mean() > 0 > discriminator(blurred, blurred).mean()
