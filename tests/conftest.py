"""What many tests share: fixed randomness, and a whole bundle of the real classes, made tiny."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

# One thread here and in processes that tests start: in float32 a convolution's last bits depend on how many there are.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background jobs ignore Ctrl-C, which tests send
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that `enhance` takes, about 0.2 M parameters, untrained.

    What starts at zero (the controller's and the decoder's last layers) is made small and random here, so that a
    change anywhere shows in the output.
    """
    from genve_core.bundle import Defaults, save_component
    from genve_core.controller import LCAConfig, VideoController
    from genve_core.decoder.detail_decoder import DetailDecoder
    from genve_core.diffuser.backbone import build_image_unet, from_image_unet, motion_adapter_of
    from genve_core.vae import MiniVAE

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = build_image_unet(4, (16, 32), 1)
        video_unet = from_image_unet(unet, max_frames=16)
        controller = VideoController.from_unet(video_unet, LCAConfig(dim=16, heads=2, d=2))
        decoder = DetailDecoder(latent_channels=4, channels=(8, 8, 16), depth=(1, 1, 1, 1, 1),
                                full_noise=400, views=5)
        for layer in (*controller.zero_convs, decoder.tail, decoder.further[-1]):
            nn.init.normal_(layer.weight, std=0.05)
        parts = {
            "vae": MiniVAE(latent_channels=4, channels=(8, 8, 16), depth=1),
            "unet": unet,
            "motion": motion_adapter_of(video_unet),
            "controller": controller,
            "decoder": decoder,
        }
        parts["decoder_precleaned"] = other = DetailDecoder.from_config(decoder.config)
        for layer in (other.tail, other.further[-1]):
            nn.init.normal_(layer.weight, std=0.05)
        for name, module in parts.items():
            defaults = Defaults(steps=1, image_steps=1)
            save_component(folder, name, module, {"stage": name, "steps": 0}, defaults=defaults)
    return folder
