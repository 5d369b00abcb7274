"""The two diffusers behind their call form: what they take, what they refuse, where they start equal."""

from __future__ import annotations

import pytest
import torch

from genve_core.diffuser.backbone import (
    ImageDiffuser,
    MotionDiffuser,
    build_image_unet,
    build_video_unet,
    from_image_unet,
    skip_channels,
)


@pytest.fixture(scope="module")
def image_unet():
    torch.manual_seed(0)
    return build_image_unet(16, (8, 16, 24), 1, text_dim=6).eval()


@pytest.fixture(scope="module")
def video(image_unet):
    return MotionDiffuser(from_image_unet(image_unet, max_frames=7)).eval()


def noisy(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("h, w", [(8, 12), (7, 11)])
def test_the_motion_model_starts_equal_to_the_image_model_frame_by_frame(image_unet, video, h, w):
    z_t = noisy(2, 3, 16, h, w)
    torch.testing.assert_close(video(z_t, 500), ImageDiffuser(image_unet)(z_t, 500), atol=1e-5, rtol=0)


@torch.no_grad()
def test_frames_meet_once_a_motion_module_is_not_zero(image_unet):
    video = MotionDiffuser(from_image_unet(image_unet)).eval()
    z_t = noisy(1, 3, 16, 8, 8)
    before = video(z_t, 500)[:, 0]
    other = z_t.clone()
    other[:, 2] += 1
    assert torch.equal(video(other, 500)[:, 0], before)
    torch.nn.init.normal_(video.unet.down_blocks[0].motion_modules[0].proj_out.weight)
    assert not torch.allclose(video(other, 500)[:, 0], video(z_t, 500)[:, 0])


@torch.no_grad()
def test_each_clip_is_denoised_at_its_own_timestep(image_unet, video):
    z_t, t = noisy(2, 3, 16, 8, 8), torch.tensor([100, 900])
    for diffuser in (video, ImageDiffuser(image_unet).eval()):
        together = diffuser(z_t, t)
        apart = torch.cat([diffuser(z_t[:1], 100), diffuser(z_t[1:], 900)])
        torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
        assert not torch.allclose(together, diffuser(z_t, 100), atol=1e-3)


@torch.no_grad()
def test_images_and_folded_frames_give_the_same(image_unet):
    diffuser, z_t = ImageDiffuser(image_unet).eval(), noisy(2, 3, 16, 5, 7)
    torch.testing.assert_close(diffuser(z_t, 9)[1, 2], diffuser(z_t[1, 2:], 9)[0], atol=1e-5, rtol=0)


def test_a_small_unet_attends_at_its_lowest_resolution_only():
    unet = build_video_unet(16, (8, 16, 24), 2)
    assert [hasattr(block, "attentions") for block in unet.down_blocks] == [False, False, True]
    assert [hasattr(block, "attentions") for block in unet.up_blocks] == [True, False, False]
    assert (unet.config["in_channels"], unet.config["out_channels"]) == (16, 16)
    assert unet.config["motion_max_seq_length"] == 32


def test_skips_are_conv_in_then_each_layer_and_down_sampler():
    assert skip_channels(build_video_unet(16, (8, 16, 24), 2)) == [8, 8, 8, 8, 16, 16, 16, 24, 24]


@torch.no_grad()
def test_guidance_moves_the_output_and_must_be_one_residual_per_skip(video):
    z_t = noisy(1, 2, 16, 8, 8)
    sizes = [8, 8, 4, 4, 2, 2]
    channels = skip_channels(video.unet)
    guidance = [torch.zeros(2, c, s, s) for c, s in zip(channels, sizes, strict=True)]
    plain = video(z_t, 500)
    assert torch.equal(video(z_t, 500, guidance), plain)
    for i, residual in enumerate(guidance):
        moved = [*guidance[:i], noisy(*residual.shape), *guidance[i + 1 :]]
        assert not torch.allclose(video(z_t, 500, moved), plain, atol=1e-4), f"residual {i} is not used"
    for wrong in (guidance[:-1], [*guidance, guidance[-1]]):
        with pytest.raises(
            ValueError, match=f"guidance must hold 6 residuals, one per skip, got {len(wrong)}"
        ):
            video(z_t, 500, wrong)
    with pytest.raises(ValueError, match=r"guidance\[0\] must hold b f = 2 frames, got 1"):
        video(z_t, 500, [guidance[0][:1], *guidance[1:]])


@torch.no_grad()
def test_a_constant_text_embedding_is_used_and_not_stored(image_unet):
    z_t, text = noisy(1, 2, 16, 8, 8), noisy(1, 4, 6)
    for kind, unet in ((ImageDiffuser, image_unet), (MotionDiffuser, from_image_unet(image_unet))):
        plain, spoken = kind(unet).eval(), kind(unet, text).eval()
        assert not torch.allclose(plain(z_t, 500), spoken(z_t, 500))
        assert "text" not in plain.state_dict()
        with pytest.raises(ValueError, match=r"text must be \(1, tokens, 6\), got \(1, 4, 5\)"):
            kind(unet, text[..., :5])


def test_what_the_network_cannot_take_is_refused(image_unet, video):
    with pytest.raises(ValueError, match=r"z_t must be \(b, f, 16, h, w\), got \(1, 2, 4, 8, 8\)"):
        video(noisy(1, 2, 4, 8, 8), 500)
    with pytest.raises(ValueError, match="z_t has 8 frames, but the motion modules know 7"):
        video(noisy(1, 8, 16, 8, 8), 500)
    with pytest.raises(ValueError, match=r"z_t must be \(b, \[f,\] 16, h, w\), got \(1, 4, 8, 8\)"):
        ImageDiffuser(image_unet)(noisy(1, 4, 8, 8), 500)
    with pytest.raises(ValueError, match=r"channels must be two or more .* not \(8, 12\)"):
        build_image_unet(16, (8, 12), 1)
    with pytest.raises(ValueError, match=r"channels must be two or more .* not \(8,\)"):
        build_image_unet(16, (8,), 1)
