import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from genve_core import cli_evaluate
from genve_core.errors import InputError
from genve_core.evaluation import protocol
from genve_core.evaluation.protocol import (
    DEGRADATIONS,
    Clip,
    Sample,
    find_clips,
    h264_round_trip,
    load_sample,
    read_frames,
    shrink_and_crop,
)
from genve_core.evaluation.report import write_frames

real4x, clean4x = DEGRADATIONS["real4x"], DEGRADATIONS["clean4x"]


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(1).normal(128, 300, (3, 64, 96))
    grey = np.stack([np.clip(cv2.GaussianBlur(f, (0, 0), 4), 0, 255).astype(np.uint8) for f in noise])
    return grey[..., None].repeat(3, -1)  # grey: the codec halves the resolution of colour


def test_version_1_is_what_the_document_says():
    table = {Path(c.path).name: (c.shrink, c.start, c.frames) for c in protocol.CLIPS}
    assert protocol.PROTOCOL_VERSION == "v1"
    assert table == {
        "sam2_dog_720p.mp4": (1.5, 60, 48),
        "openh264_flower_720p.264": (1.5, 60, 48),
        "androidx_city_roof_1024x768.mp4": (1.5, 10, 48),
        "gopro_karma_drone_coast_480p.mp4": (1, 100, 48),
        "androidx_face_indoor_1080x720.mp4": (1.5, 5, 25),
        "raft_sintel_alley_1024x436_png": (1, 0, 10),
    }
    assert (protocol.BLUR_SIGMA[4], protocol.NOISE_SIGMA) == (1.6, 6)
    assert (protocol.CRF, protocol.PRESET, protocol.FPS) == (28, "medium", 25)
    assert len(protocol.POOR_CLIPS) == 4 and not any(c.has_truth for c in protocol.POOR_CLIPS)


@pytest.mark.parametrize(
    "size, shrink, expected",
    [
        ((720, 1280), 1.5, (448, 704)),
        ((768, 1024), 1.5, (448, 672)),  # 682.67 px wide
        ((436, 1024), 1, (416, 704)),
        ((480, 854), 1, (448, 704)),
        ((33, 65), 1, (32, 64)),
        ((97, 143), 1.5, (64, 64)),  # 64.67 and 95.3 px
    ],
)
def test_crop_is_at_most_704x448_in_multiples_of_32(size, shrink, expected):
    assert shrink_and_crop(np.zeros((1, *size, 3), np.uint8), shrink).shape == (1, *expected, 3)


def test_crop_is_taken_from_the_centre():
    frame = np.zeros((1, 39, 71, 3), np.uint8)
    frame[0, 3:35, 3:67] = 9  # (39 - 32) // 2 = 3 above, (71 - 64) // 2 = 3 on the left
    cropped = shrink_and_crop(frame, 1)
    assert cropped.shape == (1, 32, 64, 3) and (cropped == 9).all()


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_a_side_below_32_pixels_is_refused(size):
    with pytest.raises(InputError, match=f"a clip of {size[1]}x{size[0]} px is too small"):
        shrink_and_crop(np.zeros((1, *size, 3), np.uint8), 1)


def test_area_resize_averages_what_it_covers():
    frame = np.zeros((1, 64, 128, 3), np.uint8)
    frame[:, :, 1::2] = 200
    assert (shrink_and_crop(frame, 2) == 100).all()


def test_every_degradation_can_be_chosen_and_says_by_how_much_it_reduces(texture):
    assert tuple(protocol.DEGRADATIONS) == cli_evaluate.DEGRADATIONS
    for name, degradation in protocol.DEGRADATIONS.items():
        low = degradation(texture)
        scale = Sample(TINY, name, low, texture).scale
        assert (scale * low.shape[1], scale * low.shape[2]) == texture.shape[1:3]
    assert Sample(TINY, "none", texture, None).scale == 4


def test_real4x_is_small_noisy_and_the_same_each_time(texture):
    low = real4x(texture)
    assert low.shape == (3, 16, 24, 3) and low.dtype == np.uint8
    rng = np.random.default_rng(7)
    junk = [rng.bytes(int(n)) for n in rng.integers(1, 100_000, 50)]  # other memory must not give other bytes
    assert (real4x(texture) == low).all() and junk
    area = texture.reshape(3, 16, 4, 24, 4, 3).mean((2, 4))
    assert 1 < np.sqrt(np.square(low - area).mean()) < 25


