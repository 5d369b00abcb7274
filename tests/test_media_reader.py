from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from media_clips import (
    LOSSLESS,
    combing,
    interlaced,
    moving_bars,
    plane_frame,
    smooth_video,
    to_bytes,
    turn,
    write_clip,
)

from genve_core.errors import InputError
from genve_core.media import VideoReader
from genve_core.media.deinterlace import deinterlaced
from genve_core.media.pixels import Colour, to_rgb

HALF_STEP = 1 / 255 + 1e-5  # of 8-bit rounding, in [-1, 1]


def read(path, **kw):
    with VideoReader(path, **kw) as video:
        return video, list(video)


def flat(path):
    """The one colour of a flat clip, in [0, 1]."""
    _, frames = read(path)
    rgb = (frames[0].rgb + 1) / 2
    assert (rgb - rgb[:, :1, :1]).abs().max() < 1e-6, "a flat picture came out uneven"
    return rgb[:, 0, 0].tolist()


def test_lossless_rgb_is_read_exactly_and_as_often_as_asked(tmp_path):
    video = smooth_video()
    path = write_clip(tmp_path / "a.mkv", list(to_bytes(video)), pixel_format="bgr0", options=LOSSLESS)
    with VideoReader(path) as reader:
        for _ in range(2):
            frames = list(reader)
            assert torch.stack([f.rgb for f in frames]).sub(video).abs().max() <= HALF_STEP
        assert [f.index for f in reader.frames(2, 4)] == [2, 3]
        assert [f.index for f in reader.frames(3, 99)] == [3, 4]
    assert (reader.info.width, reader.info.height, reader.info.frames) == (37, 23, 5)
    assert reader.info.rate == 25 and not reader.info.variable_rate and not reader.info.has_alpha
    assert frames[0].rgb.dtype == torch.float32 and frames[0].alpha is None and reader.notes == []


@pytest.mark.parametrize(
    "tags, samples, expected",
    [  # ITU-T H.273 by hand: 100 % red, green and blue in each coding
        ({"colorspace": 1, "color_range": 1}, [63, 102, 240], [1, 0, 0]),
        ({"colorspace": 1, "color_range": 1}, [173, 42, 26], [0, 1, 0]),
        ({"colorspace": 6, "color_range": 1}, [81, 90, 240], [1, 0, 0]),
        ({"colorspace": 5, "color_range": 1}, [41, 240, 110], [0, 0, 1]),
        ({"colorspace": 6, "color_range": 2}, [76, 85, 255], [1, 0, 0]),
        ({"colorspace": 1, "color_range": 2}, [54, 99, 255], [1, 0, 0]),
        ({"colorspace": 9, "color_range": 1}, [74, 97, 240], [1, 0, 0]),
        ({}, [81, 90, 240], [1, 0, 0]),  # untagged and small: BT.601, limited
        ({"colorspace": 1, "color_range": 1}, [126, 128, 128], [110 / 219] * 3),
        ({"colorspace": 1, "color_range": 2}, [126, 128, 128], [126 / 255] * 3),
    ],
)
def test_matrix_and_range_are_undone_as_tagged(tmp_path, tags, samples, expected):
    path = write_clip(tmp_path / "a.mkv", [plane_frame("yuv444p", 10, 6, samples)], tags=tags)
    assert flat(path) == pytest.approx(expected, abs=1.6 / 219)


def test_untagged_hd_counts_as_bt709(tmp_path):
    path = write_clip(tmp_path / "a.mkv", [plane_frame("yuv420p", 1280, 720, [63, 102, 240])])
    assert flat(path) == pytest.approx([1, 0, 0], abs=1.6 / 219)


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv444p10le"])
def test_ten_bit_survives(tmp_path, pixel_format):
    pictures = [plane_frame(pixel_format, 16, 6, [level, 512, 512]) for level in (512, 513)]
    reader, frames = read(write_clip(tmp_path / "a.mkv", pictures))
    assert reader.info.bit_depth == 10
    values = [(float(f.rgb.mean()) + 1) / 2 for f in frames]
    assert values == pytest.approx([(512 - 64) / 876, (513 - 64) / 876], abs=1e-5)


