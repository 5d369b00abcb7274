"""IMAGE, VIDEO and LATENT <-> the core's tensors: exact for 8-bit pictures, refused by name when they cannot be meant."""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from media_clips import smooth_video, to_bytes, write_clip

from genve_core.clip import Clip
from genve_core.media import VideoReader


@pytest.fixture(scope="module")
def convert(genve):
    return genve("nodes.convert")


def file_frames(path):
    with VideoReader(path) as video:
        return torch.stack([frame.rgb for frame in video])


def all_bytes() -> np.ndarray:
    """(1, 16, 16, 3): every 8-bit value in every channel."""
    return np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)


@pytest.mark.parametrize("noise", [0.0, 9e-5, -9e-5])
def test_every_8_bit_value_is_what_the_reader_gives_for_it(convert, tmp_path, noise):
    path = write_clip(tmp_path / "all.mkv", list(all_bytes()), codec="ffv1", pixel_format="bgr0")
    images = torch.from_numpy(all_bytes().astype(np.float32) / 255) + noise
    frames, alpha = convert.frames_of(images)
    assert torch.equal(frames, file_frames(path)) and alpha is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_8_bit_values_are_exact_in_other_dtypes_too(convert, dtype):
    images = torch.from_numpy(all_bytes().astype(np.float64) / 255).to(dtype)
    exact = torch.from_numpy(all_bytes().astype(np.float32)).movedim(-1, 1) / 127.5 - 1
    frames, _ = convert.frames_of(images)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, exact, rtol=0, atol=0 if dtype == torch.float64 else 1e-3)


def test_other_values_are_only_moved(convert):
    images = torch.rand(2, 9, 11, 3)
    images[0] = (images[0] * 255).round() / 255  # one picture of 8 bit among others changes nothing
    assert torch.equal(convert.frames_of(images)[0], images.movedim(-1, 1) * 2 - 1)


def test_up_sampled_frames_survive_the_way_through_an_image_to_the_bit(convert):
    up = Clip(smooth_video(3, 23, 37), (64, 96)).up(slice(0, 3), torch.device("cpu"))
    assert torch.equal(convert.frames_of(convert.images_of(up))[0], up)


def test_alpha_is_kept_apart_and_put_back_at_the_new_size(convert):
    images = torch.rand(2, 8, 12, 4)
    frames, alpha = convert.frames_of(images)
    assert frames.shape == (2, 3, 8, 12) and torch.equal(alpha, images[..., 3])
    same = convert.images_of(frames, alpha)
    torch.testing.assert_close(same, images, atol=1e-6, rtol=0)
    flat = convert.images_of(torch.zeros(2, 3, 16, 24), torch.full((2, 8, 12), 0.25))
    assert flat.shape == (2, 16, 24, 4)
    torch.testing.assert_close(flat, torch.tensor([0.5, 0.5, 0.5, 0.25]).expand_as(flat))


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.rand(0, 8, 8, 3), "clip holds 0 frames of 8x8 px, wanted at least one"),
        (torch.rand(2, 0, 8, 3), "clip holds 2 frames of 8x0 px"),
        (torch.rand(8, 8, 3), r"clip is a tensor of shape \(8, 8, 3\), wanted an IMAGE"),
        (torch.rand(2, 8, 8, 1), "clip has 1 channels, wanted 3"),
        (torch.rand(2, 8, 8, 2), "clip has 2 channels, wanted 3"),
        (torch.rand(2, 3, 8, 8), "clip has 8 channels, wanted 3"),
        ({"samples": torch.rand(1)}, "clip is a dictionary with samples, wanted an IMAGE"),
        (None, "clip is nothing, wanted an IMAGE"),
    ],
)
def test_what_is_no_image_is_refused(convert, genve, images, message):
    with pytest.raises(genve("genve_core.errors").InputError, match=message):
        convert.frames_of(images, "clip")


def test_a_video_file_is_read_as_the_command_line_reads_it(convert, tmp_path):
    from comfy_api.latest import InputImpl

    path = write_clip(tmp_path / "clip.mp4", list(to_bytes(smooth_video(4, 32, 48))), codec="libx264",
                      pixel_format="yuv420p", sound="aac")
    seen = []
    video = convert.read_video(InputImpl.VideoFromFile(str(path)), on_frame=lambda done, total: seen.append((done, total)))
    assert torch.equal(video.frames, file_frames(path))
    assert video.rate == 25 and seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # the host's own decoding is another: that is why it is not used
    host = InputImpl.VideoFromFile(str(path)).get_components()
    assert not torch.equal(convert.frames_of(host.images)[0], video.frames)
    waveform = video.audio["waveform"]
    assert video.audio["sample_rate"] == 48000 and waveform.shape[:2] == (1, 1) and waveform.dtype == torch.float32
    assert abs(waveform.shape[2] - 48000 * 4 / 25) < 3000  # AAC pads its blocks
    assert waveform.square().mean().sqrt() == pytest.approx(8000 / 32768 / 2**0.5, rel=0.15)


def test_a_lossless_file_gives_the_same_as_video_and_as_image(convert, tmp_path):
    from comfy_api.latest import InputImpl

    path = write_clip(tmp_path / "clip.mkv", list(to_bytes(smooth_video(3))), codec="ffv1", pixel_format="bgr0")
    video = InputImpl.VideoFromFile(str(path))
    images = video.get_components().images  # what Get Video Components gives
    assert torch.equal(convert.read_video(video).frames, convert.read_video(images).frames)


