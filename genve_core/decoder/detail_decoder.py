"""The detail decoder: Z_0 -> frames, helped by the pixels that an f8 latent cannot hold (design, section 4).

It sees, besides the clean latent: the up-sampled frame, the warped reference's detail with its validity, the
warped poor key frame (to judge how well the warp fits), and the neighbouring poor frames, aligned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from ..blocks import ResBlock, down, stack, up, zeroed
from ..errors import InputError
from .views import VIEWS, TurnedLatents

DIFFERENCE_GAIN = 4.0  # differences between frames are small beside the frames; this brings them to one scale
RESIDUAL_GAIN = 0.3  # about the deviation of what is missing
FULL_NOISE = 400  # n at which a decoder with a dial adds its further detail as it was trained to
OTHER_CHANNELS = 12 + 12 + 1 + 3  # of what it sees besides neighbours, at half the size: up, detail, valid, key
MOST = 5.0  # times that detail, at any n
SURROUNDINGS = (3, 7)  # px: sides of the squares whose means a `fine` decoder may take
EDGE = 2  # px on either side: what counts as around a pixel, see `without_rims`


def neighbours(reach: int) -> tuple[int, ...]:
    """Offsets of the frames next to the one being decoded, aligned to it: `reach` before and `reach` after."""
    return (*range(-reach, 0), *range(1, reach + 1))


@dataclass(frozen=True)
class DecoderInputs:
    """What the decoder sees of n frames besides their latents. Half = half the frame's height and width."""

    up: Tensor  # (n, 3, h, w) up-sampled poor frames in [-1, 1]
    detail: Tensor  # (n, 3, h, w) warped reference minus `up`, zero where invalid
    valid: Tensor  # (n, 1, h/2, w/2) in [0, 1], 0 where the reference has nothing to say
    key: Tensor  # (n, 3, h/2, w/2) warped poor key frame minus `up`, zero where invalid
    near: Tensor  # (n, 3 * 2 * reach, h/2, w/2), (.., h, w) for a `fine` decoder: aligned neighbours minus `up`

    def __getitem__(self, index: slice) -> DecoderInputs:
        return DecoderInputs(self.up[index], self.detail[index], self.valid[index], self.key[index], self.near[index])


@dataclass(frozen=True)
class Seen:
    """What the decoder makes of its inputs before latents and noise level come in: other latents can use it again."""

    up: Tensor  # (n, 3, h, w), as in DecoderInputs
    detail: Tensor  # (n, 3, h, w), as there
    offered: Tensor  # (n, 3 k, h, w), see `offered`; k = 0 unless the decoder is `fine`
    half: Tensor  # (n, a, h/2, w/2) features
    quarter: Tensor  # (n, b, h/4, w/4)
    eighth: Tensor  # (n, c, h/8, w/8)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.up, self.detail, self.offered, self.half, self.quarter, self.eighth

    @property
    def bytes(self) -> int:
        return sum(x.nbytes for x in self.tensors)


