"""The controller starts as the identity, guides once trained, and can be rebuilt from its config."""

from __future__ import annotations

import json

import pytest
import torch

from genve_core.controller import LCAConfig, VideoController
from genve_core.diffuser.backbone import MotionDiffuser, build_video_unet


@pytest.fixture(scope="module")
def diffuser():
    torch.manual_seed(0)
    unet = build_video_unet(16, (8, 16, 24), 1)
    for parameter in unet.parameters():  # motion modules too: they start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    return MotionDiffuser(unet).eval()


def make(diffuser, trained=False, **lca):
    torch.manual_seed(1)
    controller = VideoController.from_unet(diffuser.unet, LCAConfig(**({"dim": 12} | lca))).eval()
    if trained:
        for layer in (*controller.zero_convs, controller.noise_embedding):
            torch.nn.init.normal_(layer.weight, std=0.3)
    return controller


def inputs(h=7, w=11, b=2, f=3):
    return torch.randn(3, b, f, 16, h, w, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("h, w", [(8, 12), (7, 11)])
@pytest.mark.parametrize("variant", ["window", "band", "plain", "none"])
def test_an_untrained_controller_leaves_the_diffusers_output_bit_identical(diffuser, h, w, variant):
    controller = make(diffuser, variant=variant)
    z_t, z_n, y_n = inputs(h, w)
    guidance = controller(z_t, 500, controller.match(z_n, y_n), 250)
    assert torch.equal(diffuser(z_t, 500, guidance), diffuser(z_t, 500))


@torch.no_grad()
def test_the_encoder_is_a_copy_and_its_skips_are_the_unets(diffuser):
    controller = make(diffuser)
    for conv in controller.zero_convs:  # identity instead of zero: the residuals are now the skip states
        torch.nn.init.dirac_(conv.weight)
    z_t, z_n, y_n = inputs()
    taken = []
    hooks = [
        block.register_forward_hook(lambda module, args, out: taken.extend(out[1]))
        for block in diffuser.unet.down_blocks
    ]
    diffuser(z_t, 500)
    for hook in hooks:
        hook.remove()
    e = controller.match(z_n, y_n)
    torch.nn.init.zeros_(controller.fit_e.weight)
    torch.nn.init.zeros_(controller.fit_e.bias)
    for mine, theirs in zip(controller(z_t, 500, e, 250)[1:], taken, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert controller.conv_in.weight.data_ptr() != diffuser.unet.conv_in.weight.data_ptr()


@torch.no_grad()
def test_e_acts_after_the_first_blocks_skips_and_on_all_later_ones(diffuser):
    controller = make(diffuser, trained=True)
    z_t, z_n, y_n = inputs()
    e = controller.match(z_n, y_n)
    changed = [
        not torch.equal(a, b)
        for a, b in zip(controller(z_t, 500, e, 250), controller(z_t, 500, e + 1, 250), strict=True)
    ]
    assert changed == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]  # conv_in, layer, down-sampler | block 2 | block 3


@torch.no_grad()
def test_a_trained_controller_follows_the_reference_the_noise_level_and_the_strength(diffuser):
    controller = make(diffuser, trained=True)
    z_t, z_n, y_n = inputs()
    e, other = controller.match(z_n, y_n), controller.match(z_n, -y_n)
    out = diffuser(z_t, 500, controller(z_t, 500, e, 250))
    assert not torch.allclose(out, diffuser(z_t, 500), atol=1e-4)
    assert not torch.allclose(out, diffuser(z_t, 500, controller(z_t, 500, other, 250)), atol=1e-4)
    assert not torch.allclose(out, diffuser(z_t, 500, controller(z_t, 500, e, 100)), atol=1e-4)
    assert torch.equal(diffuser(z_t, 500, controller(z_t, 500, e, 250, strength=0)), diffuser(z_t, 500))
    half, whole = (controller(z_t, 500, e, 250, strength=s) for s in (0.5, 1.0))
    assert all(torch.equal(2 * a, b) for a, b in zip(half, whole, strict=True))


@torch.no_grad()
def test_the_noise_level_has_no_say_before_training(diffuser):
    controller = make(diffuser)
    for conv in controller.zero_convs:
        torch.nn.init.dirac_(conv.weight)
    z_t, z_n, y_n = inputs()
    e = controller.match(z_n, y_n)
    low, high = controller(z_t, 500, e, 10), controller(z_t, 500, e, 900)
    assert all(torch.equal(a, b) for a, b in zip(low, high, strict=True))


@torch.no_grad()
def test_each_clip_has_its_own_timestep_and_noise_level(diffuser):
    controller = make(diffuser, trained=True)
    z_t, z_n, y_n = inputs()
    e = controller.match(z_n, y_n)
    together = controller(z_t, torch.tensor([100, 700]), e, torch.tensor([50, 300]))
    second = controller(z_t[1:], 700, e[1:], 300)
    for both, alone in zip(together, second, strict=True):
        torch.testing.assert_close(both[3:], alone, atol=1e-5, rtol=1e-5)


def test_every_weight_learns_once_the_zero_convolutions_have_moved(diffuser):
    controller = make(diffuser, trained=True).train()
    z_t, z_n, y_n = inputs()
    text = torch.randn(1, 2, 32)  # with one token, or zeros, cross-attention has nothing to choose
    guidance = controller(z_t, 500, controller.match(z_n, y_n), 250, text=text)
    sum(residual.square().sum() for residual in guidance).backward()
    assert [name for name, p in controller.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_checkpointing_does_not_change_the_gradients(diffuser):
    z_t, z_n, y_n = inputs()
    grads = []
    for checkpointing in (False, True):
        controller = make(diffuser, trained=True, shuffle="off").train()
        if checkpointing:
            controller.enable_gradient_checkpointing()
            assert all(block.gradient_checkpointing for block in controller.down_blocks)
        guidance = controller(z_t, 500, controller.match(z_n, y_n), 250)
        sum(residual.square().mean() for residual in guidance).backward()
        grads.append(controller.conv_in.weight.grad)
    torch.testing.assert_close(*grads)


@torch.no_grad()
def test_a_controller_is_rebuilt_from_its_config_and_state_dict(diffuser, tmp_path):
    controller = make(diffuser, trained=True, variant="band", heads=2)
    config = json.loads(json.dumps(dict(controller.config)))
    rebuilt = VideoController.from_config(config).eval()
    rebuilt.load_state_dict(controller.state_dict())
    z_t, z_n, y_n = inputs()
    before, after = (c(z_t, 500, c.match(z_n, y_n), 250) for c in (controller, rebuilt))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_equal_widths_need_no_fitting_layer(diffuser):
    assert isinstance(make(diffuser, dim=8).fit_e, torch.nn.Identity)
    assert isinstance(make(diffuser, dim=12).fit_e, torch.nn.Conv2d)


def test_what_does_not_fit_is_refused(diffuser):
    controller = make(diffuser)
    z_t, z_n, y_n = inputs()
    e = controller.match(z_n, y_n)
    wanted = r"e must be \(b, f, 12, 4, 6\) with b f = 6, got "
    for wrong in (e[:, :, :, :3], e[..., :5], e[:, :2], e[:, :, :8], e[0]):
        with pytest.raises(ValueError, match=wanted):
            controller(z_t, 500, wrong, 250)
    one_block = {"down_block_types": ["DownBlockMotion"], "up_block_types": ["UpBlockMotion"]}
    with pytest.raises(ValueError, match="unet must have two blocks or more"):
        VideoController(
            {**one_block, "block_out_channels": [8], "norm_num_groups": 8, "cross_attention_dim": 8}, {}
        )
