"""Sound as samples, against what was put into the file."""

import numpy as np
import pytest
import torch
from media_clips import smooth_video, to_bytes, write_clip

from genve_core.errors import InputError
from genve_core.media.audio import decode_audio


def clip(path, **options):
    return write_clip(path, list(to_bytes(smooth_video(5))), pixel_format="bgr0", **options)


def test_samples_are_those_in_the_file(tmp_path):
    waveform, rate = decode_audio(clip(tmp_path / "a.mkv", sound="pcm_s16le"))
    written = (8000 * np.sin(np.arange(48000 * 5 // 25) * 0.05)).astype(np.int16)
    assert rate == 48000 and waveform.dtype == torch.float32
    torch.testing.assert_close(waveform, torch.from_numpy(written / 32768.0).float()[None], atol=1e-6, rtol=0)


def test_a_video_without_sound_has_none(tmp_path):
    assert decode_audio(clip(tmp_path / "a.mkv")) is None


def test_what_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        decode_audio(tmp_path / "none.mp4")
