import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from media_clips import info_like, packets, smooth_video, to_bytes, write_clip

from genve_core.errors import InputError
from genve_core.media import VideoReader, VideoWriter

resource = pytest.importorskip("resource") if os.name == "posix" else None


def write(path, video, like=None, times=None, alpha=None, **kw):
    f, _, h, w = video.shape
    like = like or info_like(frames=f)
    with VideoWriter(path, like, width=w, height=h, **kw) as out:
        for i in range(f):
            out.write(video[i], times[i] if times else i / like.rate, None if alpha is None else alpha[i])
    return out


def read(path):
    reader = VideoReader(path)
    return reader, list(reader)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("name, kw", [("a.mkv", {"lossless": True}), ("frames", {})])
@pytest.mark.parametrize("depth, error", [(8, 0.5 / 127.5), (10, 0.5 / 32767.5)])
def test_lossless_outputs_differ_by_rounding_only(tmp_path, name, kw, depth, error):
    video = smooth_video()
    alpha = torch.rand(5, 23, 37, generator=torch.Generator().manual_seed(1))
    write(tmp_path / name, video, info_like(bit_depth=depth, has_alpha=True), alpha=alpha, **kw)
    reader, frames = read(tmp_path / name)
    assert torch.stack([f.rgb for f in frames]).sub(video).abs().max() <= error + 1e-6
    assert torch.stack([f.alpha for f in frames]).sub(alpha).abs().max() <= error / 2 + 1e-6
    assert [f.time for f in frames] == [Fraction(i, 25) for i in range(5)]
    assert reader.notes == [] and names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
@pytest.mark.parametrize("h, w", [(23, 37), (24, 38), (8, 8), (2, 3), (1, 1), (24, 37)])
def test_every_size_comes_out_exactly_with_every_frame(tmp_path, name, h, w):
    video = smooth_video(3, h, w)
    write(tmp_path / name, video)
    reader, frames = read(tmp_path / name)
    assert (reader.info.width, reader.info.height, len(frames)) == (w, h, 3)
    assert reader.info.frames == 3 and reader.info.rate == 25


@pytest.mark.parametrize("name, grey_error", [("a.mp4", 0.012), ("a.webm", 0.02)])
def test_lossy_outputs_keep_colour_and_are_tagged_bt709_limited(tmp_path, name, grey_error):
    flat = torch.tensor([0.8, -0.4, 0.1]).view(1, 3, 1, 1).expand(2, 3, 24, 38)
    write(tmp_path / name, flat)
    reader, frames = read(tmp_path / name)
    assert frames[0].rgb.sub(flat[0]).abs().max() <= 2 * grey_error
    with av.open(str(tmp_path / name)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (
            1,
            1,
            1,
            1,
        )
    assert (reader.info.colour.matrix, reader.info.colour.range) == ("bt709", "limited")


def test_bt601_primaries_pass_through_with_their_tag(tmp_path):
    from genve_core.media.pixels import Colour

    write(tmp_path / "a.mp4", smooth_video(1, 24, 38), info_like(colour=Colour(primaries="smpte170m")))
    assert VideoReader(tmp_path / "a.mp4").info.colour.primaries == "smpte170m"


def test_odd_h264_and_lost_alpha_are_told(tmp_path):
    out = write(tmp_path / "a.mp4", smooth_video(1), info_like(has_alpha=True))
    assert any("37x23 px is odd" in note for note in out.notes)
    assert any("no transparency" in note for note in out.notes)
    assert write(tmp_path / "b.mp4", smooth_video(1, 24, 38)).notes == []


def test_webm_keeps_alpha(tmp_path):
    alpha = torch.linspace(0, 1, 48).expand(2, 32, 48)
    write(tmp_path / "a.webm", smooth_video(2, 32, 48), info_like(has_alpha=True), alpha=alpha)
    reader, frames = read(tmp_path / "a.webm")
    assert reader.info.has_alpha and frames[1].alpha.sub(alpha[1]).abs().mean() < 0.02


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_variable_frame_times_are_kept(tmp_path, name):
    times = [Fraction(t, 3000) for t in (0, 101, 202, 1701, 1803)]
    write(tmp_path / name, smooth_video(5, 24, 38), info_like(time_base=Fraction(1, 3000)), times)
    got = [f.time for f in read(tmp_path / name)[1]]
    if name in ("a.mp4", "a.mov"):
        assert got == times
    else:  # Matroska counts milliseconds
        assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(got, times, strict=True)), got


def test_ntsc_rate_is_kept(tmp_path):
    rate = Fraction(30000, 1001)
    write(tmp_path / "a.mp4", smooth_video(5, 24, 38), info_like(rate=rate, time_base=1 / rate))
    reader, frames = read(tmp_path / "a.mp4")
    assert reader.info.rate == rate and frames[4].time == 4 / rate and not reader.info.variable_rate
    assert reader.info.duration == 5 / rate


