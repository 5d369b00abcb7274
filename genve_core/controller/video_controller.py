"""The video controller of Fig. 2: a trainable copy of the video UNet's encoder, (Z_t, e, n) -> guidance.

Z_t enters the first block; e = LCA(Z_n, Y_n) is added after it; every skip state leaves through a zero
convolution and is added to the decoder half of the frozen UNet. Untrained, the controller therefore changes
nothing. No residual goes to the middle block: the figure draws none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_motion_model import UNetMotionModel
from einops import rearrange
from torch import Tensor, nn

from ..blocks import zeroed
from ..diffuser.backbone import skip_channels
from .local_attention import LCAConfig, LocalAwareCrossAttention

__all__ = ["VideoController"]

ENCODER = ("conv_in", "time_embedding", "down_blocks")


class VideoController(ModelMixin, ConfigMixin):
    """Guidance for a frozen `UNetMotionModel`.

    unet_config: the arguments of that UNet.   lca_config: the fields of `LCAConfig`. Both are plain values,
    so that the config can be stored and the controller rebuilt by `VideoController.from_config(config)`,
    ready for its state dict. With the UNet at hand, use `from_unet`.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(self, unet_config: Mapping[str, Any], lca_config: Mapping[str, Any]):
        super().__init__()
        whole = UNetMotionModel(**unet_config)
        if len(whole.down_blocks) < 2:
            raise ValueError("unet must have two blocks or more: e is added between the first and the second")
        self.conv_in, self.time_proj = whole.conv_in, whole.time_proj
        self.time_embedding, self.down_blocks = whole.time_embedding, whole.down_blocks
        self.text_dim = whole.config["cross_attention_dim"]

        first = whole.config["block_out_channels"][0]
        self.lca = LocalAwareCrossAttention(whole.config["in_channels"], LCAConfig(**lca_config))
        dim = self.lca.config.dim
        self.fit_e = nn.Identity() if dim == first else nn.Conv2d(dim, first, 1)
        self.noise_embedding = zeroed(nn.Linear(first, self.time_embedding.linear_2.out_features))
        self.zero_convs = nn.ModuleList(zeroed(nn.Conv2d(c, c, 1)) for c in skip_channels(whole))

    @classmethod
    def from_unet(cls, unet: UNetMotionModel, lca_config: LCAConfig = LCAConfig()) -> VideoController:
        """Copy the encoder of `unet`, weights included; `unet` itself is left alone."""
        config = {name: value for name, value in unet.config.items() if not name.startswith("_")}
        controller = cls(unet_config=config, lca_config=asdict(lca_config))  # pyright: ignore[reportCallIssue]
        for part in ENCODER:
            getattr(controller, part).load_state_dict(getattr(unet, part).state_dict())
        nn.Module.to(controller, unet.device, unet.dtype)  # ModelMixin's own `to` logs a warning on any dtype
        return controller

    def match(self, z_n: Tensor, y_n: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """e = LCA(Z_n, Y_n). It does not depend on t: compute it once per window and pass it to every step.

        z_n, y_n: (b, f, c, h, w). Returns (b, f, dim, h', w') with the grid of the UNet's second block.
        """
        return self.lca(z_n, y_n, generator=generator)

    def forward(
        self,
        z_t: Tensor,
        t: int | Tensor,
        e: Tensor,
        n: int | Tensor,
        strength: float = 1.0,
        text: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """z_t: (b, f, c, h, w).   t, n: timestep and noise level in [0, 1000), one or (b,).

        e: from `match`.   strength: factor on the guidance.   text: (1, tokens, dim), zeros when None.
        Returns one residual (b f, c_i, h_i, w_i) per skip state. Raises ValueError if e does not fit z_t.
        """
        b, f = z_t.shape[:2]
        embedding = self.time_embedding(self._sinusoid(t, z_t)) + self.noise_embedding(self._sinusoid(n, z_t))
        embedding = embedding.expand(b, -1).repeat_interleave(f, dim=0)
        text = z_t.new_zeros(1, 1, self.text_dim) if text is None else text.to(z_t)

        x = self.conv_in(rearrange(z_t, "b f c h w -> (b f) c h w"))
        skips = (x,)
        for i, block in enumerate(self.down_blocks):
            extra = {}
            if getattr(block, "has_cross_attention", False):
                extra["encoder_hidden_states"] = text.expand(b * f, -1, -1)
            x, states = block(hidden_states=x, temb=embedding, num_frames=f, **extra)
            skips += states  # the first block's are taken before e is added, as the figure draws it
            if i == 0:
                x = x + self._fitted(e, x)
        return tuple(conv(skip) * strength for conv, skip in zip(self.zero_convs, skips, strict=True))

    def _sinusoid(self, step: int | Tensor, like: Tensor) -> Tensor:
        return self.time_proj(torch.as_tensor(step, device=like.device).reshape(-1)).to(like.dtype)

    def _fitted(self, e: Tensor, x: Tensor) -> Tensor:
        dim = self.lca.config.dim
        if e.ndim != 5 or e.shape[0] * e.shape[1] != x.shape[0] or e.shape[2:] != (dim, *x.shape[2:]):
            raise ValueError(
                f"e must be (b, f, {dim}, {x.shape[2]}, {x.shape[3]}) with b f = {x.shape[0]}, "
                f"got {tuple(e.shape)}; compute it by match() from latents of the size of z_t"
            )
        return self.fit_e(rearrange(e, "b f c h w -> (b f) c h w"))

