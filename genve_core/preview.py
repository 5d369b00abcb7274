"""A small copy of the finished frames, in a file that players can open while it grows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .errors import InputError
from .media import VideoInfo
from .media.hdr import to_sdr
from .media.pixels import to_yuv_frame

SIDE = 640  # px, at most
TITLE = "GenVE preview"  # in the file: such a one may be replaced
TICK = Fraction(1, 90_000)
BT709, LIMITED = 1, 1
OPTIONS = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
# whole from its first bytes on, a fragment at every key frame, nothing to be put right in the end
FRAGMENTS = {"movflags": "+frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


def preview_path(output: str | Path) -> Path:
    """`new.mp4` -> `new.preview.mp4`, beside it."""
    path = Path(output)
    return path.with_name(f"{path.stem}.preview.mp4")


class Preview:
    """`with Preview(output, info, size) as preview: preview.write(rgb, time)`. The file is removed when the block ends.

    What was lost because it could not be written is told by `note`; the work never stops for it.
    """

    def __init__(self, output: str | Path, info: VideoInfo, size: tuple[int, int]):
        """info: of the input.   size: (h, w) of the frames. Raises InputError if the name is taken by another file."""
        self.path, self.note = preview_path(output), ""
        if self.path.exists() and not _is_preview(self.path):
            raise InputError(f"{self.path} is no preview of ours, but --preview would write there; move it, or leave "
                             f"--preview out")
        by = max(1.0, max(size) / SIDE)
        self._size = max(2, round(size[0] / by / 2) * 2), max(2, round(size[1] / by / 2) * 2)
        self._rate, self._info = max(1, round(info.rate)), info
        self._frames, self._container = 0, None

    def __enter__(self) -> Preview:
        self._try(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._container is not None:
            self._try(self._container.close)
        self.path.unlink(missing_ok=True)

    def write(self, rgb: Tensor, time: Fraction) -> None:
        """Add a finished frame (3, h, w) in [-1, 1]. It can be seen when the fragment of about a second is full."""
        if self._container is not None:
            self._try(self._write, rgb, time)

    def _open(self) -> None:
        import av

        self._container: Any = av.open(str(self.path), "w", format="mp4", options=FRAGMENTS)
        self._container.metadata["title"] = TITLE
        self._stream = self._container.add_stream("libx264", rate=self._rate, options={**OPTIONS, "g": str(self._rate)})
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = TICK
        context.colorspace = context.color_primaries = context.color_trc = BT709  # untagged, players would take another
        context.color_range = LIMITED

    def _write(self, rgb: Tensor, time: Fraction) -> None:
        small = F.interpolate(rgb.float().unsqueeze(0), size=self._size, mode="area")[0].clamp(-1, 1).cpu()
        if self._info.is_wide:  # to be looked at on any screen
            small = to_sdr((small + 1) / 2, self._info.colour.transfer, self._info.colour.primaries) * 2 - 1
        frame = to_yuv_frame(small, "yuv420p")
        frame.time_base, frame.pts = TICK, round(time / TICK)
        frame.colorspace, frame.color_range = BT709, LIMITED
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _try(self, call: Any, *args: object) -> None:
        try:
            call(*args)
        except (OSError, ValueError) as error:
            self._container, self.note = None, f"the preview {self.path} is left out from here on: {error}"


def _is_preview(path: Path) -> bool:
    import av

    try:
        with av.open(str(path)) as container:
            return container.metadata.get("title") == TITLE
    except (OSError, ValueError):
        return False