@pytest.mark.parametrize(
    "packed, planar, values",
    [
        ("nv12", "yuv420p", [100, 90, 140]),
        ("p010le", "yuv420p10le", [513, 401, 603]),
        ("yuyv422", "yuv422p", [100, 90, 140]),
        ("rgb24", "gbrp", [200, 11, 99]),
        ("bgra", "gbrap", [200, 11, 99, 61]),
        ("rgb48be", "gbrp16le", [20001, 1101, 65535]),
    ],
)
def test_packed_samples_mean_the_same_as_planar_ones(packed, planar, values):
    frame = plane_frame(planar, 32, 8, values)
    colour = Colour(matrix="rgb", range="full") if "gbr" in planar else Colour()
    for a, b in zip(
        to_rgb(frame, colour, True), to_rgb(frame.reformat(format=packed), colour, True), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "transfer, signal, expected",
    [  # reference white and what lies below the knee, worked by hand in hdr.py's terms
        (18, 0.75, 0.889),  # HLG: 75 % is 203 cd/m2 = light 1 -> 0.753 after the shoulder -> ** (1 / 2.4)
        (16, 0.5807, 0.889),  # PQ: 58 % is 203 cd/m2
        (16, 0.5081, 0.7445),  # PQ: 100 cd/m2 = light 0.4926, below the knee
        (16, 0.7518, 1.0),  # PQ: 1000 cd/m2, the peak
        (18, 0.0, 0.0),
    ],
)
def test_hdr_is_tone_mapped_to_sdr(tmp_path, transfer, signal, expected):
    tags = {"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": 9}
    picture = plane_frame("yuv420p10le", 16, 6, [round(64 + 876 * signal), 512, 512])
    path = write_clip(tmp_path / "a.mkv", [picture], tags=tags)
    assert flat(path) == pytest.approx([expected] * 3, abs=0.004)
    reader = VideoReader(path)
    assert reader.info.is_hdr and any("tone mapped" in note for note in reader.notes)


def test_sdr_bt2020_is_converted_to_bt709_and_white_stays(tmp_path):
    tags = {"colorspace": 9, "color_range": 1, "color_trc": 14, "color_primaries": 9}
    white = write_clip(tmp_path / "w.mkv", [plane_frame("yuv444p", 10, 6, [235, 128, 128])], tags=tags)
    assert flat(white) == pytest.approx([1, 1, 1], abs=1e-4)
    # BT.2020 red, 0.5 ** 2.4 in light, times the red column of BT.2087's matrix (1.6605, -0.1246, -0.0182).
    y, cr = 16 + 219 * 0.2627 * 0.5, 128 + 224 * (0.5 - 0.2627 * 0.5) / (2 * (1 - 0.2627))
    cb = 128 + 224 * (-0.2627 * 0.5) / (2 * (1 - 0.0593))
    red = write_clip(
        tmp_path / "r.mkv", [plane_frame("yuv444p", 10, 6, [round(y), round(cb), round(cr)])], tags=tags
    )
    assert flat(red) == pytest.approx([0.5 * 1.6605 ** (1 / 2.4), 0, 0], abs=0.02)


@pytest.mark.parametrize(
    "matrix, expected",
    [
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
    ],
)
def test_rotation_and_mirroring_by_the_display_matrix_are_applied(tmp_path, matrix, expected):
    picture = to_bytes(smooth_video(1, 24, 38))[0]
    path = turn(write_clip(tmp_path / "a.mp4", [picture], codec="png", pixel_format="rgb24"), matrix)
    reader, frames = read(path)
    wanted = expected(picture)
    assert (reader.info.height, reader.info.width) == wanted.shape[:2]
    assert np.abs(to_bytes(frames[0].rgb[None])[0].astype(int) - wanted).max() <= 1


def test_variable_frame_times_are_kept(tmp_path):
    times = [0, 3, 4, 11, 12]
    path = write_clip(
        tmp_path / "a.mp4", list(to_bytes(smooth_video(5, 24, 38))), codec="libx264", pixel_format="yuv420p",
        times=times, time_base=Fraction(1, 50),
    )  # fmt: skip
    reader, frames = read(path)
    assert [f.time for f in frames] == [Fraction(t, 50) for t in times]
    assert reader.info.variable_rate


def test_rationals_of_any_pyav_are_told_as_fractions(tmp_path):
    pictures = list(to_bytes(smooth_video(3, 24, 38)))
    square = write_clip(tmp_path / "a.mkv", pictures, pixel_format="bgr0")
    wide = write_clip(tmp_path / "b.mp4", pictures, codec="libx264", pixel_format="yuv420p",
                      tags={"sample_aspect_ratio": Fraction(16, 11)})  # fmt: skip
    raw = write_clip(tmp_path / "c.h264", pictures, codec="libx264", pixel_format="yuv420p")
    for path, aspect in ((square, 1), (wide, Fraction(16, 11)), (raw, 1)):
        reader, frames = read(path)
        info = reader.info
        told = [info.rate, info.duration, info.time_base, info.pixel_aspect, *(f.time for f in frames)]
        assert [type(x) for x in told] == [Fraction] * len(told)
        assert info.pixel_aspect == aspect


