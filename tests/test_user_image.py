import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms

from genve_core.errors import InputError
from genve_core.reference.colour_match import match_colour
from genve_core.reference.picture_file import read_picture
from genve_core.reference.user_image import fit_reference

RED, BLUE = (1.0, -1.0, -1.0), (-1.0, -1.0, 1.0)


def photograph(size=(96, 130)) -> torch.Tensor:
    picture = torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1).float() / 127.5 - 1
    return F.interpolate(picture[None], size=size, mode="area")[0]


def halves(h: int, w: int) -> torch.Tensor:
    """Left half red, right half blue, alpha opaque."""
    picture = torch.tensor(RED).view(3, 1, 1).repeat(1, h, w)
    picture[:, :, w // 2 :] = torch.tensor(BLUE).view(3, 1, 1)
    return picture


def colour(result, y, x):
    return tuple(round(value, 2) for value in result.image[:, y, x].tolist())


def psnr(a, b):
    return (10 * torch.log10(4 / (a - b).square().mean())).item()


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
@pytest.mark.parametrize("size", [(8, 8), (33, 70), (200, 51)])
@pytest.mark.parametrize("given", [(8, 9), (120, 31), (47, 200)])
def test_any_size_and_aspect_is_fitted(fit, size, given):
    result = fit_reference(photograph(given), size, fit=fit)
    assert result.image.shape == (3, *size) and result.valid.shape == (1, *size)
    assert result.image.abs().max() <= 1 and result.image.dtype == torch.float32
    assert result.valid.all() == (fit != "contain")


def test_a_picture_of_the_right_size_is_kept_bit_for_bit():
    for fit in ("cover", "contain", "stretch"):
        result = fit_reference(photograph((40, 56)), (40, 56), fit=fit)
        assert torch.equal(result.image, photograph((40, 56))) and result.valid.all()


def test_cover_cuts_both_sides_evenly():
    wide = torch.cat([halves(20, 40), halves(20, 40)], dim=2)  # red blue red blue, 20 px each
    result = fit_reference(wide, (20, 40), fit="cover")
    assert colour(result, 10, 5) == BLUE and colour(result, 10, 35) == RED


def test_contain_shows_everything_and_marks_the_rest():
    result = fit_reference(halves(20, 40), (40, 40), fit="contain")
    assert result.valid[0, :, 3].tolist() == [0.0] * 10 + [1.0] * 20 + [0.0] * 10
    assert colour(result, 20, 5) == RED and colour(result, 20, 35) == BLUE
    assert colour(result, 2, 5) == RED, "outside the picture its nearest colour stands"


def test_stretch_fills_the_frame_with_everything():
    result = fit_reference(halves(20, 40), (48, 16), fit="stretch")
    assert colour(result, 40, 2) == RED and colour(result, 40, 13) == BLUE


def test_shrinking_does_not_alias():
    stripes = torch.tensor([1.0, -1.0]).repeat(64).expand(3, 32, 128)
    assert fit_reference(stripes, (8, 32)).image[..., 4:-4].abs().max() < 0.05


def test_transparent_pixels_are_not_valid_and_do_not_bleed():
    picture = torch.cat([halves(20, 40), torch.ones(1, 20, 40)])
    picture[3, :, 20:] = -1  # the blue half is transparent
    result = fit_reference(picture, (40, 80))
    assert result.valid[0, 20, :39].all() and not result.valid[0, 20, 41:].any()
    shown = result.image[:, result.valid[0].bool()]
    assert shown[2].max() < -0.98, "blue from transparent pixels has bled in"
    assert result.notes == ("50 % of the reference is transparent and not used",)


@pytest.mark.parametrize("fit, what", [("cover", "50 % of it is cut off"), ("stretch", "it is stretched"),
                                       ("contain", "50 % of the frame is without reference")])
def test_another_aspect_is_told(fit, what):
    picture = photograph((40, 56))
    assert fit_reference(picture, (20, 56), fit=fit).notes == (
        f"the reference is 56x40 px, of another aspect than the frame's 56x20: {what} (fit {fit})",)
    assert fit_reference(picture, (20, 28), fit=fit).notes == fit_reference(picture, (41, 56), fit=fit).notes == ()


def test_an_opaque_alpha_changes_nothing():
    picture = photograph((40, 56))
    result = fit_reference(torch.cat([picture, torch.ones(1, 40, 56)]), (33, 47))
    torch.testing.assert_close(result.image, fit_reference(picture, (33, 47)).image, atol=1e-4, rtol=0)
    assert result.valid.all() and result.notes == ()


def save(tmp_path, array, mode, name="reference.png", **options):
    Image.fromarray(np.asarray(array)).convert(mode).save(tmp_path / name, **options)
    return tmp_path / name


def eight_bit(picture: torch.Tensor) -> np.ndarray:
    return ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_a_file_and_its_pixels_give_the_same(tmp_path):
    pixels = eight_bit(photograph())
    path = save(tmp_path, pixels, "RGB")
    from_file = fit_reference(path, (50, 40))
    from_tensor = fit_reference(torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1, (50, 40))
    torch.testing.assert_close(from_file.image, from_tensor.image)
    assert torch.equal(fit_reference(str(path), (50, 40)).image, from_file.image)


@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "LA", "1", "RGBA", "PA", "YCbCr"])
def test_pictures_of_every_mode_are_read(tmp_path, mode):
    name = "reference.tif" if mode in ("CMYK", "PA", "YCbCr", "LA") else "reference.png"
    try:
        path = save(tmp_path, eight_bit(photograph()), mode, name)
    except OSError:
        pytest.skip(f"this Pillow does not write {mode}")
    picture, _ = read_picture(path)
    assert picture.shape[0] == (4 if mode in ("RGBA", "LA", "PA") else 3) and picture.shape[1:] == (96, 130)
    truth = (
        photograph() if mode not in ("L", "LA", "1") else photograph().mean(0, keepdim=True).expand(3, -1, -1)
    )
    assert psnr(picture[:3], truth) > (6 if mode == "1" else 20)