def test_a_video_made_in_the_graph_keeps_rate_and_sound(convert):
    from comfy_api.latest import InputImpl, Types

    audio = {"waveform": torch.zeros(1, 2, 100), "sample_rate": 44100}
    images = torch.from_numpy(to_bytes(smooth_video(3)).astype(np.float32) / 255)
    made = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(30000, 1001)))
    video = convert.read_video(made)
    assert torch.equal(video.frames, convert.frames_of(images)[0])
    assert video.rate == Fraction(30000, 1001) and video.audio is audio


@pytest.mark.parametrize("part", ["trimmed", "cropped"])
def test_a_part_of_a_file_is_not_read_as_the_whole(convert, tmp_path, part):
    """Newer hosts trim and crop a VIDEO without making a new file."""
    from comfy_api.latest import InputImpl

    path = write_clip(tmp_path / "clip.mkv", list(to_bytes(smooth_video(4, 24, 36))), codec="ffv1", pixel_format="bgr0")
    host = InputImpl.VideoFromFile

    class Part(host):
        def get_active_trim_window(self):
            return (0.04, 0.08) if part == "trimmed" else (0.0, 0.0)

        def get_dimensions(self):
            return (20, 16) if part == "cropped" else super().get_dimensions()

        def get_components(self):
            whole = super().get_components()
            whole.images = whole.images[1:3] if part == "trimmed" else whole.images[:, 4:20, 8:28]
            return whole

    shape = (2, 3, 24, 36) if part == "trimmed" else (4, 3, 16, 20)
    assert convert.read_video(Part(str(path))).frames.shape == shape


def test_a_file_in_memory_is_read_too(convert, tmp_path):
    import io

    from comfy_api.latest import InputImpl

    path = write_clip(tmp_path / "clip.mkv", list(to_bytes(smooth_video(2))), codec="ffv1", pixel_format="bgr0")
    video = InputImpl.VideoFromFile(io.BytesIO(path.read_bytes()))
    assert torch.equal(convert.read_video(video).frames, file_frames(path))


def test_a_transparent_video_keeps_its_alpha(convert, tmp_path):
    from comfy_api.latest import InputImpl

    picture = av.VideoFrame.from_ndarray(np.full((16, 20, 4), 128, np.uint8), "rgba")
    path = write_clip(tmp_path / "clip.mkv", [picture, picture], codec="ffv1", pixel_format="bgra")
    alpha = convert.read_video(InputImpl.VideoFromFile(str(path))).alpha
    assert alpha.shape == (2, 16, 20) and torch.allclose(alpha, torch.tensor(128 / 255))


def test_what_is_no_video_is_refused(convert, genve, tmp_path):
    from comfy_api.latest import InputImpl

    wrong = genve("genve_core.errors").InputError
    with pytest.raises(wrong, match="video is a dictionary with waveform, wanted an IMAGE or a VIDEO"):
        convert.read_video({"waveform": torch.zeros(1)})
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(wrong, match=r"no\.mp4 is not a video that can be read"):
        convert.read_video(InputImpl.VideoFromFile(str(tmp_path / "no.mp4")))


def test_latents_go_there_and_back_unchanged(convert):
    Z = torch.randn(1, 3, 16, 4, 5)
    latent = convert.latent_of(Z, genve={"n": 3})
    assert latent["samples"].shape == (3, 16, 4, 5) and latent["genve"] == {"n": 3}
    assert torch.equal(convert.latents_of(latent, 16), Z)


@pytest.mark.parametrize(
    "latent, message",
    [
        ({"samples": torch.zeros(2, 4, 8, 8)}, "Z has 4 channels, the bundle's VAE has 16: these are latents of another VAE"),
        ({"samples": torch.zeros(1, 16, 3, 8, 8)}, r"Z has 5 axes, \(1, 16, 3, 8, 8\), wanted .* another VAE"),
        ({"samples": torch.zeros(16, 8, 8)}, "Z has 3 axes"),
        ({"samples": torch.zeros(0, 16, 8, 8)}, "Z is empty"),
        ({"samples": torch.full((1, 16, 2, 2), float("nan"))}, "Z holds NaN"),
        ({"samples": SimpleNamespace(is_nested=True)}, "Z is a dictionary with samples, wanted a LATENT"),
        (torch.zeros(1, 2, 3), r"Z is a tensor of shape \(1, 2, 3\), wanted a LATENT"),
        (None, "Z is nothing"),
    ],
)
def test_latents_of_another_vae_are_refused(convert, genve, latent, message):
    with pytest.raises(genve("genve_core.errors").InputError, match=message):
        convert.latents_of(latent, 16, "Z")


def test_latents_and_images_of_one_clip_fit(convert):
    convert.check_same_clip(torch.zeros(1, 3, 16, 8, 12), torch.zeros(3, 37, 95, 3))  # padded to 64x96


@pytest.mark.parametrize("images", [torch.zeros(2, 37, 95, 3), torch.zeros(3, 32, 95, 3), torch.zeros(3, 37, 97, 3)])
def test_latents_and_images_of_different_clips_are_refused(convert, genve, images):
    with pytest.raises(genve("genve_core.errors").InputError, match=r"Z has 3 frames of 12x8 latents, flow .* different clips"):
        convert.check_same_clip(torch.zeros(1, 3, 16, 8, 12), images, ("Z", "flow"))
