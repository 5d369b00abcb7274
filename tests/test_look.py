"""What a video camera makes of a scene."""

import dataclasses

import cv2
import numpy as np
import pytest

from genve_core.training.clip_store import ClipConfig, make_clips
from genve_core.training.look import LookConfig, recorded


def scene(frames: int = 3) -> np.ndarray:
    """A dim ramp with a pale square and fine grain, uint8 (f, 64, 96, 3)."""
    image = np.broadcast_to(np.linspace(20, 140, 96)[None, :, None], (64, 96, 3)).copy()
    image[20:44, 30:60] += 60
    image += np.random.default_rng(0).normal(0, 4, image.shape)
    return np.stack([image.round().clip(0, 255).astype(np.uint8)] * frames)


def look(seed: int = 1, **settings) -> np.ndarray:
    return recorded(scene(), LookConfig(**settings), np.random.default_rng(seed))


def fine(frames: np.ndarray) -> float:
    """Energy finer than about a pixel, away from the border."""
    image = frames[0].astype(np.float32)
    return float(np.square(image - cv2.GaussianBlur(image, (0, 0), 0.8))[4:-4, 4:-4].mean())


def test_switched_off_it_changes_nothing_and_draws_nothing():
    rng = np.random.default_rng(7)
    assert np.array_equal(recorded(scene(), LookConfig(), rng), scene())
    assert rng.random() == np.random.default_rng(7).random()


def test_lights_run_into_white_as_far_as_was_asked():
    frames = look(exposed=1.0, white=(0.8, 0.8), black=(0.1, 0.1))
    grey = frames[1].mean(-1)
    assert np.mean(grey >= 250) == pytest.approx(0.2, abs=0.05)
    assert np.mean(grey <= 5) == pytest.approx(0.1, abs=0.05)
    assert np.mean(scene()[1].mean(-1) >= 250) == 0


def test_a_flat_scene_is_not_torn_apart():
    flat = np.full((2, 32, 32, 3), 100, np.uint8)
    flat[:, ::2] = 103
    out = recorded(flat, LookConfig(exposed=1.0), np.random.default_rng(0)).astype(int)
    assert np.ptp(out) <= 4 * np.ptp(flat.astype(int)) + 1


def test_a_filter_takes_fine_detail_and_sharpening_brings_more():
    plain = fine(scene())
    assert fine(look(softened=1.0, blur=(0.6, 0.8))) < 0.6 * plain
    assert fine(look(sharpened=1.0)) > 1.2 * plain


def test_a_codec_takes_grain_but_leaves_the_picture():
    frames = look(encoded=1.0, crf=(24, 24))
    assert fine(frames) < 0.7 * fine(scene())
    assert np.abs(frames.astype(int) - scene()).mean() < 6


@pytest.mark.parametrize("part", ["exposed", "softened", "sharpened", "encoded"])
def test_the_generator_alone_decides(part):
    first, again, other = (look(seed, **{part: 1.0}) for seed in (3, 3, 4))
    assert first.dtype == np.uint8 and first.shape == scene().shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_clips_of_photographs_are_made_with_it(tmp_path):
    from safetensors.torch import load_file

    cv2.imwrite(str(tmp_path / "photograph.png"), cv2.resize(scene()[0], (288, 192)))
    config = ClipConfig(clips=1, size=64, reach=9, real_share=0.0)
    white = {}
    for name, exposed in (("plain", 0.0), ("exposed", 1.0)):
        asked = dataclasses.replace(config, look=LookConfig(exposed=exposed, white=(0.7, 0.7)))
        make_clips(tmp_path, tmp_path / name, asked, workers=1)
        record = load_file(next((tmp_path / name).glob("*.safetensors")))
        white[name] = (record["hq"].float().mean(1) > 250).float().mean().item()
    assert white["plain"] == 0
    assert white["exposed"] > 0.1