def test_real4x_depends_on_blur_noise_and_codec():
    grey = np.full((2, 64, 96, 3), 128, np.uint8)
    low = real4x(grey)
    assert abs(low.mean() - 128) < 2  # nothing shifts the colours
    assert 0 < low.std() < 7  # noise of sigma 6, of which the codec drops the most


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process to some of its cores")
def test_the_codec_gives_the_same_bytes_on_any_number_of_cores():
    wide = cv2.GaussianBlur(np.random.default_rng(0).normal(128, 400, (128, 256, 3)), (0, 0), 2).clip(0, 255).astype(np.uint8)
    pan = np.stack([wide[:, 8 * i : 8 * i + 192] for i in range(8)])
    cores = os.sched_getaffinity(0)
    on_all = h264_round_trip(pan)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert (h264_round_trip(pan) == on_all).all()
    finally:
        os.sched_setaffinity(0, cores)


def test_clean4x_keeps_flat_colour_and_a_slope(texture):
    flat = np.empty((1, 36, 44, 3), np.uint8)
    flat[:] = (10, 120, 250)
    assert (clean4x(flat) == (10, 120, 250)).all()
    slope = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, None, :, None] * 2, (1, 64, 96, 3)).copy()
    expected = 2 * (np.arange(24) * 4 + 1.5)  # the centre of four pixels
    assert np.abs(clean4x(slope)[0, 5, 3:-3, 0] - expected[3:-3]).max() <= 1
    assert clean4x(texture).shape == (3, 16, 24, 3)


@pytest.fixture
def data(tmp_path, texture):
    write_frames(tmp_path / "data" / "validation" / "tiny", texture)
    return tmp_path / "data"


TINY = Clip("tiny", "validation/tiny", frames=2)


def test_a_folder_of_frames_is_a_clip_and_its_truth_is_lossless(data, texture):
    sample = load_sample(TINY, "real4x", data)
    assert (sample.truth == texture[:2]).all()
    assert sample.low.shape == (2, 16, 24, 3)
    assert sample.key_frame == 1
    assert len(load_sample(TINY, "clean4x", data, frames=1).low) == 1


def test_a_clip_without_truth_is_given_as_it_is(data, texture):
    sample = load_sample(Clip("tiny", "validation/tiny", has_truth=False), "real4x", data)
    assert sample.truth is None and sample.degradation == "none"
    assert (sample.low == texture).all()


def test_the_cache_returns_what_was_made_and_notices_another_source(data, tmp_path, texture):
    cache = tmp_path / "cache"
    made, kept = (load_sample(TINY, "real4x", data, cache=cache) for _ in range(2))
    assert (made.low == kept.low).all() and (made.truth == kept.truth).all()
    assert len(list(cache.iterdir())) == 1
    load_sample(TINY, "clean4x", data, cache=cache)
    load_sample(Clip("tiny", "validation/tiny", frames=1), "real4x", data, cache=cache)
    assert len(list(cache.iterdir())) == 3


def test_what_is_missing_is_named(data, tmp_path):
    with pytest.raises(InputError, match=r"holds no validation/hq/sam2_dog_720p.mp4; give the folder"):
        load_sample(protocol.CLIPS[0], "real4x", data)
    with pytest.raises(InputError, match="degradation 'jpeg' is unknown; choose from real4x, clean4x"):
        load_sample(TINY, "jpeg", data)
    with pytest.raises(InputError, match="tiny ends before frame 3"):
        read_frames(data / TINY.path, 3, 1)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text.mp4 cannot be decoded"):
        read_frames(tmp_path / "text.mp4", 0, 1)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").write_text("no picture")
    with pytest.raises(InputError, match=r"0.png cannot be read as a picture"):
        read_frames(tmp_path / "frames", 0, 1)


def test_clips_are_found_by_name_and_group():
    assert [c.name for c in find_clips(None)] == ["dog", "flower", "roof", "coast", "face", "sintel"]
    assert [c.name for c in find_clips(["face", "lq", "face"])] == ["face", "film1940", "street", "webcam", "foreman"]
    with pytest.raises(InputError, match="clip 'cat' is not in protocol v1; choose from hq, lq, all, dog"):
        find_clips(["cat"])


def test_any_other_name_is_a_clip_of_ones_own_below_the_data_folder(tmp_path, texture):
    write_frames(tmp_path / "mine", texture)
    (clip,) = find_clips(["mine"], tmp_path)
    assert clip == Clip("mine", "mine")
    assert load_sample(clip, "clean4x", tmp_path).truth.shape == (3, 64, 96, 3)
    with pytest.raises(InputError, match=r"clip 'cat' is not in protocol v1; .* or name a file below --data"):
        find_clips(["cat"], tmp_path)
