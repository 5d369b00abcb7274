"""The video diffuser of Fig. 2 and the image diffuser of section 3.2, each behind one small call.

The video diffuser is a 2D UNet with motion modules (diffusers' `UNetMotionModel`), the image diffuser the 2D
UNet alone. Small networks trained here and Stable Diffusion 1.5 with AnimateDiff are the same classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D, MotionAdapter, UNetMotionModel
from torch import Tensor, nn

__all__ = [
    "ImageDiffuser",
    "MotionDiffuser",
    "VideoDiffuser",
    "build_image_unet",
    "build_video_unet",
    "from_image_unet",
    "motion_adapter_of",
    "skip_channels",
]


class VideoDiffuser(Protocol):
    """What the sampler asks of a video backbone."""

    def __call__(self, z_t: Tensor, t: int | Tensor, guidance: Sequence[Tensor] | None = None) -> Tensor:
        """z_t: (b, f, c, h, w) noisy latents.   t: timestep in [0, 1000), one or (b,).

        guidance: one residual (b f, c_i, h_i, w_i) per skip state, from the controller.
        Returns the network's prediction (noise or v), shaped like `z_t`.
        """
        ...


class MotionDiffuser(nn.Module):
    """A `UNetMotionModel` as a `VideoDiffuser`.

    unet: takes any latent height and width; an odd size is rounded up when halved and restored later.
    text: (1, tokens, dim) constant text embedding; None means zeros, which is what a network trained without
        text has always seen. Not part of the state dict.
    """

    text: Tensor

    def __init__(self, unet: UNetMotionModel, text: Tensor | None = None):
        super().__init__()
        self.unet = unet
        self.register_buffer("text", _text_or_zeros(unet, text), persistent=False)
        self.skips = len(skip_channels(unet))

    def forward(self, z_t: Tensor, t: int | Tensor, guidance: Sequence[Tensor] | None = None) -> Tensor:
        """See `VideoDiffuser`. Raises ValueError for a bad shape, too many frames or a bad guidance list."""
        self._check(z_t, guidance)
        b, f = z_t.shape[:2]
        prediction = self.unet(
            z_t.transpose(1, 2),  # the class wants (b, c, f, h, w)
            t,
            encoder_hidden_states=self.text.to(z_t.dtype).expand(b * f, -1, -1),
            down_block_additional_residuals=None if guidance is None else tuple(guidance),
            return_dict=False,
        )[0]
        return prediction.transpose(1, 2)

    def _check(self, z_t: Tensor, guidance: Sequence[Tensor] | None) -> None:
        channels, longest = self.unet.config["in_channels"], self.unet.config["motion_max_seq_length"]
        if z_t.ndim != 5 or z_t.shape[2] != channels:
            raise ValueError(f"z_t must be (b, f, {channels}, h, w), got {tuple(z_t.shape)}")
        b, f = z_t.shape[:2]
        if f > longest:
            raise ValueError(
                f"z_t has {f} frames, but the motion modules know {longest}; cut it into windows"
            )
        if guidance is None:
            return
        if len(guidance) != self.skips:  # diffusers zips: a short list would drop skip states
            raise ValueError(f"guidance must hold {self.skips} residuals, one per skip, got {len(guidance)}")
        for i, residual in enumerate(guidance):
            if residual.shape[0] != b * f:
                raise ValueError(f"guidance[{i}] must hold b f = {b * f} frames, got {residual.shape[0]}")


class ImageDiffuser(nn.Module):
    """The 2D UNet with the same call form, on images (b, c, h, w) or on a video's frames (b, f, c, h, w)."""

    text: Tensor

    def __init__(self, unet: UNet2DConditionModel, text: Tensor | None = None):
        super().__init__()
        self.unet = unet
        self.register_buffer("text", _text_or_zeros(unet, text), persistent=False)

    def forward(self, z_t: Tensor, t: int | Tensor) -> Tensor:
        """z_t: noisy latents.   t: timestep in [0, 1000), one or (b,). Returns a prediction like `z_t`."""
        if z_t.ndim == 5:
            b, f = z_t.shape[:2]
            if isinstance(t, Tensor) and t.ndim:
                t = t.repeat_interleave(f)
            return self(z_t.flatten(0, 1), t).unflatten(0, (b, f))
        channels = self.unet.config["in_channels"]
        if z_t.ndim != 4 or z_t.shape[1] != channels:
            raise ValueError(f"z_t must be (b, [f,] {channels}, h, w), got {tuple(z_t.shape)}")
        text = self.text.to(z_t.dtype).expand(z_t.shape[0], -1, -1)
        return self.unet(z_t, t, encoder_hidden_states=text, return_dict=False)[0]


