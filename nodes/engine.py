"""A bundle's networks under ComfyUI's memory management. Imported when a bundle is loaded, not before."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
import torch.nn as nn
from comfy.model_patcher import ModelPatcher

from ..genve_core.bundle import Bundle
from ..genve_core.models import Models


class Held(nn.Module):
    """A network as ModelPatcher wants it: it writes to `device`, which diffusers' modules do not allow."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network


class WholePatcher(ModelPatcher):
    """Loads and unloads whole networks: a half-loaded one works only if built of the host's own layers, ours is not.

    Without it, --novram and the host's freeing of memory piece by piece leave weights on two devices.
    """

    def load(self, *args: Any, **options: Any) -> Any:
        return super().load(*args, **{**options, "full_load": True})

    def partially_unload(self, *args: Any, **options: Any) -> int:
        return 0  # nothing was freed: then the host unloads all of it


class HostModels(Models):
    """`Models` whose networks the host loads, and takes away again when others need the memory.

    Every network lies in a ModelPatcher of its own, so that a stage holds only what it uses. The value of the
    GENVE_BUNDLE socket: the host's cache keeps it alive, with the loader node's output and those of the nodes that pass it on.
    """

    def __init__(self, bundle: Bundle, precision: str = "auto"):
        if getattr(management, "FORCE_FP32", False):
            precision = "float32"  # the host was started with --force-fp32
        super().__init__(bundle, management.get_torch_device(), precision)
        self._patchers: dict[str, WholePatcher] = {}

    def ready(self, *names: str, work: int = 0) -> tuple[nn.Module, ...]:
        """Networks on the device, all loaded by one call, so that none of them drives out another."""
        patchers = [self.patcher(name) for name in names]
        management.load_models_gpu(patchers, memory_required=work, force_full_load=True)
        return tuple(patcher.model.network for patcher in patchers)

    def patcher(self, name: str) -> WholePatcher:
        """The ModelPatcher around one network, made when first asked for; anew for another mixture of decoders."""
        network = self.build(name)
        if name not in self._patchers or self._patchers[name].model.network is not network:
            held = Held(network).eval()
            self._patchers[name] = WholePatcher(held, self.device, management.unet_offload_device())
        return self._patchers[name]
