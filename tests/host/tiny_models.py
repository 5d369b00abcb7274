"""ComfyUI's own model classes at a tiny size with random weights: one per family of checkpoints. Import inside of tests."""

from __future__ import annotations

from pathlib import Path

import torch

CPU = torch.device("cpu")
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 16, "use_spatial_transformer": True, "legacy": False,
    "use_checkpoint": False, "use_linear_in_transformer": True, "adm_in_channels": None, "dtype": torch.float32,
}
SDXL = {**UNET, "adm_in_channels": 2816, "num_classes": "sequential"}  # 1280 of the pooled text, 6 x 256 of sizes
SD3 = {
    "input_size": None, "in_channels": 16, "patch_size": 2, "depth": 1, "adm_in_channels": 8, "pos_embed_max_size": 16,
    "num_patches": 256, "pos_embed_scaling_factor": None, "dtype": torch.float32,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 64}},
}
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 8, "context_in_dim": 16, "hidden_size": 32,
    "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "dtype": torch.float32,
}
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 24, "ffn_dim": 32, "freq_dim": 16, "text_dim": 16, "num_heads": 2,
    "num_layers": 1, "in_dim": 16, "out_dim": 16, "dtype": torch.float32,
}

# family -> (class of comfy.supported_models, its unet config, what a checkpoint of the kind holds, latent, pooled size)
FAMILIES = {
    "SD 1.5, eps": ("SD15", UNET, {}, (2, 4, 8, 10), None),
    "SDXL, eps": ("SDXL", SDXL, {}, (1, 4, 8, 10), 1280),
    "SDXL, v": ("SDXL", SDXL, {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, (1, 4, 8, 10), 1280),
    "SDXL, v in EDM's time": ("SDXL", SDXL, {"edm_vpred.sigma_max": torch.tensor(120.0)}, (1, 4, 8, 10), 1280),
    "Playground, EDM": ("SDXL", SDXL, {"edm_mean": torch.zeros(1), "edm_std": torch.ones(1)}, (1, 4, 8, 10), 1280),
    "SD3, flow": ("SD3", SD3, {}, (2, 16, 8, 10), 8),
    "Flux, flow": ("Flux", FLUX, {}, (1, 16, 8, 10), 8),
    "Wan video, flow": ("WAN21_T2V", WAN, {}, (1, 16, 3, 8, 10), None),
}


def tiny_model(family: str, model_type: str | None = None):
    """(ModelPatcher, conditioning) of a family. model_type: another of comfy's ModelType for the same network."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    name, unet, checkpoint, _, pooled = FAMILIES[family]
    config = getattr(comfy.supported_models, name)(unet)
    if model_type is None:
        model = config.get_model(dict(checkpoint), device=CPU)
    else:
        model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType[model_type], device=CPU)
    generator = torch.Generator().manual_seed(0)
    for weight in (*model.parameters(), *(b for n, b in model.diffusion_model.named_buffers() if n == "pos_embed")):
        weight.data.normal_(std=0.08, generator=generator)  # what starts at zero too: else the output is zero
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)
    text = torch.randn(1, 5, 16, generator=generator)
    extra = {} if pooled is None else {"pooled_output": torch.randn(1, pooled, generator=generator)}
    return patcher, [[text, extra]]


def latent_of(family: str) -> torch.Tensor:
    """What VAE Encode gives for a picture (or clip), about as large as real ones: unit variance in the model's space."""
    import comfy.supported_models

    name, _, _, shape, _ = FAMILIES[family]
    z = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return getattr(comfy.supported_models, name).latent_format().process_out(z)


CHECKPOINT = {  # what the host still takes for an SD 1.5 checkpoint: its width and text size, but one block
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [1], "channel_mult": [1],
    "transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": 1, "context_dim": 768,
    "use_spatial_transformer": True, "legacy": False, "use_checkpoint": False, "use_linear_in_transformer": False,
    "adm_in_channels": None, "use_temporal_attention": False, "dtype": torch.float16,
}


def write_checkpoint(path: Path) -> None:
    """A checkpoint file with UNet, text encoder and VAE, random weights, 300 MB: the text encoder has one size only."""
    import comfy.sd1_clip
    import comfy.supported_models
    import comfy.taesd.taesd
    from safetensors.torch import save_file

    parts = {
        "model.diffusion_model.": comfy.supported_models.SD15(dict(CHECKPOINT)).get_model({}, device=CPU).diffusion_model,
        "cond_stage_model.": comfy.sd1_clip.SD1ClipModel(dtype=torch.float16, device="cpu").clip_l,
        "first_stage_model.": comfy.taesd.taesd.TAESD(latent_channels=4),
    }
    generator, weights = torch.Generator().manual_seed(0), {}
    for prefix, network in parts.items():
        for name, weight in network.state_dict().items():
            if weight.is_floating_point():
                weight = torch.empty(weight.shape).normal_(std=0.02, generator=generator).half()
            weights[prefix + name] = weight.contiguous()
    save_file(weights, path)