def source_with(tmp_path, sound, name="in.mkv"):
    pictures = list(to_bytes(smooth_video(10, 24, 38)))
    return write_clip(tmp_path / name, pictures, codec="libx264", pixel_format="yuv420p", sound=sound)


@pytest.mark.parametrize(
    "sound, name, kept",
    [
        ("aac", "a.mp4", True),
        ("aac", "a.mov", True),
        ("aac", "a.mkv", True),
        ("aac", "a.webm", False),
        ("libopus", "a.webm", True),
        ("pcm_s16le", "a.mkv", True),
        ("pcm_s16le", "a.mov", True),
        ("libmp3lame", "a.mp4", True),
        ("wavpack", "a.mp4", False),
    ],
)
def test_sound_is_copied_bit_by_bit_or_its_loss_is_told(tmp_path, sound, name, kept):
    source = source_with(tmp_path, sound)
    video = smooth_video(10, 24, 38)
    with VideoReader(source) as reader:
        assert reader.info.has_audio
        out = write(tmp_path / name, video, reader.info, audio_from=source)
    assert len(read(tmp_path / name)[1]) == 10
    if kept:
        assert packets(tmp_path / name, "audio") == packets(source, "audio") and out.notes == []
    else:
        assert any("sound track" in note and name[1:] in note and "left out" in note for note in out.notes)


def test_sound_whose_name_is_not_utf_8_is_copied(tmp_path):
    source = source_with(tmp_path, "aac", "in.mp4")
    sound = packets(source, "audio")
    source.write_bytes(source.read_bytes().replace(b"SoundHandler", b"Micro l\xe9ger\xe9"))
    write(tmp_path / "a.mp4", smooth_video(10, 24, 38), audio_from=source)
    assert packets(tmp_path / "a.mp4", "audio") == sound


def test_a_file_that_starts_late_starts_at_zero_with_its_sound_in_step(tmp_path):
    pictures = list(to_bytes(smooth_video(10, 24, 38)))
    source = write_clip(
        tmp_path / "in.ts", pictures, codec="libx264", pixel_format="yuv420p", sound="libmp3lame",
        container_options={"output_ts_offset": "3600"},
    )  # fmt: skip
    reader, frames = read(source)
    assert 0 <= frames[0].time < Fraction(1, 5) and frames[9].time - frames[0].time == Fraction(9, 25)
    write(
        tmp_path / "a.mp4", smooth_video(10, 24, 38), reader.info, [f.time for f in frames], audio_from=source
    )

    def starts(path):
        with av.open(str(path)) as container:
            return [
                float(s.start_time * s.time_base)
                for s in (*container.streams.video, *container.streams.audio)
            ]

    (video_in, sound_in), (video_out, sound_out) = starts(source), starts(tmp_path / "a.mp4")
    assert video_in >= 3600 and video_out < 1
    assert sound_out - video_out == pytest.approx(sound_in - video_in, abs=0.001)


def test_subtitles_are_copied(tmp_path):
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nHello\n")
    source = tmp_path / "in.mkv"
    picture = write_clip(tmp_path / "v.mkv", list(to_bytes(smooth_video(10))), pixel_format="bgr0")
    with (
        av.open(str(source), "w") as out,
        av.open(str(picture)) as video,
        av.open(str(tmp_path / "s.srt")) as text,
    ):
        copies = [(origin, out.add_stream_from_template(origin.streams[0])) for origin in (video, text)]
        for origin, copy in copies:
            for packet in origin.demux():
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    write(tmp_path / "a.mkv", smooth_video(10), audio_from=source)
    assert packets(tmp_path / "a.mkv", "subtitles") == [b"Hello"]
    out = write(tmp_path / "a.mp4", smooth_video(10, 24, 38), audio_from=source)
    assert any("subtitle track" in note for note in out.notes)


def test_sound_ends_with_a_shortened_video_and_png_folders_tell_its_loss(tmp_path):
    source = source_with(tmp_path, "pcm_s16le")
    info = VideoReader(source).info
    write(tmp_path / "a.mkv", smooth_video(3, 24, 38), info, audio_from=source)
    seconds = sum(map(len, packets(tmp_path / "a.mkv", "audio"))) / 2 / 48000
    assert 3 / 25 <= seconds <= 3 / 25 + 1024 / 48000
    out = write(tmp_path / "frames", smooth_video(3, 24, 38), info, audio_from=source)
    assert any("no sound" in note for note in out.notes)