def test_alpha_is_read_with_its_colour(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (23, 37, 4), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="bgra")
    reader, frames = read(write_clip(tmp_path / "a.mkv", [frame]))
    assert reader.info.has_alpha
    assert np.array_equal((frames[0].alpha * 255).round().byte().numpy(), rgba[..., 3])
    assert np.array_equal(to_bytes(frames[0].rgb[None])[0], rgba[..., :3])


def test_prores_4444_keeps_alpha_at_its_own_depth(tmp_path):
    frame = plane_frame("yuva444p10le", 48, 32, [512, 512, 512, 300])
    path = write_clip(
        tmp_path / "a.mov", [frame], codec="prores_ks", options={"profile": "4444", "alpha_bits": "16"}
    )
    reader, frames = read(path)
    assert reader.info.has_alpha and reader.info.bit_depth >= 10
    assert frames[0].alpha.mean() == pytest.approx(300 / 1023, abs=2e-3)


def test_chroma_is_interpolated_from_where_it_lies(tmp_path):
    """A horizontal ramp in left-sited 4:2:0 chroma must come back unshifted."""
    frame = plane_frame("yuv420p", 32, 8, [126, 128, 128])
    ramp = np.arange(16, dtype=np.uint8) * 8 + 60
    rows = np.frombuffer(frame.planes[2], np.uint8).reshape(-1, frame.planes[2].line_size)
    rows[:, :16] = ramp
    _, frames = read(write_clip(tmp_path / "a.mkv", [frame], tags={"colorspace": 1, "color_range": 1}))
    red = (frames[0].rgb[0, 3, :31] + 1) / 2
    cr = (60 + 4 * torch.arange(31) - 128) / 224
    assert torch.allclose(red, (110 / 219 + 2 * (1 - 0.2126) * cr).clamp(0, 1), atol=1e-5)


def test_raw_h264_without_times_follows_the_rate(tmp_path):
    path = write_clip(
        tmp_path / "a.264",
        list(to_bytes(smooth_video(7, 24, 38))),
        codec="libx264",
        pixel_format="yuv420p",
        container="h264",
    )
    reader, frames = read(path)
    assert [f.time for f in frames] == [Fraction(i, 25) for i in range(7)]
    assert reader.info.frames == 7 and reader.notes == []
    assert [f.time for f in read(path, rate=10)[1]] == [Fraction(i, 10) for i in range(7)]


def write_png(path, array, pixel_format):
    encoder = av.CodecContext.create("mjpeg" if path.suffix == ".jpg" else "png", "w")
    frame = av.VideoFrame.from_ndarray(array, pixel_format)
    if path.suffix == ".jpg":
        frame = frame.reformat(format="yuvj444p", dst_colorspace="ITU601", dst_color_range="JPEG")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base = Fraction(1, 25)
    path.write_bytes(b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)]))


def test_a_folder_of_images_is_a_video_in_natural_order(tmp_path):
    for index, name in enumerate(["a1.png", "a2.png", "a10.png"]):
        write_png(tmp_path / name, np.full((23, 37, 3), 50 * index, np.uint8), "rgb24")
    (tmp_path / "notes.txt").write_text("not a frame")
    reader, frames = read(tmp_path)
    assert [round(float(f.rgb.mean() + 1) * 127.5) for f in frames] == [0, 50, 100]
    assert [f.time for f in frames] == [0, Fraction(1, 25), Fraction(2, 25)] and reader.info.frames == 3
    assert [f.time for f in read(tmp_path, rate=10)[1]] == [0, Fraction(1, 10), Fraction(1, 5)]


@pytest.mark.parametrize("pixel_format, channels", [("rgb48be", 3), ("rgba64be", 4)])
def test_sixteen_bit_images_keep_their_depth(tmp_path, pixel_format, channels):
    picture = np.random.default_rng(0).integers(0, 65536, (23, 37, channels), dtype=np.uint16)
    write_png(tmp_path / "a.png", picture, pixel_format)
    reader, frames = read(tmp_path)
    assert reader.info.bit_depth == 16
    rgb = ((frames[0].rgb.permute(1, 2, 0).double() + 1) * 32767.5).round().numpy()
    assert np.abs(rgb - picture[..., :3]).max() <= 1
    if channels == 4:
        assert np.abs((frames[0].alpha.double() * 65535).round().numpy() - picture[..., 3]).max() <= 1


