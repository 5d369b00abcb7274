"""The sample of `make demo`, made small: known motion, true degradation, and the before/after picture."""

from pathlib import Path

import before_after
import failures
import make_sample
import numpy as np
import pytest
import torch
from PIL import Image

from genve_core.errors import InputError
from genve_core.media import VideoReader, probe
from genve_core.video_codec import upsample


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    make_sample.make_sample(folder, frames=6)
    return folder


def test_the_camera_moves_smoothly_and_stays_over_the_photograph():
    views = make_sample.camera(32)
    step = np.diff(views[:, :2], axis=0)
    assert np.abs(step).max() < 8  # pixels per frame
    assert np.abs(np.diff(step, axis=0)).max() < 1
    half = np.stack([views[:, 2] * make_sample.WIDTH / 2, views[:, 2] * make_sample.HEIGHT / 2], axis=1)
    assert (views[:, :2] - half > -1).all()
    assert (views[:, :2] + half < 513).all()


def test_a_view_at_zoom_1_on_whole_pixels_is_a_crop_of_the_photograph():
    photograph = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    left, top = 7, 11
    centre = [left + (make_sample.WIDTH - 1) / 2, top + (make_sample.HEIGHT - 1) / 2, 1.0]
    view = make_sample.render(photograph, np.array([centre]))[0]
    assert np.array_equal(view, photograph[top : top + make_sample.HEIGHT, left : left + make_sample.WIDTH])


def test_the_sample_is_a_real_poor_video_of_its_truth(sample):
    info = probe(sample / "sample.mp4")
    assert (info.width, info.height, info.frames, info.codec) == (112, 80, 6, "h264")
    with VideoReader(sample / "sample.mp4") as poor, VideoReader(sample / "truth") as truth:
        for low, high in zip(poor, truth, strict=True):
            up = upsample(low.rgb[None, None], (make_sample.HEIGHT, make_sample.WIDTH))[0, 0]
            psnr = -10 * torch.log10(((up - high.rgb) / 2).square().mean())
            assert 18 < psnr < 30, f"frame {low.index}: {psnr:.1f} dB"
    assert (sample / "key_frame.png").read_bytes() == (sample / "truth" / "003.png").read_bytes()


def test_the_picture_shows_every_version_of_the_asked_frame(sample):
    picture = sample / "picture.png"
    poor, truth = str(sample / "sample.mp4"), sample / "truth"
    before_after.main([poor, "--show", f"truth={truth}", "--show", f"again={truth}", "--frame", "2", "-o", str(picture)])
    shown = np.asarray(Image.open(picture))
    assert shown.shape[1] == 3 * before_after.COLUMN
    first, second, third = np.split(shown[before_after.LABEL :], 3, axis=1)
    assert np.array_equal(second, third)
    assert not np.array_equal(first, second)
    assert np.array_equal(second[:320], np.asarray(Image.open(truth / "002.png")))  # as wide as a column: not resized
    with pytest.raises(InputError, match="has no frame 6; choose another --frame"):
        before_after.main([poor, "--show", f"truth={truth}", "--frame", "6", "-o", str(picture)])


def test_a_failure_is_shown_beside_its_input_and_truth_under_its_title():
    view = make_sample.render(np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8), make_sample.camera(4))
    shown = failures.row(failures.Failure("What to look at", view, None, 2, (0, 440)), "genve-mini")
    title, details = np.split(shown, [before_after.LABEL])
    assert title.min() < 100 < title.mean()  # text on white
    bicubic, _, truth = np.split(details, 3, axis=1)
    corner = Image.fromarray(view[2, : failures.DETAIL[0], -failures.DETAIL[1] :])  # the detail is moved into the frame
    corner = np.asarray(corner.resize(truth.shape[1::-1], Image.Resampling.LANCZOS))
    assert np.array_equal(truth[40:], corner[40:])  # below its name
    assert np.abs(bicubic[80:].astype(float) - truth[80:]).mean() > 12


def test_every_scene_shows_a_frame_that_is_not_given():
    for scene in failures.SCENES:
        failure = scene()
        assert failure.frame < len(failure.truth) and failure.frame != failure.key
        assert failure.truth.shape[1:] == (make_sample.HEIGHT, make_sample.WIDTH, 3)
