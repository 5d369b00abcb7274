import torch

from genve_core.vae import MiniVAE


def test_latents_are_an_eighth_of_the_frame_and_come_back_to_its_size():
    vae = MiniVAE(5, (8, 8, 16), 1)
    z = vae.encode(torch.rand(2, 3, 40, 56) * 2 - 1)
    assert z.shape == (2, 5, 5, 7)
    assert vae.decode(z).shape == (2, 3, 40, 56)


def test_calibrated_latents_have_zero_mean_and_unit_variance():
    torch.manual_seed(0)
    vae = MiniVAE(4, (8, 8, 16), 1)
    frames = torch.rand(6, 3, 64, 64) * 2 - 1
    vae.calibrate(frames)
    z = vae.encode(frames)
    assert z.mean((0, 2, 3)).abs().max() < 1e-4
    assert (z.std((0, 2, 3)) - 1).abs().max() < 1e-4


def test_calibration_does_not_change_what_is_decoded():
    torch.manual_seed(0)
    vae = MiniVAE(4, (8, 8, 16), 1)
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    before = vae.decode(vae.encode(frames))
    vae.calibrate(frames)
    assert torch.allclose(before, vae.decode(vae.encode(frames)), atol=1e-4)