def test_jpeg_and_grey_images_have_full_range(tmp_path):
    (tmp_path / "jpg").mkdir()
    write_png(tmp_path / "jpg" / "a.jpg", np.full((24, 40, 3), 250, np.uint8), "rgb24")
    assert (read(tmp_path / "jpg")[1][0].rgb.mean() + 1) * 127.5 == pytest.approx(250, abs=2)
    (tmp_path / "grey").mkdir()
    write_png(tmp_path / "grey" / "a.png", np.full((24, 40), 250, np.uint8), "gray")
    assert (read(tmp_path / "grey")[1][0].rgb.mean() + 1) * 127.5 == pytest.approx(250, abs=0.01)


def test_a_photograph_is_turned_by_its_exif(tmp_path):
    image = pytest.importorskip("PIL.Image")
    if int(av.__version__.split(".")[0]) < 18:
        pytest.skip("this FFmpeg does not read EXIF")
    picture = to_bytes(smooth_video(1, 24, 38))[0]
    exif = image.Exif()
    exif[0x112] = 6  # turn clockwise to show
    image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=98, subsampling=0)
    reader, frames = read(tmp_path)
    assert (reader.info.width, reader.info.height, reader.info.rotation) == (24, 38, 90)
    assert np.abs(to_bytes(frames[0].rgb[None])[0].astype(int) - np.rot90(picture, -1)).max() < 12


def test_a_single_image_is_a_clip_of_one_frame(tmp_path):
    write_png(tmp_path / "a%03d.png", np.full((23, 37, 3), 70, np.uint8), "rgb24")
    reader, frames = read(tmp_path / "a%03d.png")
    assert len(frames) == reader.info.frames == 1 and reader.info.duration == Fraction(1, 25)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv420p10le"])
def test_interlaced_video_is_deinterlaced_with_a_word(tmp_path, pixel_format):
    woven, whole = moving_bars(pixel_format)
    times = [0, 1, 2, 5, 6, 7, 9]  # a rate that varies: it is not the filter's to change
    path = write_clip(tmp_path / "a.mkv", [interlaced(picture) for picture in woven], options=LOSSLESS, times=times)
    reader, frames = read(path)
    assert reader.info.interlaced and reader.notes == ["a.mkv is interlaced; it is deinterlaced (bwdif)"]
    assert [(f.index, f.time) for f in frames] == [(i, Fraction(t, 25)) for i, t in enumerate(times)]
    left = read(write_clip(tmp_path / "woven.mkv", woven, options=LOSSLESS))[1]  # not flagged
    truth = read(write_clip(tmp_path / "whole.mkv", whole, options=LOSSLESS))[1]
    assert combing(left) > 0.2 and combing(truth) < 1e-6
    assert combing(frames) < combing(left) / 10
    for a, b, c in zip(frames, truth, left, strict=True):
        assert torch.equal(a.rgb[:, ::2], c.rgb[:, ::2]), "the first field must stay as it is"
        assert (a.rgb - b.rgb).abs().mean() < (c.rgb - b.rgb).abs().mean() / 4


def test_a_part_of_an_interlaced_video_equals_the_same_part_of_the_whole(tmp_path):
    woven = moving_bars("yuv420p")[0]
    with VideoReader(write_clip(tmp_path / "a.mkv", [interlaced(p) for p in woven], options=LOSSLESS)) as reader:
        whole = list(reader)
        for start, stop in ((0, 1), (1, 4), (3, 99), (6, 7), (7, 9)):
            part = list(reader.frames(start, stop))
            assert [f.index for f in part] == list(range(start, min(stop, 7)))
            assert all(torch.equal(f.rgb, whole[f.index].rgb) and f.time == whole[f.index].time for f in part)
        assert [(f.index, torch.equal(f.rgb, whole[f.index].rgb)) for f in reader.picked({2, 5})] == [(2, True), (5, True)]