def test_palette_transparency_becomes_alpha(tmp_path):
    palette = Image.fromarray(np.array([[0, 1] * 5] * 9, np.uint8), mode=None).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png", transparency=1)
    picture, _ = read_picture(tmp_path / "p.png")
    assert picture[:, 0, 0].tolist() == [1, -1, -1, 1] and picture[3, 0, 1] == -1


def test_sixteen_bit_grey_keeps_its_depth(tmp_path):
    ramp = np.linspace(30000, 31000, 60 * 40).reshape(40, 60).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    picture, _ = read_picture(tmp_path / "deep.png")
    wanted = torch.from_numpy(ramp.astype(np.float32)) / 65535 * 2 - 1
    torch.testing.assert_close(picture, wanted.expand(3, -1, -1))
    assert len(picture.unique()) > 900


def test_float_grey_has_its_white_at_one(tmp_path):
    Image.fromarray(np.linspace(0, 1, 90, dtype=np.float32).reshape(9, 10)).save(tmp_path / "float.tif")
    picture, _ = read_picture(tmp_path / "float.tif")
    assert picture[0, 0, 0] == -1 and picture[2, -1, -1] == 1


def test_a_rotated_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn by 90 degrees clockwise to see it
    save(tmp_path, eight_bit(halves(20, 40)), "RGB", "phone.png", exif=exif)
    picture, _ = read_picture(tmp_path / "phone.png")
    assert picture.shape == (3, 40, 20)
    assert picture[:, 2, 10].tolist() == list(RED) and picture[:, 37, 10].tolist() == list(BLUE)


