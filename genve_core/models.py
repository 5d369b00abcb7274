"""A bundle's networks on a device, ready to compute. ComfyUI's nodes put their own memory management in its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn as nn

from .bundle import Bundle
from .decoder.detail_decoder import DetailDecoder
from .devices import has_bf16, pick_device
from .dial import decoder_shares
from .diffuser.backbone import ImageDiffuser, MotionDiffuser
from .noise_schedule import NoiseSchedule

DECODERS = ("decoder", "decoder_1x", "decoder_2x", "decoder_precleaned")
NETWORKS = ("vae", "image", "video", "controller", "flow", *DECODERS)
# All convolution: on a CPU it takes 0.8 to 0.9 of the time with channels last (`docs/model-design/speed.md`). The
# diffusers take longer so, as their attention and group norms want the other order; GPUs have not been measured.
CONVOLVING = ("vae", *DECODERS, "decoder_mixed")
# Autocast would make their weights bf16 anew in every call. The VAE is left alone: ComfyUI's own nodes use it in float32.
HELD_IN_BF16 = ("image", "video", "controller", *DECODERS, "decoder_mixed")


class Models:
    """The networks of `NETWORKS`, made from a bundle's components when they are first asked for.

    device: a name for `pick_device`, or a device.   precision: "auto" (bf16 where it is native), "float32" or "bf16".
    """

    def __init__(self, bundle: Bundle, device: str | torch.device = "auto", precision: str = "auto"):
        self.bundle = bundle
        self.device = pick_device(device) if isinstance(device, str) else device
        self.bf16 = precision == "bf16" or (precision == "auto" and has_bf16(self.device))
        self.schedule, self.defaults = NoiseSchedule(bundle.schedule), bundle.defaults
        self._built: dict[str, nn.Module] = {}
        self.preclean = 0.0  # share of it in the frames that are decoded, see `for_preclean`
        self.decoder = "decoder"  # what decodes, see `for_enlargement`: one of `DECODERS`, or "decoder_mixed"
        self._mixed: nn.Module | None = None
        self._chosen: dict[tuple[tuple[str, float], ...], tuple[str, nn.Module | None]] = {}  # the last choice of a decoder

    def for_preclean(self, share: float) -> Models:
        """The same networks, for frames that are precleaned by `share`, above 0 and at most 1."""
        models = copy.copy(self)  # what is built is shared
        models.preclean = share
        return models

    def for_enlargement(self, enlargement: float) -> Models:
        """The same networks, of which the decoder for clips enlarged by so much decodes: a mean of those in the bundle.

        It has of each what `decoder_shares` says. Of `decoder_precleaned` it then has as much as the frames are precleaned. So
        neither setting has a step anywhere. Of decoders that differ in shape one alone decodes.
        """
        held = {name: share for name, share in decoder_shares(enlargement).items() if name in self.bundle.components}
        shares, so_far = {}, 1 - sum(held.values())  # `decoder` has what is left
        for name, share in held.items():
            so_far += share
            shares[name] = share and share / so_far
        if "decoder_precleaned" in self.bundle.components:
            shares["decoder_precleaned"] = self.preclean
        choice = tuple((name, share) for name, share in shares.items() if share)
        if choice not in self._chosen:
            self._chosen.clear()  # makes room
            self._chosen[choice] = self._choose(choice)
        models = copy.copy(self)
        models.decoder, models._mixed = self._chosen[choice]
        return models

    def _choose(self, shares: tuple[tuple[str, float], ...]) -> tuple[str, nn.Module | None]:
        """The decoder's name, and the network of a mean. shares: of each component, in the place of those before it."""
        chosen, mean = "decoder", None
        for name, share in shares:
            before, other = mean or self._own(chosen), self._own(name)
            if share < 1 and before.like(other):
                chosen, mean = "decoder_mixed", before.mixed(other, share)
            elif share >= 0.5 or name == "decoder_precleaned":
                chosen, mean = name, None
        return chosen, None if mean is None else self._prepared("decoder_mixed", mean)

    @property
    def fused(self) -> int:
        """How many frames to either side the final fusion takes, whichever decoder decodes."""
        return max(self._own(name).fused for name in DECODERS if name in self.bundle.components)

    @property
    def reach(self) -> int:
        """How many frames decoding looks to either side in all: the decoder, and the final fusion further."""
        return self.fused + max(self._own(name).reach for name in DECODERS if name in self.bundle.components)

    def _own(self, name: str) -> DetailDecoder:
        return cast(DetailDecoder, self.bundle[name])

    def ready(self, *names: str, work: int = 0) -> tuple[nn.Module, ...]:
        """Networks on the device, to be used at once.

        work: bytes that their activations will take; of use to those who share the device.
        Raises InputError if the bundle lacks one.
        """
        return tuple(self.build(name).to(self.device) for name in names)

    def build(self, name: str) -> nn.Module:
        """One network, made once, wherever it lies."""
        if name == "decoder_mixed" and self._mixed is not None:
            return self._mixed
        if name not in self._built:
            self._built[name] = self._prepared(name, self._make(name))
        return self._built[name]

    def _prepared(self, name: str, network: nn.Module) -> nn.Module:
        network = network.eval().requires_grad_(False)
        if self.bf16 and name in HELD_IN_BF16:
            network = in_bf16(network)
        if name in CONVOLVING and self.device.type == "cpu":
            network = network.to(memory_format=torch.channels_last)
        return network

    def _make(self, name: str) -> nn.Module:
        if name == "image":
            return ImageDiffuser(self.bundle["unet"])  # type: ignore[arg-type]
        if name == "video":
            return MotionDiffuser(self.bundle.video_unet())
        return self.bundle[name]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inference mode and the chosen precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield


def in_bf16(network: nn.Module) -> nn.Module:
    """A copy of `network` that holds in bf16 what autocast computes with in bf16, convolutions and linear layers."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(torch.bfloat16)
    return network