def test_only_flagged_pictures_are_deinterlaced(tmp_path):
    woven = moving_bars("yuv420p")[0]
    mixed = [interlaced(p) if i in (2, 3, 5) else p for i, p in enumerate(woven)]
    reader, frames = read(write_clip(tmp_path / "mixed.mkv", mixed, options=LOSSLESS))
    left = read(write_clip(tmp_path / "woven.mkv", woven, options=LOSSLESS))[1]
    assert [torch.equal(a.rgb, b.rgb) for a, b in zip(frames, left, strict=True)] == [i not in (2, 3, 5) for i in range(7)]
    assert not reader.info.interlaced and any("deinterlaced" in note for note in reader.notes)
    assert [f.time for f in frames] == [f.time for f in left]


@pytest.mark.parametrize("packed, tags", [("nv12", 1), ("uyvy422", 1), ("rgb24", 0)])
def test_packed_interlaced_pictures_keep_their_colours(packed, tags):
    """As planar ones are filtered, or, where FFmpeg would convert them, left as they are with a word."""
    planar = {"nv12": "yuv420p", "uyvy422": "yuv422p", "rgb24": "rgb24"}[packed]
    notes, results = [], []
    for pixel_format in (planar, packed):
        frames = [av.VideoFrame.from_ndarray(x, "rgb24").reformat(format=planar).reformat(format=pixel_format)
                  for x in to_bytes(smooth_video(3, 32, 48))]
        for frame in frames:
            frame.colorspace, frame.color_range = tags, tags
        pictures = ((interlaced(frame), Fraction(i)) for i, frame in enumerate(frames))
        results.append([to_rgb(frame, Colour(), False)[0] for frame, _ in deinterlaced(pictures, "a.avi", notes.append)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)) and len(results[0]) == 3
    assert all(("stay woven" in note) == (packed == "rgb24") for note in notes) and notes


def test_interlaced_pictures_too_small_for_the_filter_stay_woven_with_a_word(tmp_path):
    path = write_clip(tmp_path / "a.mkv", [interlaced(plane_frame("yuv420p", 8, 2, [99, 128, 128]))] * 2, options=LOSSLESS)
    reader, frames = read(path)
    assert len(frames) == 2 and any("yuv420p, 8x2 px, which cannot be deinterlaced" in note for note in reader.notes)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
@pytest.mark.parametrize("order", ["top", "bottom"])
def test_woven_video_that_is_not_flagged_is_found_and_deinterlaced_with_a_word(tmp_path, pixel_format, order):
    woven, whole = moving_bars(pixel_format, frames=12)
    if order == "bottom":  # upside down, the first field lies in the odd lines
        woven, whole = ([turned_over(picture) for picture in pictures] for pictures in (woven, whole))
    path = write_clip(tmp_path / "a.mkv", woven, options=LOSSLESS)
    reader, frames = read(path)
    assert not reader.info.interlaced and reader.woven
    assert reader.notes == ["a.mkv is woven of two fields, though not flagged as interlaced; it is deinterlaced (bwdif)"]
    with VideoReader(path, deinterlace=False) as reader:
        left = list(reader)
        assert not reader.notes
    truth = read(write_clip(tmp_path / "whole.mkv", whole, options=LOSSLESS))[1]
    assert [f.time for f in frames] == [f.time for f in truth] and len(frames) == 12
    assert combing(left) > 0.2 and combing(frames) < combing(left) / 5
    first = slice(order == "bottom", None, 2)
    assert all(torch.equal(a.rgb[:, first], b.rgb[:, first]) for a, b in zip(frames, left, strict=True)), "of the first field"


def turned_over(picture):
    for plane in picture.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        rows[:] = rows[::-1].copy()
    return picture


@pytest.mark.parametrize("combed", [(), (2, 3), (2, 3, 4, 5)])
def test_whole_and_briefly_combed_videos_are_left_as_they_are(tmp_path, combed):
    woven, whole = moving_bars("yuv420p", frames=15)
    mixed = [woven[i] if i in combed else picture for i, picture in enumerate(whole)]
    reader, frames = read(write_clip(tmp_path / "a.mkv", mixed, options=LOSSLESS))
    with VideoReader(tmp_path / "a.mkv", deinterlace=False) as left:
        assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(frames, left, strict=True))
    assert not reader.woven and not reader.notes


def test_interlaced_h264_is_deinterlaced(tmp_path):
    path = write_clip(
        tmp_path / "a.mp4", moving_bars("yuv420p")[0], codec="libx264", options={"x264-params": "interlaced=1", "crf": "4"},
    )  # fmt: skip
    reader, frames = read(path)
    assert len(frames) == 7 and combing(frames) < 0.03 and any("deinterlaced" in note for note in reader.notes)


