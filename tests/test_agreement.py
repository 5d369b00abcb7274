"""Whether a user's picture shows the key frame, and what is done where it does not."""

import pytest
import torch
import torch.nn.functional as F
from media_clips import smooth_video
from skimage.data import astronaut, chelsea

from genve_core.reference.agreement import AGREES, ALIKE, UNRELATED, agreement, onto_key_frame
from genve_core.reference.user_image import FittedReference, fit_reference

H, W = 224, 224


def photograph(pixels):
    whole = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    return F.interpolate(whole.unsqueeze(0), size=(2 * H, 2 * W), mode="area")[0]


SCENE = photograph(astronaut())
SHARP = SCENE[:, 64 : 64 + H, 64 : 64 + W]


def poor(picture, seed=0):
    """A quarter of the detail, and noise."""
    small = F.interpolate(picture.unsqueeze(0), size=(H // 4, W // 4), mode="area")
    small = small + 0.04 * torch.randn(small.shape, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, size=(H, W), mode="bicubic")[0].clamp(-1, 1)


def closeness(a, b, where):
    """PSNR in dB of what is valid."""
    weight = where.expand_as(a)
    return float(-10 * torch.log10(((a - b).square() * weight).sum() / weight.sum() / 4))


def test_the_true_frame_is_taken_as_it_is_also_repainted_in_a_place_or_in_other_light():
    frame = poor(SHARP)
    repainted = SHARP.clone()
    repainted[:, 150:190, 60:130] = 0.9
    for picture in (SHARP, repainted, 0.7 * SHARP + 0.2):
        fitted = fit_reference(picture, (H, W))
        assert onto_key_frame(fitted, frame) is fitted


@pytest.mark.parametrize(("dy", "dx"), [(10, 6), (0, -14), (-16, 16)])
def test_a_shifted_picture_is_moved_onto_the_key_frame(dy, dx):
    fitted = fit_reference(SCENE[:, 64 + dy : 64 + dy + H, 64 + dx : 64 + dx + W], (H, W))
    moved = onto_key_frame(fitted, poor(SHARP))
    assert moved.valid.mean() > 0.75 and "moved onto it" in moved.notes[0]
    assert closeness(moved.image, SHARP, moved.valid) > closeness(fitted.image, SHARP, moved.valid) + 6
    missing = slice(0, max(dy - 4, 0)) if dy >= 0 else slice(H + dy + 4, H)  # rows that the picture does not show
    assert not moved.valid[:, missing].any()


def test_an_unrelated_picture_is_hardly_used_and_the_user_is_told():
    found = onto_key_frame(fit_reference(photograph(chelsea()), (H, W)), poor(SHARP))
    assert found.valid.mean() < 0.15
    assert "shows something else than the key frame" in found.notes[-1]


def test_what_is_transparent_says_nothing():
    half = torch.ones(1, H, W)
    half[..., : W // 2] = 0
    fitted = FittedReference(torch.where(half > 0, SHARP, torch.zeros(())), half)
    assert onto_key_frame(fitted, poor(SHARP)) is fitted


@pytest.mark.parametrize("size", [(8, 8), (9, 300), (64, 48), (700, 500)])
def test_agreement_is_one_with_itself_and_low_with_noise_at_any_size(size):
    a, b = (smooth_video(1, *size, seed=seed)[0] for seed in (0, 1))
    itself, other = agreement(a, a), agreement(a, b)
    assert (itself - 1).abs().max() < 1e-3 and itself.shape == other.shape
    assert min(size) < 48 or other.mean() < UNRELATED < AGREES < ALIKE
