"""--hdr keep: values and tags of HDR and wide-gamut video go through as they are, with more than 8 bits."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_clips import LOSSLESS, info_like, plane_frame, smooth_video, to_bytes, write_clip
from PIL import Image

from genve_core.bundle import load_bundle
from genve_core.cli import main
from genve_core.errors import InputError
from genve_core.film import FilmRun, assign, pieces, scan
from genve_core.job import Job, as_stored, store_piece
from genve_core.media import VideoReader, VideoWriter, probe
from genve_core.media.hdr import LightData, to_sdr
from genve_core.media.pixels import Colour, to_rgb, to_yuv_frame
from genve_core.models import Models
from genve_core.piece_worker import Order, PieceWorker
from genve_core.pipeline import EnhanceConfig, Enhancer
from genve_core.preview import Preview

PQ, HLG, SDR_2020, BT2020, P3 = 16, 18, 14, 9, 12
FRAMES, H, W = 4, 32, 48


def tags(transfer=PQ, primaries=BT2020):
    return {"colorspace": BT2020, "color_range": 1, "color_trc": transfer, "color_primaries": primaries}


def clip(path, pixel_format="yuv444p10le", frames=FRAMES, transfer=PQ, **kw):
    """Random smooth pale colours, at 50 frames a second after a first that lasts longer."""
    middle, dtype = (512, np.uint16) if "10" in pixel_format else (128, np.uint8)
    pictures = []
    for values in smooth_video(frames, H, W).numpy():
        frame = plane_frame(pixel_format, W, H, [0, 0, 0])
        for plane, x, reach in zip(frame.planes, values, (0.5, 0.1, 0.1), strict=True):
            coded = middle * (1 + reach * x[:: H // plane.height, :: W // plane.width])
            np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width] = coded.round()
        pictures.append(frame)
    times = [0, *range(5, 2 * frames + 3, 2)]
    return write_clip(path, pictures, options=kw.pop("options", LOSSLESS), times=times, time_base=Fraction(1, 100), rate=50,
                      tags=tags(transfer), **kw)  # fmt: skip


def read(path):
    with VideoReader(path, hdr="keep") as video:
        return video, list(video)


def tags_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        c = stream.codec_context
        return c.name, c.pix_fmt, c.colorspace, c.color_range, c.color_primaries, c.color_trc


def written(path, source, crf=None, lossless=False):
    video, frames = read(source)
    with VideoWriter(path, video.info, width=W, height=H, crf=crf, lossless=lossless) as out:
        for frame in frames:
            out.write(frame.rgb, frame.time)
    return out, frames


@pytest.mark.parametrize("transfer, primaries", [(PQ, BT2020), (HLG, BT2020), (SDR_2020, BT2020), (1, P3)])
def test_values_are_those_in_the_file(tmp_path, transfer, primaries):
    pictures = [plane_frame("yuv420p10le", 16, 6, [level, 512, 512]) for level in (700, 701)]
    path = write_clip(tmp_path / "a.mkv", pictures, tags=tags(transfer, primaries))
    video, frames = read(path)
    values = [(float(f.rgb.mean()) + 1) / 2 for f in frames]
    assert values == pytest.approx([(700 - 64) / 876, (701 - 64) / 876], abs=1e-5)
    assert video.info.is_wide and video.info.is_deep and video.notes == []
    assert not probe(path).is_wide
    with VideoReader(path) as mapped:
        changed = (next(iter(mapped)).rgb - frames[0].rgb).abs().max()
    assert (changed > 0.02) == (transfer in (PQ, HLG))  # grey is grey in every gamut


def test_sdr_is_read_and_written_as_without(tmp_path):
    path = write_clip(tmp_path / "a.mkv", list(to_bytes(smooth_video(2, H, W))), codec="libx264", pixel_format="yuv420p")
    video, frames = read(path)
    assert not video.info.is_wide and not video.info.is_deep
    with VideoReader(path) as other:
        assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(frames, other, strict=True))
    written(tmp_path / "b.mp4", path)
    assert tags_of(tmp_path / "b.mp4") == ("h264", "yuv420p", 1, 1, 1, 1)


@pytest.mark.parametrize("transfer", [PQ, HLG, SDR_2020])
def test_lossless_keeps_values_times_and_tags(tmp_path, transfer):
    frames = written(tmp_path / "b.mkv", clip(tmp_path / "a.mkv", transfer=transfer), lossless=True)[1]
    back = read(tmp_path / "b.mkv")[1]
    for a, b in zip(frames, back, strict=True):
        assert (a.rgb - b.rgb).abs().max() <= 1 / 65535 + 1e-6 and a.time == b.time
    assert tags_of(tmp_path / "b.mkv") == ("ffv1", "gbrp16le", 0, 2, BT2020, transfer)


@pytest.mark.parametrize("name", ["b.mp4", "b.mov", "b.mkv"])
@pytest.mark.parametrize("transfer", [PQ, HLG, SDR_2020])
def test_lossy_output_is_hevc_of_ten_bits_with_the_tags_of_the_input(tmp_path, name, transfer):
    out, frames = written(tmp_path / name, clip(tmp_path / "a.mkv", transfer=transfer), crf=4)
    assert tags_of(tmp_path / name) == ("hevc", "yuv420p10le", BT2020, 1, BT2020, transfer)
    assert any("kept as they are, and written as HEVC of 10 bits" in note for note in out.notes)
    video, back = read(tmp_path / name)
    assert [f.time for f in back] == [f.time for f in frames] and video.info.bit_depth == 10
    grey = [torch.stack([f.rgb.mean(0) for f in x]) for x in (frames, back)]
    assert (grey[0] - grey[1]).abs().mean() < 2 / 255


def test_eight_bits_become_ten(tmp_path):
    written(tmp_path / "b.mp4", clip(tmp_path / "a.mkv", "yuv444p", transfer=SDR_2020))
    assert tags_of(tmp_path / "b.mp4")[:3] == ("hevc", "yuv420p10le", BT2020)
    info = read(tmp_path / "a.mkv")[0].info
    fine = torch.full((3, 2, 2), 0.001)
    assert (as_stored(fine, info) - fine).abs().max() < 1 / 32767 < (as_stored(fine, probe(info.path)) - fine).abs().max()


def test_what_was_tone_mapped_is_tagged_bt709(tmp_path):
    with VideoReader(clip(tmp_path / "a.mkv")) as video, VideoWriter(tmp_path / "b.mp4", video.info, width=W, height=H) as out:
        for frame in video:
            out.write(frame.rgb, frame.time)
    assert tags_of(tmp_path / "b.mp4") == ("h264", "yuv420p", 1, 1, 1, 1)


@pytest.mark.parametrize("matrix", ["bt709", "bt2020", "bt601"])
def test_ten_bit_samples_are_coded_back_exactly(matrix):
    colour = Colour(matrix=matrix, transfer="pq", primaries="bt2020")
    frame = plane_frame("yuv444p10le", 16, 4, [600, 500, 530])
    np.frombuffer(frame.planes[0], np.uint16)[: 16 * 4] = np.arange(64) + 500
    rgb = to_rgb(frame, colour, False, to_sdr=False)[0]
    back = to_yuv_frame(rgb, "yuv444p10le", colour=colour)
    for a, b in zip(frame.planes, back.planes, strict=True):
        assert bytes(a) == bytes(b)


@pytest.mark.parametrize("siting", ["topleft", "left"])
def test_halved_chroma_lies_where_it_is_read(siting):
    colour = Colour(matrix="bt2020", transfer="pq", primaries="bt2020", siting=siting)
    frame = plane_frame("yuv420p10le", 32, 24, [500, 512, 512])
    for plane, slope in zip(frame.planes[1:], (np.arange(12)[:, None], np.arange(16)[None]), strict=True):
        np.frombuffer(plane, np.uint16).reshape(12, -1)[:, :16] = 480 + 6 * slope
    back = to_yuv_frame(to_rgb(frame, colour, False, to_sdr=False)[0], "yuv420p10le", colour=colour)
    for a, b in zip(frame.planes, back.planes, strict=True):
        x, y = (np.frombuffer(p, np.uint16).reshape(p.height, -1)[1:-1, 1 : p.width - 1].astype(int) for p in (a, b))
        assert np.abs(x - y).max() == 0


def test_mastering_display_and_light_levels_go_along(tmp_path):
    light = LightData("G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)", "1000,400")
    said = f"log-level=error:cutree=0:master-display={light.mastering}:max-cll={light.content}"
    source = clip(tmp_path / "a.mp4", "yuv420p10le", codec="libx265", options={"x265-params": said})
    assert probe(source).light == light
    written(tmp_path / "b.mkv", source)
    assert probe(tmp_path / "b.mkv").light == light
    written(tmp_path / "c.mp4", clip(tmp_path / "plain.mkv"))
    assert probe(tmp_path / "c.mp4").light == LightData()


@pytest.mark.parametrize(
    "name, size, message",
    [
        ("b.webm", (W, H), r"\.webm \(VP9 of 8 bits\) cannot hold kept HDR \(pq, bt2020\), got b\.webm; use \.mp4, \.mov or"),
        ("frames", (W, H), r"a folder of PNG frames cannot hold kept HDR \(pq, bt2020\), got frames; use .*--hdr tone-map"),
        ("b.mp4", (14, H), r"written as HEVC of 16 px a side or more, got 14x32; use a larger size or lossless \.mkv"),
        ("b.mp4", (W, 15), r"written as HEVC of 16 px a side or more, got 48x15"),
    ],
)
def test_what_cannot_hold_it_is_refused(tmp_path, name, size, message):
    like = info_like(hdr="keep", bit_depth=10, colour=Colour(matrix="bt2020", transfer="pq", primaries="bt2020"))
    with pytest.raises(InputError, match=message) as refused:
        VideoWriter(tmp_path / name, like, width=size[0], height=size[1])
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("w, h", [(16, 16), (17, 16), (37, 23), (62, 34)])
def test_other_sizes_are_written(tmp_path, w, h):
    like = info_like(hdr="keep", bit_depth=10, colour=Colour(matrix="bt2020", transfer="hlg", primaries="bt2020"))
    with VideoWriter(tmp_path / "a.mp4", like, width=w, height=h) as out:
        for i, rgb in enumerate(smooth_video(3, h, w)):
            out.write(rgb, Fraction(i, 25))
    video, frames = read(tmp_path / "a.mp4")
    assert (video.info.width, video.info.height, len(frames), video.info.bit_depth) == (w, h, 3, 10)


def test_a_preview_is_tone_mapped(tmp_path):
    info = read(clip(tmp_path / "a.mkv"))[0].info
    signal = torch.full((3, H, W), 0.5081)  # PQ: 100 cd/m2
    with Preview(tmp_path / "b.mkv", replace(info, rate=Fraction(2)), (H, W)) as preview:
        for i in range(8):
            preview.write(signal * 2 - 1, Fraction(i, 2))
        with VideoReader(preview.path) as shown:
            seen = float((next(iter(shown)).rgb.mean() + 1) / 2)
    assert seen == pytest.approx(float(to_sdr(signal, "pq", "bt2020").mean()), abs=0.02)


@pytest.fixture
def genve(tmp_path, tiny_bundle, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "in.mkv", "yuv420p10le", sound="flac")

    def run(*arguments):
        code = main(["enhance", "in.mkv", "--bundle", str(tiny_bundle), "--scale", "1", "--device", "cpu", *arguments])
        return code, capsys.readouterr().err.splitlines()

    return run


def test_enhance_keeps_it_on_request(genve, tmp_path):
    code, err = genve("-o", "kept.mp4", "--hdr", "keep")
    assert code == 0 and not any("tone mapped" in line for line in err) and any("HEVC of 10 bits" in line for line in err)
    assert tags_of("kept.mp4") == ("hevc", "yuv420p10le", BT2020, 1, BT2020, PQ)
    assert genve("-o", "kept.mkv", "--hdr", "keep", "--lossless")[0] == 0
    source, made = read("in.mkv")[1], read("kept.mkv")[1]
    assert [f.time for f in made] == [f.time for f in source]
    # low frequencies are those of the input, in the values of the file: those of an SDR picture are far from them
    difference = torch.stack([a.rgb - b.rgb for a, b in zip(source, made, strict=True)]).mean((2, 3)).abs().max()
    with VideoReader("in.mkv") as mapped:
        tone_mapped = torch.stack([a.rgb - b.rgb for a, b in zip(source, mapped, strict=True)]).mean((2, 3)).abs().max()
    assert difference < 4 / 255 < tone_mapped
    steps = (made[0].rgb + 1) * 127.5
    assert ((steps - steps.round()).abs() > 0.1).float().mean() > 0.5, "the pieces held no more than 8 bits"
    code, err = genve("-o", "mapped.mp4")
    assert code == 0 and any("tone mapped" in line for line in err) and tags_of("mapped.mp4")[-1] == 1


@pytest.mark.parametrize("output", ["b.webm", "frames"])
def test_enhance_refuses_before_any_work(genve, tmp_path, output):
    before = sorted(tmp_path.iterdir())
    code, err = genve("-o", output, "--hdr", "keep")
    assert code == 2 and len(err) == 1 and "cannot hold kept HDR (pq, bt2020)" in err[0]
    assert sorted(tmp_path.iterdir()) == before


def test_pieces_of_a_tone_mapped_run_are_not_taken_for_kept_ones(genve, monkeypatch):
    kept = Job.keep

    def stopped(self, piece, frames):
        kept(self, piece, frames)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Job, "keep", stopped)
        assert genve("-o", "out.mkv")[0] == 1
    code, err = genve("-o", "out.mkv", "--hdr", "keep")
    assert code == 0 and any("other settings or another version: begun anew" in line for line in err)
    assert tags_of("out.mkv")[-1] == PQ


def test_a_worker_keeps_it_too(tmp_path, tiny_bundle):
    video = clip(tmp_path / "in.mkv")
    Image.fromarray(to_bytes(smooth_video(1, H, W, seed=5))[0]).save(tmp_path / "good.png")
    enhancer = Enhancer(Models(load_bundle(tiny_bundle), "cpu"), EnhanceConfig(size=(H, W)))
    with VideoReader(video, hdr="keep") as reader:
        film, pictures, _ = assign(scan(reader, cuts=None), [(1, tmp_path / "good.png")], (H, W))
        (piece,) = pieces(enhancer, film)
        here = store_piece(tmp_path, 0, FilmRun(enhancer, reader, film, pictures).piece(piece), reader.info, (H, W))
    order = Order(video, Path(tiny_bundle), enhancer.config, "cpu", film.shots, [piece], pictures, "keep")
    worker = PieceWorker(threads=1)
    files = order.files()
    assert not any(worker.lacks(sent) for sent in files)
    worker.begin(order, files)
    assert next(worker.make(0))[0] == here.name  # it holds the hash of the file
    worker.end()
    worker.close()
    assert tags_of(here)[-2:] == (BT2020, PQ)
