"""Latents are told from those of another clip or VAE; what a person may do to them is let through."""

import pytest
import torch
from media_clips import smooth_video

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.likeness import ENOUGH, likeness
from genve_core.models import Models
from genve_core.steps import encode_clip
from genve_core.vae import MiniVAE


@pytest.fixture(scope="module")
def models():
    return Models(load_bundle("genve-mini", only=("vae",)), "cpu")


def clip_of(seed, h=150, w=170):
    return Clip(smooth_video(2, h, w, seed=seed), (h, w))


@pytest.mark.parametrize("h, w", [(150, 170), (24, 40), (8, 8), (64, 300)])
def test_a_clips_own_latents_are_like_it(models, h, w):
    clip = clip_of(0, h, w)
    Z = encode_clip(models, clip)
    assert likeness(models, clip, Z, 0) > 0.9
    noised = Z + 0.7 * Z.std() * torch.randn_like(Z)
    assert likeness(models, clip, noised, 1) > ENOUGH and likeness(models, clip, 0.5 * Z, 1) > ENOUGH


def test_latents_of_another_clip_or_vae_are_not(models):
    clip, Z = clip_of(0), encode_clip(models, clip_of(0))
    assert likeness(models, clip, encode_clip(models, clip_of(1)), 0) < ENOUGH
    with torch.no_grad():
        other = MiniVAE(latent_channels=16).encode(clip.up(slice(0, 2), torch.device("cpu")))
    for foreign in (other[None], torch.randn_like(Z), 2 * torch.randn_like(Z)):
        assert likeness(models, clip, foreign, 0) < ENOUGH
    assert likeness(models, clip, torch.zeros_like(Z), 0) == 0
