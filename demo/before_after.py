"""Put one frame of a poor video beside its better versions, with a detail of each below, as one labelled picture.

    python demo/before_after.py poor.mp4 --show "GenVE=enhanced.mp4" --show "truth=truth/" -o before_after.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genve_core.errors import InputError
from genve_core.media import VideoReader
from genve_core.media.eight_bit import as_bytes
from genve_core.video_codec import upsample

COLUMN = 448  # px, width of every column
DETAIL = (160, 224)  # (h, w) of the detail in pixels of the result; shown enlarged
LABEL = 28  # px


def read_frame(path: Path, index: int) -> Tensor:
    """Frame `index` of a video or a folder of images, (3, h, w) in [-1, 1]."""
    with VideoReader(path) as video:
        for frame in video.frames(index, index + 1):
            return frame.rgb
    raise InputError(f"{path} has no frame {index}; choose another --frame")


def picture(columns: dict[str, Tensor]) -> Image.Image:
    """Label -> frame (3, h, w) in [-1, 1], all brought to the size of the second one: the poor one by bicubic."""
    h, w = list(columns.values())[1].shape[-2:]
    shown = [_sheet(name, upsample(frame[None, None], (h, w))[0, 0]) for name, frame in columns.items()]
    return Image.fromarray(np.concatenate(shown, axis=1))


def _sheet(name: str, frame: Tensor) -> np.ndarray:
    h, w = frame.shape[-2:]
    rgb = Image.fromarray(as_bytes(frame[None])[0])
    whole = rgb.resize((COLUMN, max(1, round(h * COLUMN / w))), Image.Resampling.LANCZOS)
    dh, dw = min(DETAIL[0], h), min(DETAIL[1], w)
    top, left = (h - dh) // 2, (w - dw) // 2
    detail = rgb.crop((left, top, left + dw, top + dh))
    detail = detail.resize((COLUMN, max(1, round(dh * COLUMN / dw))), Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (COLUMN, LABEL + whole.height + detail.height), "white")
    ImageDraw.Draw(sheet).text((6, 5), name, "black", ImageFont.load_default(16))
    sheet.paste(whole, (0, LABEL))
    sheet.paste(detail, (0, LABEL + whole.height))
    return np.asarray(sheet)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Put one frame of a poor video beside its better versions.")
    parser.add_argument("poor", type=Path, help="the input; shown enlarged by bicubic")
    parser.add_argument("--show", action="append", required=True, metavar="LABEL=VIDEO", help="a column; may be repeated")
    parser.add_argument("--frame", type=int, help="which frame (default: at three quarters of the clip)")
    parser.add_argument("-o", "--output", type=Path, default=Path("before_after.png"))
    args = parser.parse_args(arguments)
    versions = [text.split("=", 1) for text in args.show]
    with VideoReader(versions[0][1]) as video:
        index = 3 * (video.info.frames or 1) // 4 if args.frame is None else args.frame
    columns = {"input, bicubic": read_frame(args.poor, index)}
    columns |= {label: read_frame(Path(path), index) for label, path in versions}
    picture(columns).save(args.output)
    print(f"{args.output}: frame {index}")


if __name__ == "__main__":
    main()