def test_an_srgb_profile_changes_nothing_and_a_broken_one_costs_nothing(tmp_path):
    pixels = eight_bit(photograph())
    plain, _ = read_picture(save(tmp_path, pixels, "RGB", "plain.png"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged, _ = read_picture(save(tmp_path, pixels, "RGB", "tagged.png", icc_profile=srgb))
    assert (tagged - plain).abs().max() <= 2.5 / 127.5
    broken, _ = read_picture(
        save(tmp_path, pixels, "RGB", "broken.png", icc_profile=b"no profile at all" * 20)
    )
    assert torch.equal(broken, plain)


def test_another_profile_is_converted(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    path = save(tmp_path, eight_bit(halves(20, 40)), "RGB", "swapped.png", icc_profile=swapped)
    picture, _ = read_picture(path)  # in that profile's world, full red is what sRGB calls green
    torch.testing.assert_close(picture[:, 5, 5], torch.tensor([-1.0, 1.0, -1.0]), atol=0.03, rtol=0)


def test_an_animation_gives_its_first_frame_and_says_so(tmp_path):
    frames = [Image.fromarray(np.full((12, 14, 3), value, np.uint8)) for value in (255, 0)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    result = fit_reference(tmp_path / "a.gif", (24, 28))
    assert result.notes == ("reference a.gif is animated: its first frame is used",)
    assert result.image.min() > 0.98


def test_colour_match_takes_the_key_frames_colours():
    truth = photograph()
    yellowed = (truth * torch.tensor([0.8, 0.7, 0.5]).view(3, 1, 1) + 0.1).clamp(-1, 1)
    plain = fit_reference(yellowed, truth.shape[1:])
    matched = fit_reference(yellowed, truth.shape[1:], match_to=truth)
    assert psnr(matched.image, truth) > psnr(plain.image, truth) + 6
    assert matched.image.abs().max() <= 1


def test_colour_match_leaves_a_matching_reference_sharp_and_alike():
    truth = photograph()
    small = F.interpolate(truth[None], size=(24, 32), mode="area")
    poor = F.interpolate(small, size=truth.shape[1:], mode="bicubic")[0].clamp(-1, 1)
    matched = match_colour(truth, poor, torch.ones(1, *truth.shape[1:]))
    assert psnr(matched, truth) > 50
    assert matched.diff(dim=2).abs().mean() > 0.99 * truth.diff(dim=2).abs().mean()


def test_colour_match_leaves_what_a_codec_did_to_the_key_frames_colours():
    """A grey level darker and a tenth less colourful: the good picture is right. Four times as far, it is pulled back."""
    truth, whole = photograph(), torch.ones(1, 96, 130)

    def as_after(times):
        grey = truth.mean(0, keepdim=True)
        return (grey + (truth - grey) * (1 - 0.1 * times) - times / 127.5).clamp(-1, 1)

    assert psnr(match_colour(truth, as_after(1), whole), truth) > 45
    assert psnr(match_colour(truth, as_after(4), whole), as_after(4)) > psnr(truth, as_after(4)) + 3


def test_colour_match_looks_at_valid_pixels_only():
    truth, valid = photograph(), torch.zeros(1, 96, 130)
    valid[:, :, :70] = 1
    spoilt = truth.clone()
    spoilt[:, :, 70:] = 1.0
    matched = match_colour(spoilt, truth, valid)
    torch.testing.assert_close(matched[:, :, :70], truth[:, :, :70], atol=2e-3, rtol=0)


def test_colour_match_survives_flat_pictures():
    flat = torch.full((3, 20, 30), -1.0)
    matched = match_colour(flat, photograph((20, 30)), torch.ones(1, 20, 30))
    assert matched.isfinite().all() and matched.mean() > flat.mean()


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def test_files_that_are_no_picture_are_refused(tmp_path):
    for name, data, what in [
        ("a.mp4", b"\x00\x00\x00\x20ftypisom" + b"\x00" * 50, "a video"),
        ("a.mkv", b"\x1a\x45\xdf\xa3" + b"\x00" * 50, "a video"),
        ("a.avi", b"RIFF\x00\x00\x00\x00AVI LIST" + b"\x00" * 50, "a video"),
        ("a.heic", b"\x00\x00\x00\x20ftypheic" + b"\x00" * 50, "not a picture that can be read"),
        ("a.txt", b"hello", "not a picture that can be read"),
        ("empty.png", b"", "empty"),
    ]:
        with pytest.raises(InputError, match=rf"{name} is {what}; give one picture"):
            fit_reference(write(tmp_path / name, data), (16, 16))
    with pytest.raises(InputError, match="is not a file; give the path of a picture"):
        fit_reference(tmp_path / "none.png", (16, 16))
    with pytest.raises(InputError, match="is not a file"):
        fit_reference(tmp_path, (16, 16))


def test_a_damaged_picture_is_refused(tmp_path):
    whole = save(tmp_path, eight_bit(photograph()), "RGB").read_bytes()
    with pytest.raises(InputError, match=r"cut.png cannot be read \(.*\); save it again as PNG"):
        fit_reference(write(tmp_path / "cut.png", whole[: len(whole) // 2]), (16, 16))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path, eight_bit(photograph()), "RGB")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="has too many pixels"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert read_picture(path)[0].shape == (3, 96, 130)


def test_tensors_that_cannot_be_used_are_refused():
    good = photograph((16, 24))
    for picture, message in [
        (good[:2], r"must be \(3, h, w\) or \(4, h, w\), got \(2, 16, 24\)"),
        (good[None], r"must be \(3, h, w\) or \(4, h, w\), got \(1, 3, 16, 24\)"),
        (good / 0, "holds NaN or infinite values"),
        (good * 0 / 0, "holds NaN or infinite values"),
        ((good + 1) * 127, r"must be in \[-1, 1\], got values in"),
        (good[:, :7], "the reference is 24x7 px, but each side must be at least 8 px"),
        (good[:, :, :7], "the reference is 7x16 px, but each side must be at least 8 px"),
        (torch.cat([good, -torch.ones(1, 16, 24)]), "transparent everywhere"),
    ]:
        with pytest.raises(InputError, match=message):
            fit_reference(picture, (32, 32))


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match=r"fit must be one of .*got 'crop'"):
        fit_reference(photograph(), (16, 16), fit="crop")
    with pytest.raises(InputError, match="target size must be at least 1x1 px, got 16x0"):
        fit_reference(photograph(), (0, 16))
    with pytest.raises(ValueError, match=r"match_to must be \(3, 16, 24\), got \(3, 96, 130\)"):
        fit_reference(photograph(), (16, 24), match_to=photograph())
