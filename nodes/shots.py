"""Find Shots and Key Frames: where a clip is cut, and one shot of it for the rest of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..genve_core.errors import InputError
from .compat import advanced, schema
from .convert import RATE, file_behind, frames_of, images_of, read_video
from .run import Progress, explained, to_host
from .sockets import GraphShots, ShotsSocket

if TYPE_CHECKING:
    from pathlib import Path

    from ..genve_core.media.shots import Shot

THUMBNAIL = 192  # px


class GenVEFindShots(io.ComfyNode):
    """A reference that fits one shot is wrong for the next."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEFindShots",
            display_name="Find Shots and Key Frames",
            category="GenVE",
            description="Finds the cuts of a video and a sharp, central key frame for each shot, shows them as a strip, and "
                        "gives the frames of one shot to the rest of the graph.",
            search_aliases=["genve", "scene detection", "cut", "shot boundary", "key frame", "pyscenedetect", "split video"],
            is_output_node=True,
            inputs=[
                io.MultiType.Input("video", types=[io.Image, io.Video],
                                   tooltip="As IMAGE (frames) or VIDEO. The file of a VIDEO is read frame by frame: only the "
                                           "chosen shot is held in memory."),
                io.Int.Input("shot", default=0, min=0, max=100_000,
                             tooltip="Which shot to give out, counted from 0, as in the strip."),
                io.Float.Input("sensitivity", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="0.5 is PySceneDetect's own. Higher finds cuts between alike scenes too, lower passes "
                                       "over flashes and jolts. 0 to 1."),
                io.String.Input("key_frames", default="",
                                tooltip="Frames of the whole video, counted from 0 and separated by commas, to take as key "
                                        "frames of the shots that hold them: 12, 57. Empty: chosen."),
                advanced(io.Int.Input("shortest", default=4, min=1, max=1000,
                                      tooltip="Frames of the shortest shot; a cut that would leave less is passed over.")),
            ],
            outputs=[
                ShotsSocket.Output("shots", display_name="shots", tooltip="All shots with their key frames."),
                io.Image.Output("frames", display_name="IMAGE", tooltip="The frames of the chosen shot."),
                io.Int.Output("key_frame", display_name="key frame",
                              tooltip="Of the chosen shot, counted from the shot's first frame: for the nodes that get IMAGE."),
                io.Int.Output("start", display_name="start", tooltip="First frame of the chosen shot in the whole video."),
                io.Int.Output("end", display_name="end", tooltip="Last frame of the chosen shot in the whole video."),
                io.Int.Output("shot_count", display_name="count", tooltip="Number of shots."),
                io.Float.Output("frame_rate", display_name="frame rate",
                                tooltip="Frames per second, for Create Video; 25 for an IMAGE, which has none."),
                io.Image.Output("strip", display_name="strip",
                                tooltip="The first, key and last frame of every shot, with their numbers in the whole video."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, video, shot: int, sensitivity: float, key_frames: str, shortest: int) -> io.NodeOutput:
        from ..genve_core.media.shots import ShotConfig, ShotFinder, with_keys
        from ..genve_core.reference.key_frame import parse_numbers

        source = _open(video)
        finder = ShotFinder(ShotConfig(sensitivity, shortest))
        progress = Progress({"look": 1.0})
        for done, frame in enumerate(source.frames(), 1):
            finder.add(frame)
            progress("look", done, max(source.count, done))
        shots = with_keys(finder.shots(), parse_numbers(key_frames, "key frames"))
        if not 0 <= shot < len(shots):
            raise InputError(f"shot {shot} is not in the video, which has {len(shots)}; choose from 0 to {len(shots) - 1}")
        chosen, strip = shots[shot], _strip(shots, source)
        return io.NodeOutput(GraphShots(tuple(shots), shots[-1].stop), source.images(chosen.start, chosen.stop),
                             chosen.key - chosen.start, chosen.start, chosen.stop - 1, len(shots), float(source.rate), strip,
                             ui=ui.PreviewImage(strip, cls=cls))


class _Images:
    """An IMAGE, looked at frame by frame."""

    def __init__(self, images: Any, rate: Fraction = RATE):
        frames_of(images[:1], "video")  # refuses what is no IMAGE
        self.all, self.rate, self.count = images, rate, len(images)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """(3, h, w) in [-1, 1] each."""
        for i in range(self.count)[start:stop]:
            yield frames_of(self.all[i : i + 1])[0][0]

    def images(self, start: int, stop: int) -> Tensor:
        """Frames as an IMAGE."""
        return self.all[start:stop]


class _File:
    """The file of a VIDEO, decoded anew in each pass."""

    def __init__(self, path: Path):
        from ..genve_core.media import probe

        info = probe(path)
        self.path, self.rate, self.count = path, info.rate, info.frames or 0

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """(3, h, w) in [-1, 1] each."""
        from ..genve_core.media import VideoReader

        with VideoReader(self.path) as reader:
            for frame in reader.frames(start, stop):
                yield frame.rgb

    def images(self, start: int, stop: int) -> Tensor:
        """Frames as an IMAGE, with their alpha."""
        from ..genve_core.media import VideoReader

        with VideoReader(self.path) as reader:
            read = [*reader.frames(start, stop)]
        alpha = [frame.alpha for frame in read if frame.alpha is not None]
        return images_of(torch.stack([frame.rgb for frame in read]), torch.stack(alpha) if alpha else None)


def _open(video: Any) -> _Images | _File:
    """An IMAGE or VIDEO. Raises InputError for anything else."""
    if isinstance(video, Tensor):
        return _Images(video)
    path = file_behind(video)
    if path is not None:
        return _File(path)
    given = read_video(video)
    return _Images(images_of(given.frames, given.alpha), given.rate or RATE)


def _strip(shots: list[Shot], source: _Images | _File) -> Tensor:
    """A row for each shot: its first, key and last frame. An IMAGE of one picture."""
    from ..genve_core.evaluation.pictures import contact_sheet

    wanted = {i for shot in shots for i in (shot.start, shot.key, shot.stop - 1)}
    small = {i: _thumbnail(frame) for i, frame in enumerate(source.frames()) if i in wanted}
    cells = [[small[shot.start], small[shot.key], small[shot.stop - 1]] for shot in shots]
    labels = [f"{i}: frames {shot.start} to {shot.stop - 1}, key {shot.key}" for i, shot in enumerate(shots)]
    sheet = contact_sheet(cells, labels, ["first", "key frame", "last"], cell_width=THUMBNAIL)
    return to_host(sheet.movedim(0, -1).unsqueeze(0).contiguous())


def _thumbnail(frame: Tensor) -> Tensor:
    """A frame (3, h, w) in [-1, 1] as a small picture in [0, 1]."""
    from ..genve_core.evaluation.pictures import reduced_picture

    return (reduced_picture(frame, THUMBNAIL) + 1) / 2
