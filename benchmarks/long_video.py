"""Whether `genve enhance` keeps a long video's frames, times and sound, and takes no more memory at its end than before.

    python benchmarks/long_video.py [--clips FILE ...] [--frames 1000] [--size 96x64] [--shot 150] [OPTIONS OF genve enhance]

The video is made of the clips, reduced to `size`; each runs forwards and backwards for `shot` frames, then the next is cut
to. Without clips: a pan, a still scene and a fast pan of our own. Its frames are unevenly spaced in time, and its sound is
noise of our own. The command runs as a process of its own, at 2x to lossless .mkv; after each of its pieces the most memory
that it held during the piece is taken. Exit code 1 if frames, times or sound packets are not all as in the input, or if the
last tenth of the video took over 5 % more memory than the second to tenth hundredths. Needs Linux (/proc/PID/clear_refs).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import accumulate, cycle, islice
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.memory import resident  # noqa: E402
from benchmarks.timing import chip_name  # noqa: E402
from genve_core.film import scan  # noqa: E402
from genve_core.job import job_folder  # noqa: E402
from genve_core.media import VideoReader, probe  # noqa: E402

GAPS = (40, 17, 33, 100, 1, 50, 41)  # ms from a frame to the next, over and over; .mkv counts whole ms
HERTZ = 8000  # of the sound
MORE = 0.05  # by which memory may grow
Pieces = list[tuple[int, float]]  # frames of each piece, and the peak of memory in it in MiB


def main() -> int:
    args, options = parse()
    w, h = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "long.mkv", Path(folder) / "out.mkv"
        write_source(source, scenes(args.clips, h, w), args.frames, args.shot)
        options = ["--scale", "2", *options]
        begin = time.perf_counter()
        pieces = run(source, result, options, args.frames)
        seconds = time.perf_counter() - begin
        with VideoReader(source) as video:
            shots = len(scan(video).shots)
        print(f"{args.frames} frames of {args.size}, {' '.join(options)}, {shots} shots, {len(pieces)} pieces, "
              f"{seconds / args.frames:.3f} s per frame, {chip_name('cpu')}")
        wrong = [*differences(source, result), *growth(pieces)]
        if not wrong:
            print(f"as in the input: {len(frame_times(result))} frames, all times, {len(sound_packets(result))} sound packets")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def parse() -> tuple[argparse.Namespace, list[str]]:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("--clips", type=Path, nargs="*", default=[])
    p.add_argument("--frames", type=int, default=1000)
    p.add_argument("--size", default="96x64", help="of the input, WxH")
    p.add_argument("--shot", type=int, default=150, help="frames until the next clip is cut to")
    return p.parse_known_args()


def scenes(clips: list[Path], h: int, w: int) -> list[Tensor]:
    """Each (f, 3, h, w) in [-1, 1], of at most 48 frames."""
    if clips:
        found = []
        for clip in clips:
            with VideoReader(clip) as video:
                frames = torch.stack([frame.rgb for frame in video.frames(stop=48)])
            found.append(F.interpolate(frames, size=(h, w), mode="area"))
        return found
    made = []
    for seed, speed in enumerate((1, 0, 5)):
        coarse = torch.rand(1, 3, h // 6, (w + 48 * speed) // 6, generator=torch.Generator().manual_seed(seed))
        texture = F.interpolate(coarse * 2 - 1, size=(h, w + 48 * speed), mode="bicubic")[0].clamp(-1, 1)
        made.append(torch.stack([texture[..., speed * i : speed * i + w] for i in range(48)]))
    return made


def write_source(path: Path, parts: list[Tensor], frames: int, shot: int) -> None:
    """A lossless .mkv. parts: from `scenes`.   shot: frames that each is shown for."""
    pictures = [((part + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy() for part in parts]
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("ffv1", rate=25), out.add_stream("flac", rate=HERTZ, layout="mono")
        video.height, video.width = pictures[0].shape[1:3]
        video.pix_fmt, video.codec_context.time_base = "bgr0", Fraction(1, 1000)
        ms = 0
        for i, gap in enumerate(islice(cycle(GAPS), frames)):
            part = pictures[i // shot % len(pictures)]
            turns, at = divmod(i % shot, len(part) - 1)
            picture = part[len(part) - 1 - at if turns % 2 else at]
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = ms, Fraction(1, 1000)
            out.mux(video.encode(frame))
            noise = rng.integers(-3000, 3000, (1, gap * HERTZ // 1000), dtype=np.int16)  # no packet is like another
            heard = av.AudioFrame.from_ndarray(noise, "s16", "mono")
            heard.sample_rate, heard.pts, heard.time_base = HERTZ, ms * HERTZ // 1000, Fraction(1, HERTZ)
            out.mux(sound.encode(heard))
            ms += gap
        for stream in (video, sound):
            out.mux(stream.encode(None))


def run(source: Path, result: Path, options: list[str], frames: int) -> Pieces:
    """`genve enhance`, which writes a line for each finished piece and keeps it beside the output until the end."""
    command = [sys.executable, "-m", "genve_core", "enhance", str(source), "-o", str(result), "--lossless", *options]
    pieces: Pieces = []
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        proc = Path(f"/proc/{process.pid}")
        for line in process.stderr:
            if re.match(r"(\d+/\d+ )?decode: ", line):
                peak = resident("VmHWM", proc) / 2**20
                (proc / "clear_refs").write_text("5")  # sets the peak back to what is held now
                kept = next(job_folder(result).glob(f"{len(pieces):05}-*.mkv"), None)
                pieces.append((0 if kept is None else probe(kept).frames or 0, peak))
            elif "error" in line or "failed" in line:
                print(line, end="")
    if process.returncode:
        raise SystemExit(f"genve enhance ended with {process.returncode}")
    rest = frames - sum(own for own, _ in pieces[:-1])  # the last piece is gone by then
    return [*pieces[:-1], (rest, pieces[-1][1])]


def growth(pieces: Pieces) -> list[str]:
    """Prints the peaks. Returns a line if the last tenth took more memory than frames further ahead."""
    stops = list(accumulate(frames for frames, _ in pieces))
    total = stops[-1]

    def peak(first: int, stop: int) -> float:
        return max(most for (frames, most), end in zip(pieces, stops) if end - frames < stop and end > first)

    tenth = max(1, total // 10)
    print("peak memory by tenth of the video, MiB: "
          + " ".join(f"{peak(i, min(i + tenth, total)):.0f}" for i in range(0, tenth * 10, tenth)))
    early, late = peak(total // 100, tenth), peak(total - tenth, total)
    told = (f"peak memory of frames {total // 100} to {tenth} {early:.0f} MiB, of frames {total - tenth} to {total} {late:.0f} "
            f"MiB ({late / early - 1:+.1%})")
    print(told)
    return [told] if late > early * (1 + MORE) else []


def differences(source: Path, result: Path) -> list[str]:
    """A line for each thing in which the result is not as the source: frames, their times, the packets of its sound."""
    found = []
    before, after = frame_times(source), frame_times(result)
    if len(before) != len(after):
        found.append(f"{len(before)} frames went in, {len(after)} came out")
    elif moved := [i for i, pair in enumerate(zip(before, after)) if pair[0] != pair[1]]:
        i = moved[0]
        found.append(f"{len(moved)} frames have other times; frame {i} was at {float(before[i])} s, is at {float(after[i])} s")
    given, copied = sound_packets(source), sound_packets(result)
    if given != copied:
        same = sum(a == b for a, b in zip(given, copied))
        found.append(f"{len(given)} packets of sound went in, {len(copied)} came out, {same} of them in place and unchanged")
    return found


def frame_times(path: Path) -> list[Fraction]:
    """Seconds, of all frames that can be decoded."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time in s and contents of each packet of the first sound track; empty without one."""
    with av.open(str(path)) as container:
        tracks = container.streams.audio[:1]
        packets = container.demux(*tracks) if tracks else ()
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets if packet.size]


if __name__ == "__main__":
    sys.exit(main())
