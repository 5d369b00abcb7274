import numpy as np
import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.dehalo import Dehaloed, without_rims
from genve_core.pipeline import EnhanceConfig, Enhancer, enhance
from genve_core.segments import InMemory
from genve_core.training.kernels import gaussian_blur, sharpen

DARK, LIGHT = 60, 190


def grey(rows):
    """(h, w) grey levels -> (1, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.asarray(rows, np.float32))[None, None].expand(1, 3, -1, -1) / 127.5 - 1


def step(h=64, w=64):
    """A board before a wall, its edge slanting and soft as in a video."""
    x, y = torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy")
    hard = torch.where(2 * x + y > w + h / 2, LIGHT, DARK).float()
    return gaussian_blur(grey(hard.numpy()), 0.8)


def levels(frames):
    return (frames + 1) * 127.5


def test_the_rims_of_a_sharpened_edge_go_and_the_edge_stays():
    soft = step()
    sharpened = sharpen(soft, 0.8, 1.5)
    assert levels(sharpened).max() > LIGHT + 10 and levels(sharpened).min() < DARK - 10
    clean = without_rims(sharpened, 1.0)
    assert levels(clean)[..., 8:-8, 8:-8].max() < LIGHT + 2 and levels(clean)[..., 8:-8, 8:-8].min() > DARK - 2
    # as steep as before
    assert clean[..., 8:-8, 8:-8].diff().max() >= soft[..., 8:-8, 8:-8].diff().max()
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert (clean - soft)[inside].square().mean() < 0.5 * (sharpened - soft)[inside].square().mean()


def test_half_takes_half():
    sharpened = sharpen(step(), 0.8, 1.5)
    whole, half = (sharpened - without_rims(sharpened, share) for share in (1.0, 0.5))
    torch.testing.assert_close(half, whole / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("what", ["edge", "line", "window", "texture", "flat"])
def test_what_is_no_rim_stays(what):
    """An edge without rims, a thin light line, small light things, texture and an even wall with little noise."""
    frame = levels(step())[0, 0].numpy().copy()
    generator = np.random.default_rng(0)
    if what == "line":
        frame = np.full((64, 64), DARK, np.float32)
        frame[:, 30:33] = LIGHT
    elif what == "window":
        frame = np.full((64, 64), DARK, np.float32)
        for i in range(10, 50, 10):
            frame[i : i + 4, 20:26] = LIGHT
    elif what == "texture":
        frame = generator.uniform(0, 255, (64, 64)).astype(np.float32)
    elif what == "flat":
        frame = np.full((64, 64), LIGHT, np.float32) + generator.normal(0, 3, (64, 64)).astype(np.float32)
    change = levels(without_rims(grey(frame), 1.0)) - levels(grey(frame))
    assert change.abs().mean() < 0.1


def test_colours_stay():
    sharpened = sharpen(step(), 0.8, 1.5) * torch.tensor([0.9, 0.6, 0.3]).view(3, 1, 1)
    change = (without_rims(sharpened, 1.0) - sharpened)[0]
    assert change.abs().max() > 0.05
    torch.testing.assert_close(change[0], change[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(change[0], change[2], atol=1e-5, rtol=0)


def test_frames_can_be_read_in_any_way():
    frames = sharpen(torch.cat([step(), step().flip(-1), step().flip(-2)]), 0.8, 1.5)
    wanted, shot = without_rims(frames, 0.7), Dehaloed(InMemory(frames), 0.7)
    assert len(shot) == 3
    assert torch.equal(shot.read(range(1, 3)), wanted[1:])
    assert torch.equal(shot.read_one(2), wanted[2])
    assert torch.equal(shot.read_near(0, 1), wanted[:2])


@pytest.mark.parametrize("preclean", [0.0, 1.0])
def test_it_comes_after_the_first_pass(tiny_bundle, preclean):
    frames = sharpen(step(24, 32).repeat(6, 1, 1, 1), 1.0, 1.5)
    bundle = load_bundle(tiny_bundle)
    settings = {"scale": 2.0, "key_frame": 3, "precision": "float32", "preclean": preclean}
    enhancer = Enhancer(bundle, EnhanceConfig(**settings, dehalo=0.8), "cpu")
    seen = enhancer.prepared(InMemory(frames)).read(range(6))
    before = Enhancer(bundle, EnhanceConfig(**settings), "cpu").prepared(InMemory(frames)).read(range(6))
    assert torch.equal(seen, without_rims(before, 0.8)) and not torch.equal(seen, before)
    if not preclean:
        assert torch.equal(enhance(frames, bundle=bundle, device="cpu", dehalo=0.8, **settings),
                           enhance(without_rims(frames, 0.8), bundle=bundle, device="cpu", **settings))


def test_it_says_how_far_it_is(tiny_bundle):
    frames, told = step(24, 32).repeat(3, 1, 1, 1), []
    enhance(frames, bundle=load_bundle(tiny_bundle), device="cpu", scale=1.0, dehalo=1.0,
            on_progress=lambda *said: told.append(said))
    assert [said for said in told if said[0] == "dehalo"] == [("dehalo", i, 3) for i in (1, 2, 3)]


def test_nothing_taken_away_are_the_frames_themselves():
    frames = sharpen(step(), 0.8, 1.5)
    assert without_rims(frames, 0.0) is frames