def test_png_folders_tell_that_times_are_lost(tmp_path):
    out = write(tmp_path / "frames", smooth_video(1), info_like(variable_rate=True))
    assert any("keeps no times" in note for note in out.notes)
    assert names(tmp_path / "frames") == ["frame_000000.png"]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "frames"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_a_failure_and_the_old_output_stays(tmp_path, name, error):
    write(tmp_path / name, smooth_video(1))
    before = [p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    with (  # noqa: PT012 - leaving the block is what is tested
        pytest.raises(error, match="in the middle"),
        VideoWriter(tmp_path / name, info_like(), width=37, height=23, overwrite=True) as out,
    ):
        out.write(smooth_video(1)[0], Fraction(0))
        assert len(names(tmp_path)) == 2, "it writes beside the old output"
        raise error("in the middle")
    assert names(tmp_path) == [name]
    assert [p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()] == before


@pytest.mark.parametrize("name", ["a.mp4", "frames"])
def test_overwriting_replaces_the_old_output(tmp_path, name):
    write(tmp_path / name, smooth_video(4))
    write(tmp_path / name, smooth_video(2), overwrite=True)
    assert len(read(tmp_path / name)[1]) == 2 and names(tmp_path) == [name]


def test_the_output_gets_ordinary_permissions(tmp_path):
    write(tmp_path / "a.mp4", smooth_video(1))
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a.mp4").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "name, kw, message",
    [
        (
            "a.avi",
            {},
            r"output a.avi ends in '.avi', which cannot be written; wanted .mp4, .mov, .mkv, .webm",
        ),
        ("a.png", {}, r"output a.png ends in '.png'.*leave the suffix out to write PNG frames"),
        ("a.mp4", {"lossless": True}, r"lossless video is written as .mkv, got a.mp4"),
        ("frames", {"lossless": True}, r"lossless video is written as .mkv, got frames"),
        ("a.webm", {"crf": 64}, r"crf must be 0 \(best\) to 51 for H.264, to 63 for VP9, got 64"),
        ("a.mp4", {"crf": 52}, r"crf must be 0 \(best\) to 51 for H.264, to 63 for VP9, got 52"),
        ("a.mp4", {"width": 0}, r"output size must be at least 1x1 px, got 0x23"),
        ("old.mp4", {}, r"old.mp4 exists already; give another name or allow overwriting"),
        ("old", {}, r"old exists already"),
        ("other", {"overwrite": True}, r"other holds files that are not frames of ours"),
        ("plain", {"overwrite": True}, r"plain is a file, but a folder was asked for"),
        ("none/a.mp4", {}, r"none does not exist; make it or give another path"),
        ("in.mp4", {"overwrite": True}, r"in.mp4 is the input itself"),
    ],
)
def test_bad_outputs_are_refused_before_any_work(tmp_path, name, kw, message):
    for old in ("old.mp4", "plain", "in.mp4"):
        (tmp_path / old).write_bytes(b"old")
    for folder, file in (("old", "frame_000000.png"), ("other", "thesis.doc")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message) as refused:
        VideoWriter(tmp_path / name, info_like(tmp_path / "in.mp4"), **{"width": 37, "height": 23, **kw})
    assert "\n" not in str(refused.value) and sorted(tmp_path.rglob("*")) == before


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **kw):
        raise PermissionError(errno.EACCES, "denied")

    # Tests may run as root, whom no folder refuses: the system call is made to.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=r"cannot be written to; allow writing or give another path"):
        VideoWriter(tmp_path / "a.mp4", info_like(), width=37, height=23)


@pytest.mark.parametrize("name, kw", [("a.mkv", {"lossless": True}), ("a.mp4", {"crf": 0}), ("frames", {})])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, name, kw):
    if resource is None:
        pytest.skip("needs a limit on file sizes")
    video = torch.rand(12, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"no space left for {name} in .*; free some or write elsewhere"):
            write(tmp_path / name, video, **kw)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_frames_that_make_no_sense_are_refused(tmp_path):
    rgb = torch.zeros(3, 23, 37)
    with pytest.raises(ValueError, match=r"no frame was written, so .*a.mp4 was not made"), \
            VideoWriter(tmp_path / "a.mp4", info_like(), width=37, height=23):  # fmt: skip
        pass
    out = VideoWriter(tmp_path / "a.mp4", info_like(), width=37, height=23)
    with pytest.raises(
        ValueError, match=r"rgb must have shape \(3, height, width\)=\(3, 23, 37\), got \(3, 37, 23\)"
    ):
        out.write(rgb.transpose(1, 2), Fraction(0))
    with pytest.raises(
        ValueError, match=r"alpha must have shape \(height, width\)=\(23, 37\), got \(22, 37\)"
    ):
        out.write(rgb, Fraction(0), rgb[0, 1:])
    with pytest.raises(ValueError, match=r"frame 0 holds NaN or infinite values"):
        out.write(rgb / 0, Fraction(0))
    out.write(rgb, Fraction(1))
    with pytest.raises(ValueError, match=r"frame times must increase, got 1 s after 1 s"):
        out.write(rgb, Fraction(1))
    out.abort()
    assert names(tmp_path) == []


def test_a_relative_path_and_a_trailing_slash_mean_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.mp4"), smooth_video(1))
    write("v1.5/", smooth_video(1))
    assert names(tmp_path) == ["a.mp4", "v1.5"] and names(tmp_path / "v1.5") == ["frame_000000.png"]
