"""Semantic Alignment (any model), Semantic Alignment Sampler: Eq. 3 of the paper for native ComfyUI checkpoints."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..genve_core.errors import InputError
from .compat import advanced, schema
from .run import explained
from .sockets import wrong

NOISES = {"same noise": "same", "literal": "literal"}  # on the widget -> in genve_core


class GenVESemanticAlignment(io.ComfyNode):
    """A MODEL that refines the latent it samples without losing what it shows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVESemanticAlignment",
            display_name="Semantic Alignment (any model)",
            category="GenVE",
            description="Makes any checkpoint add detail to a key frame and keep its content: after every step, "
                        "the state is pulled towards the noised original. Use with KSampler on the encoded key frame.",
            search_aliases=["genve", "reference", "key frame", "refine", "image to image", "eq 3", "keep content"],
            inputs=[
                io.Model.Input("model", tooltip="Any checkpoint: SD 1.5, SDXL, SD3, Flux, Wan and others."),
                *_settings(),
            ],
            outputs=[
                io.Model.Output("aligned_model", display_name="MODEL",
                                tooltip="The model with Semantic Alignment, for KSampler and the custom samplers."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, model, gamma_max: float, noise: str, seed: int, original: dict | None = None) -> io.NodeOutput:
        from comfy.model_patcher import ModelPatcher

        from .sampler_blend import patch_model

        alignment = _alignment(gamma_max, noise, seed, original)
        if not isinstance(model, ModelPatcher):
            raise wrong("model", model, "a MODEL", "a node that loads a checkpoint")
        return io.NodeOutput(patch_model(model, alignment))


class GenVESemanticAlignmentSampler(io.ComfyNode):
    """The same for one SAMPLER, where the MODEL is not to be touched."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVESemanticAlignmentSampler",
            display_name="Semantic Alignment Sampler",
            category="GenVE",
            description="A sampler that adds detail to a key frame and keeps its content, for the nodes of custom "
                        "sampling. The same as Semantic Alignment (any model), which works with KSampler too.",
            search_aliases=["genve", "reference", "key frame", "refine", "custom sampling", "eq 3", "keep content"],
            inputs=[
                io.Sampler.Input("sampler", tooltip="Any sampler but uni_pc, dpm_fast, dpm_adaptive and sa_solver "
                                                    "with their variants."),
                *_settings(),
            ],
            outputs=[
                io.Sampler.Output("aligned_sampler", display_name="SAMPLER",
                                  tooltip="The sampler with Semantic Alignment, for SamplerCustom and its relatives."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, sampler, gamma_max: float, noise: str, seed: int, original: dict | None = None) -> io.NodeOutput:
        from comfy.samplers import Sampler

        from .sampler_blend import align_sampler

        if not isinstance(sampler, Sampler):
            raise wrong("sampler", sampler, "a SAMPLER", "KSamplerSelect")
        return io.NodeOutput(align_sampler(sampler, _alignment(gamma_max, noise, seed, original)))


def _settings() -> list[Any]:
    """The inputs that both nodes have, in the order in which workflows save them."""
    return [
        io.Float.Input("gamma_max", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                       display_mode=io.NumberDisplay.slider,
                       tooltip="Share of the original in the state at full noise, 0 to 1; it falls to 0 along a cosine "
                               "while the noise goes. 0.5 is the paper's. 0 switches the node off; more keeps more."),
        advanced(io.Combo.Input("noise", options=list(NOISES), default="same noise",
                                tooltip="The noise on the original. same noise: the state's own, so that the noise keeps "
                                        "its strength. literal: new in every step, as the equation reads; smoother.")),
        # the front end gives every "seed" a control_after_generate, which would run KSampler anew at every queue
        advanced(io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=False,
                              tooltip="Number that fixes the literal noise. Not used by same noise.")),
        io.Latent.Input("original", optional=True,
                        tooltip="Latent of the key frame, of the size that is sampled. Needed only where the sampler's "
                                "own latent is not the key frame: with add_noise off, or from an empty latent."),
    ]


def _alignment(gamma_max: float, noise: str, seed: int, original: dict | None) -> Any:
    from .sampler_blend import Alignment

    if noise not in NOISES:  # hosts before combos were checked
        raise InputError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
    if original is not None and not (isinstance(original, dict) and "samples" in original):
        raise wrong("original", original, "a LATENT", "VAE Encode")
    samples = None if original is None else original["samples"]
    return Alignment(gamma_max, NOISES[noise], seed, samples)
