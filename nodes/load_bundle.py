"""Load GenVE Bundle."""

from __future__ import annotations

from comfy_api.latest import io

from ..genve_core.bundle import DEFAULT_BUNDLE
from ..genve_core.errors import InputError
from .compat import schema
from .model_folder import bundle_folder, bundles, fingerprint
from .run import explained
from .sockets import BundleSocket


class GenVELoadBundle(io.ComfyNode):
    """Weights from disk, checked; every other node takes them from here."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVELoadBundle",
            display_name="Load GenVE Bundle",
            category="GenVE",
            description="Loads a set of weights that work together: the networks of every GenVE node, and their VAE.",
            search_aliases=["genve model", "video enhance model", "video upscaler", "load weights"],
            inputs=[
                io.Combo.Input("bundle", options=list(bundles()), default=DEFAULT_BUNDLE,
                               tooltip="A bundle from models/genve, or one that ships with the pack. "
                                       "genve-mini is small enough for a CPU."),
            ],
            outputs=[
                BundleSocket.Output("loaded_bundle", display_name="bundle",
                                    tooltip="The networks. They go to the GPU when a node needs them."),
                io.Vae.Output("bundle_vae", display_name="VAE",
                              tooltip="The bundle's VAE, for VAE Encode and VAE Decode. 8 px of a frame are 1 latent."),
            ],
        )

    @classmethod
    def validate_inputs(cls, bundle: str | None = None) -> bool | str:
        # also where the host does not check combos (0.3.64)
        try:
            return bundle is None or bool(bundle_folder(bundle))
        except InputError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, bundle: str | None = None) -> str:
        return "" if bundle is None else fingerprint(bundle)

    @classmethod
    @explained
    def execute(cls, bundle: str) -> io.NodeOutput:
        from ..genve_core.bundle import load_bundle
        from .engine import HostModels
        from .vae import host_vae

        models = HostModels(load_bundle(bundle_folder(bundle)))
        return io.NodeOutput(models, host_vae(models))