def long_clip(path, **kw):
    video = to_bytes(smooth_video(20, 48, 64))
    return write_clip(
        path, list(video), codec="libx264", pixel_format="yuv420p", options={"g": "4", "crf": "4"}, **kw
    )


@pytest.mark.parametrize(
    "name, options", [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.avi", {})]
)
def test_frames_before_the_cut_are_kept_and_the_loss_is_told(tmp_path, name, options):
    path = long_clip(tmp_path / name, container_options=options)
    whole = read(path)[1]
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    reader, frames = read(cut)
    assert 5 <= len(frames) < 20
    for a, b in zip(frames[:-4], whole, strict=False):
        assert a.time == b.time and torch.equal(a.rgb, b.rgb)
    assert any("announces" in note or "damaged" in note for note in reader.notes), reader.notes


def damage(path, at):
    data = bytearray(path.read_bytes())
    data[at : at + 300] = bytes(300)
    path.write_bytes(data)
    return path


def test_a_damaged_frame_is_told_and_all_others_keep_their_picture_and_time(tmp_path):
    video = smooth_video(9, 48, 64)
    path = write_clip(tmp_path / "a.mov", list(to_bytes(video)), codec="png", pixel_format="rgb24")
    reader, frames = read(damage(path, path.stat().st_size // 2))
    assert len(frames) == 8 and any("damaged near" in note for note in reader.notes), reader.notes
    for frame in frames:
        assert (frame.rgb - video[round(frame.time * 25)]).abs().max() <= HALF_STEP


def make_bad(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "headless":
        whole = long_clip(tmp_path / "whole.mp4")
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    elif kind == "sound":
        with av.open(str(path), "w") as out:
            track = out.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            frame.sample_rate = 48000
            out.mux([*track.encode(frame), *track.encode(None)])
    elif kind == "frameless":
        path = write_clip(
            tmp_path / "frameless.mov", list(to_bytes(smooth_video(1))), codec="png", pixel_format="rgb24"
        )
        damage(path, 60)
    elif kind == "unfilled":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            out.start_encoding()
    elif kind == "cover":
        path = tmp_path / "cover.mp3"
        with av.open(str(path), "w") as out:
            sound, cover = out.add_stream("libmp3lame", rate=48000), out.add_stream("png", rate=1)
            cover.width, cover.height, cover.pix_fmt, cover.disposition = (
                32,
                16,
                "rgb24",
                Disposition.attached_pic.value,
            )
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
            frame.sample_rate = 48000
            out.mux([*cover.encode(av.VideoFrame(32, 16, "rgb24")), *cover.encode(None)])
            out.mux([*sound.encode(frame), *sound.encode(None)])
    elif kind == "folder":
        path = tmp_path / "folder"
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind, message",
    [
        ("missing", r"missing.mp4 does not exist; give a video file"),
        ("empty", r"empty.mp4 is empty \(0 bytes\)"),
        ("text", r"text.mp4 is not a video that can be read"),
        ("headless", r"headless.mp4 is not a video that can be read, or its end is missing"),
        ("sound", r"sound.mp4 has no video track, only sound"),
        ("cover", r"cover.mp3 has no video track, only sound"),
        ("unfilled", r"unfilled.mp4 has no video track; give a video file"),
        ("frameless", r"frameless.mov holds no picture that can be decoded \(0 frames\)"),
        ("folder", r"folder holds no images; put .png"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, kind, message):
    with pytest.raises(InputError, match=message) as refused:
        VideoReader(make_bad(tmp_path, kind))
    assert "\n" not in str(refused.value)


def test_text_files_are_no_video_even_by_their_own_name(tmp_path):
    (tmp_path / "a.txt").write_text("FFmpeg can draw this as a picture\n" * 50)
    with pytest.raises(InputError, match=r"a\.txt"):
        VideoReader(tmp_path / "a.txt")


def test_images_that_differ_in_size_or_are_broken_are_refused(tmp_path):
    write_png(tmp_path / "a1.png", np.zeros((23, 37, 3), np.uint8), "rgb24")
    write_png(tmp_path / "a2.png", np.zeros((23, 39, 3), np.uint8), "rgb24")
    with pytest.raises(InputError, match=r"changes its size from 37x23 to 39x23 px"):
        read(tmp_path)
    (tmp_path / "a2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a2.png is not an image that can be read"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"rate must be above 0 frames per second, got -1"):
        VideoReader(tmp_path, rate=-1)
