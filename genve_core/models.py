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
from .diffuser.backbone import ImageDiffuser, MotionDiffuser
from .noise_schedule import NoiseSchedule

NETWORKS = ("vae", "image", "video", "controller", "decoder", "flow", "decoder_precleaned")
# All convolution: on a CPU it takes 0.8 to 0.9 of the time with channels last (`docs/model-design/speed.md`). The
# diffusers take longer so, as their attention and group norms want the other order; GPUs have not been measured.
CONVOLVING = ("vae", "decoder", "decoder_precleaned", "decoder_mixed")
# Autocast would make their weights bf16 anew in every call. The VAE is left alone: ComfyUI's own nodes use it in float32.
HELD_IN_BF16 = ("image", "video", "controller", "decoder", "decoder_precleaned", "decoder_mixed")


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
        self.decoder = "decoder"  # what decodes: one of `NETWORKS`, or "decoder_mixed"
        self._mixed: nn.Module | None = None

    def for_preclean(self, share: float) -> Models:
        """The same networks, of which the decoder trained on precleaned frames decodes, if the bundle has one.

        share: of preclean, above 0 and at most 1. Below 1 the mean of both decoders decodes, with so much of that one, so that
        preclean has no step at 0; but of decoders that differ in shape that one alone.
        """
        models = copy.copy(self)  # what is built is shared
        if "decoder_precleaned" in self.bundle.components:
            plain, precleaned = (cast(DetailDecoder, self.bundle[name]) for name in ("decoder", "decoder_precleaned"))
            models.decoder = "decoder_precleaned"
            if share < 1 and plain.like(precleaned):
                models.decoder, models._mixed = "decoder_mixed", self._prepared("decoder_mixed", plain.mixed(precleaned, share))
        return models

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