class DetailDecoder(ModelMixin, ConfigMixin):
    """A U-Net over pixels with the latents let in at 1/8. Works frame by frame; nothing is normalised over space.

    result = up + trust * detail + residual + share(n) * further, and weights * offered if it is `fine`: how far the warped
    reference is believed is decided pixel by pixel. `further` is detail that is likely rather than certain, and `emphasis`
    times the residual, which least squares left too small; the noise level n decides how much of it is wanted: none at 0, all
    of it at `full_noise`, more than that above, up to `MOST` times. As the share is a plain factor, the dial can only go one
    way. What is added beyond `plain` makes edges crisper and leaves no rims beside them (`without_rims`).

    channels: widths at 1/2, 1/4 and 1/8 of the frame.   depth: residual blocks (encoder half, decoder half) at 1/2,
    at 1/4, and at 1/8.   latent_channels: of the VAE.   reach: how many neighbours it sees on either side.
    fine: whether it sees them at full size. Enlarged by 4, half of it holds all that they have; at 1x it does not. Then it also
    takes from them, and from what is around a pixel, by weights of that pixel (`offered`): noise goes so that an input of full
    size has, which features at half of it can hardly take away.
    full_noise: n at which the share is 1; 0 = a decoder without further detail, for which n changes nothing.
    emphasis: share of the residual that is added once more at `full_noise` (`docs/model-design/depth.md`, *Emphasis*).
    likely: whether layers of their own find detail that is likely; without them n adds the emphasis and nothing else.
    views: in how many ways it is asked, in turns (`views`): 1, or an odd number up to 7; more than 1 once `training.views` has
    fitted how latents are turned.
    """

    @register_to_config
    def __init__(self, latent_channels: int = 16, channels: tuple[int, ...] = (32, 64, 128),
                 depth: tuple[int, ...] = (1, 2, 2, 4, 4), reach: int = 2, full_noise: int = 0,
                 emphasis: float = 0.0, likely: bool = True, views: int = 1, fine: bool = False):
        super().__init__()
        if views not in range(1, len(VIEWS), 2):
            raise InputError(f"views of a decoder must be 1, 3, 5 or 7, got {views}")
        self.reach, self.views, self.fine = reach, views, fine
        self.turn = TurnedLatents(latent_channels, views) if views > 1 else None
        a, b, c = channels
        seen = OTHER_CHANNELS + 3 * 2 * reach * (4 if fine else 1)
        self.head = nn.Conv2d(seen, a, 3, padding=1)
        self.half_in, self.to_quarter = stack(a, depth[0], norm=True), down(a, b)
        self.quarter_in, self.to_eighth = stack(b, depth[2], norm=True), down(b, c)
        self.latent_in = nn.Conv2d(latent_channels, c, 3, padding=1)
        self.eighth = stack(c, depth[4], norm=True)
        self.skip_gains = nn.ParameterList([torch.ones(a, 1, 1), torch.ones(b, 1, 1)])  # of what goes past the lower levels
        self.from_eighth, self.quarter_out = up(c, b), stack(b, depth[3], norm=True)
        self.from_quarter, self.half_out = up(b, a), stack(a, depth[1], norm=True)
        self.tail = zeroed(nn.Conv2d(a, 16, 3, padding=1))  # RGB residual and trust, 2 x 2 pixels each
        offers = 2 * reach + len(SURROUNDINGS)
        self.weights = zeroed(nn.Conv2d(a, 4 * offers, 3, padding=1)) if fine else None  # of what is offered, 2 x 2 pixels each
        self.further: nn.Sequential | None = None
        if full_noise and likely:
            self.further = nn.Sequential(ResBlock(a, norm=True), zeroed(nn.Conv2d(a, 12, 3, padding=1)))

    def with_dial(self, full_noise: int = FULL_NOISE) -> DetailDecoder:
        """The same decoder, weights included, that can learn what n asks for; so far n changes nothing."""
        return self if self.config["full_noise"] else self._remade(full_noise=full_noise)

    def without_likely(self) -> DetailDecoder:
        """The same decoder, weights included, but for what it holds likely: n adds its emphasis and nothing else."""
        return self._remade(likely=False)

    def with_views(self, views: int) -> DetailDecoder:
        """The same decoder, weights included, asked in so many ways; `turn` has yet to be fitted."""
        return self._remade(views=views)

    def with_fine(self) -> DetailDecoder:
        """The same decoder, weights included, that sees its neighbours at full size and so far uses them at half of it."""
        if self.fine:
            return self
        finer, have = self._remade(fine=True), self.head.weight.data
        # four pixels for one, each a quarter of it, in the order of `pixel_unshuffle`
        finer.head.weight.data = torch.cat([have[:, :OTHER_CHANNELS], have[:, OTHER_CHANNELS:].repeat_interleave(4, 1) / 4], 1)
        return finer

    def deepened(self, depth: tuple[int, ...]) -> DetailDecoder:
        """The same decoder, weights included, with more residual blocks, which so far change nothing.

        depth: as in the config. Raises InputError if any level would lose blocks.
        """
        if any(wanted < have for wanted, have in zip(depth, self.config["depth"], strict=True)):
            raise InputError(f"a decoder of depth {list(self.config['depth'])} can only be made deeper, got {list(depth)}; "
                             f"leave depth out of the config, or train from the start in another --out")
        deeper, have = self._remade(depth=tuple(depth)), dict(self.named_modules())
        for name, module in deeper.named_modules():
            if isinstance(module, ResBlock) and name not in have:
                zeroed(module.second)
        return deeper

    def like(self, other: DetailDecoder) -> bool:
        """Whether both are made alike, but for weights, emphasis and how they see neighbours: then they can be `mixed`."""
        ours, theirs = ({name: value for name, value in one.config.items()
                         if not name.startswith("_") and name not in ("emphasis", "fine")} for one in (self, other))
        return ours == theirs

    def mixed(self, other: DetailDecoder, share: float) -> DetailDecoder:
        """The mean of both, of weights and of emphasis, with `share` in [0, 1] of the other, which is `like` this one."""
        if self.fine != other.fine:
            return self.with_fine().mixed(other.with_fine(), share)
        emphasis, theirs = (one.config["emphasis"] for one in (self, other))
        mean, state = self._remade(emphasis=(1 - share) * emphasis + share * theirs), other.state_dict()
        mean.load_state_dict({name: torch.lerp(x, state[name].to(x), share) for name, x in self.state_dict().items()})
        return mean

    def _remade(self, **changes: Any) -> DetailDecoder:
        """A decoder of another config with these weights; what is new has the values that it starts with."""
        config = {name: value for name, value in self.config.items() if not name.startswith("_")}
        remade = DetailDecoder(**{**config, **changes})
        have = self.state_dict()
        remade.load_state_dict({name: have[name] if name in have and have[name].shape == new.shape else new
                                for name, new in remade.state_dict().items()})
        return remade

    @property
    def fused(self) -> int:
        """How many neighbours on either side the final fusion takes (`steady`): as many frames as there are views, or three."""
        return max(1, self.views // 2)

    def look(self, inputs: DecoderInputs) -> Seen:
        """The half that needs neither latents nor n."""
        near = F.pixel_unshuffle(inputs.near, 2) if self.fine else inputs.near
        differences = [DIFFERENCE_GAIN * x for x in (inputs.key, near)]
        pixels = F.pixel_unshuffle(torch.cat([inputs.up, DIFFERENCE_GAIN * inputs.detail], 1), 2)
        half = self.half_in(self.head(torch.cat([pixels, inputs.valid, *differences], 1)))
        quarter = self.quarter_in(self.to_quarter(half))
        past_half, past_quarter = (x * gain.to(x) for x, gain in zip((half, quarter), self.skip_gains, strict=True))
        offers = offered(inputs) if self.fine else inputs.near[:, :0]
        return Seen(inputs.up, inputs.detail, offers, past_half, past_quarter, self.to_eighth(quarter))

    def forward(self, latents: Tensor, inputs: DecoderInputs | Seen, n: float | Tensor = 0,
                plain: float | None = None) -> Tensor:
        """Latents (b, c, h/8, w/8) and inputs of b frames, sides multiples of 8 -> frames (b, 3, h, w).

        inputs: or what `look` made of them.   n: noise level, one or (b,), in general that of `dial.detail_level`.
        plain: n beyond which detail must not leave what is around it; None = none.
        Untrained and without a reference, it returns the up-sampled frames.
        """
        certain, further = self.ends(latents, inputs)
        share = self._share(n, latents)
        if plain is None:
            return certain + share * further
        held = torch.minimum(share, self._share(plain, latents))
        return without_rims(certain + held * further, (share - held) * further)

    def _share(self, n: float | Tensor, like: Tensor) -> Tensor:
        """Of `further`, at noise level n: (b or 1, 1, 1, 1)."""
        share = torch.as_tensor(n, device=like.device) / max(self.config["full_noise"], 1)
        return share.clamp(max=MOST).reshape(-1, 1, 1, 1)

    def ends(self, latents: Tensor, inputs: DecoderInputs | Seen, emphasis: float | None = None) -> tuple[Tensor, Tensor]:
        """Frames (b, 3, h, w) with nothing but what is certain, and what is added to them at `full_noise`.

        emphasis: None = the decoder's own. Training takes 0, as emphasis is set after it and would be unlearnt.
        """
        seen = inputs if isinstance(inputs, Seen) else self.look(inputs)
        eighth = self.eighth(seen.eighth + self.latent_in(latents))
        quarter = self.quarter_out(seen.quarter + self.from_eighth(eighth))
        half = self.half_out(seen.half + self.from_quarter(quarter))
        residual, trust = F.pixel_shuffle(self.tail(half), 2).float().split([3, 1], dim=1)
        certain = seen.up + torch.sigmoid(trust) * seen.detail + RESIDUAL_GAIN * residual
        if self.weights is not None:
            weights = F.pixel_shuffle(self.weights(half), 2).float()
            for weight, offer in zip(weights.split(1, 1), seen.offered.split(3, 1), strict=True):
                certain = certain + weight * offer
        further = (self.config["emphasis"] if emphasis is None else emphasis) * residual
        if self.further is not None:
            further = further + F.pixel_shuffle(self.further(half), 2).float()
        return certain, RESIDUAL_GAIN * further


def offered(inputs: DecoderInputs) -> Tensor:
    """What a `fine` decoder may take: neighbours and means over `SURROUNDINGS`, less the frame, (n, 3 (2 reach + 2), h, w)."""
    means = [F.avg_pool2d(inputs.up, side, 1, side // 2, count_include_pad=False) - inputs.up for side in SURROUNDINGS]
    return torch.cat([inputs.near, *means], 1)


def without_rims(picture: Tensor, more: Tensor) -> Tensor:
    """picture + more, (b, 3, h, w) each, nowhere lighter or darker than the picture is within `EDGE` px.

    Much of the residual is what an edge wants on either side; more of it than fits would be a light and a dark rim there.
    """
    around = 2 * EDGE + 1
    lightest, darkest = F.max_pool2d(picture, around, 1, EDGE), -F.max_pool2d(-picture, around, 1, EDGE)
    return torch.minimum(torch.maximum(picture + more, darkest), lightest)
