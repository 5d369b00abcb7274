"""The bundle's VAE as ComfyUI's VAE, for its own encode and decode nodes, tiled ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..genve_core.activations import BYTES_PER_PIXEL

if TYPE_CHECKING:
    from ..genve_core.vae import MiniVAE
    from .engine import HostModels


def host_vae(models: HostModels) -> Any:
    """A `comfy.sd.VAE` around the bundle's VAE, in the same ModelPatcher as `models` has it.

    IMAGE in [0, 1] <-> latents of unit variance, which ComfyUI takes as they are.
    """
    import torch
    from comfy.sd import VAE

    # The host's constructor sets what this and later versions want to find on a VAE. It picks a network by the names
    # of its weights; this name stands for one without any, which is then replaced.
    vae = VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    network = cast("MiniVAE", models.build("vae"))
    vae.first_stage_model = network
    vae.patcher = models.patcher("vae")
    vae.device, vae.vae_dtype = models.device, torch.float32
    vae.working_dtypes = [torch.float32]
    vae.disable_offload = True  # load whole: the network has none of the host's layers
    vae.size = None  # newer hosts measure it when asked
    vae.latent_channels = network.latent_channels
    vae.downscale_ratio = vae.upscale_ratio = network.downscale
    per_pixel = BYTES_PER_PIXEL["vae"]
    vae.memory_used_encode = lambda shape, dtype: per_pixel * shape[2] * shape[3]
    vae.memory_used_decode = lambda shape, dtype: per_pixel * shape[2] * shape[3] * network.downscale**2
    return vae