def build_image_unet(
    latent_channels: int,
    channels: tuple[int, ...],
    layers: int,
    *,
    heads: int = 4,
    norm_groups: int = 8,
    text_dim: int = 32,
) -> UNet2DConditionModel:
    """A small 2D UNet with attention at its lowest resolution only.

    channels: width of each block, highest resolution first; multiples of `heads` and of `norm_groups`.
    layers: residual layers per block.   text_dim: width of the (constant) text embedding.
    """
    if len(channels) < 2 or any(c % heads or c % norm_groups for c in channels):
        raise ValueError(
            f"channels must be two or more multiples of heads {heads}, groups {norm_groups}, not {channels}"
        )
    plain = len(channels) - 1
    return UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        norm_num_groups=norm_groups,
        cross_attention_dim=text_dim,
        attention_head_dim=heads,  # diffusers' 2D UNet reads this as the number of heads
    )


def from_image_unet(unet: UNet2DConditionModel, *, heads: int = 4, max_frames: int = 32) -> UNetMotionModel:
    """Put motion modules into a 2D UNet; the result starts equal to it, frame by frame.

    heads: temporal attention heads.   max_frames: positions that the motion modules know.
    """
    adapter = MotionAdapter(
        block_out_channels=tuple(unet.config["block_out_channels"]),
        motion_layers_per_block=unet.config["layers_per_block"],
        motion_num_attention_heads=heads,
        motion_norm_num_groups=unet.config["norm_num_groups"],
        motion_max_seq_length=max_frames,
    )
    for module in adapter.modules():
        if isinstance(module, AnimateDiffTransformer3D):  # diffusers leaves these at random
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return cast(UNetMotionModel, UNetMotionModel.from_unet2d(unet, adapter))


def motion_adapter_of(unet: UNetMotionModel) -> MotionAdapter:
    """The motion modules of `unet` as a component of their own; it shares their parameters."""
    config = unet.config
    adapter = MotionAdapter(
        block_out_channels=tuple(config["block_out_channels"]),
        motion_layers_per_block=config["layers_per_block"],
        motion_num_attention_heads=config["motion_num_attention_heads"],
        motion_norm_num_groups=config["norm_num_groups"],
        motion_max_seq_length=config["motion_max_seq_length"],
    )
    for mine, theirs in zip(
        [adapter.mid_block, *adapter.down_blocks, *adapter.up_blocks],
        [unet.mid_block, *unet.down_blocks, *unet.up_blocks],
        strict=True,
    ):
        mine.motion_modules = theirs.motion_modules  # type: ignore[union-attr]
    return adapter


def build_video_unet(
    latent_channels: int,
    channels: tuple[int, ...],
    layers: int,
    *,
    heads: int = 4,
    norm_groups: int = 8,
    text_dim: int = 32,
    max_frames: int = 32,
) -> UNetMotionModel:
    """A small video UNet: `build_image_unet` with motion modules after every layer and in the middle."""
    image = build_image_unet(
        latent_channels, channels, layers, heads=heads, norm_groups=norm_groups, text_dim=text_dim
    )
    return from_image_unet(image, heads=heads, max_frames=max_frames)


def skip_channels(unet: UNetMotionModel) -> list[int]:
    """Channels of each skip state, in the order of `down_block_additional_residuals`.

    First `conv_in`, then per block every layer and, where it has one, the down-sampler.
    """
    channels = [unet.conv_in.out_channels]
    for width, block in zip(unet.config["block_out_channels"], cast(Any, unet.down_blocks), strict=True):
        channels += [width] * (len(block.resnets) + (block.downsamplers is not None))
    return channels


def _text_or_zeros(unet: UNetMotionModel | UNet2DConditionModel, text: Tensor | None) -> Tensor:
    width = unet.config["cross_attention_dim"]
    if text is None:
        return torch.zeros(1, 1, width)
    if text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != width:
        raise ValueError(f"text must be (1, tokens, {width}), got {tuple(text.shape)}")
    return text
