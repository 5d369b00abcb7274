"""Pictures of the front end, made small for the repository.

    python tests/browser/shrink.py png FILE.png BYTES                     fewer colours, and if need be fewer pixels
    python tests/browser/shrink.py jpg FROM.png TO.jpg WIDTH              a JPEG, at most WIDTH wide
    python tests/browser/shrink.py square TOP.png GRAPH.png TO.jpg SIDE   a square JPEG: a detail above the whole graph
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageOps

QUALITY = 85
GROUND = "#202020"


def shrink(path: Path, most: int) -> None:
    """Rewrite a PNG with `most` bytes. Raises SystemExit if even an eighth of the pixels are too many."""
    whole = Image.open(path).convert("RGB")
    for scale in (1, 0.85, 0.7, 0.6, 0.5, 0.35):
        small = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
        for colours in (256, 128):
            small.quantize(colours).save(path, optimize=True)
            if path.stat().st_size <= most:
                return
    raise SystemExit(f"{path} cannot be made smaller than {most} bytes")


def as_jpeg(source: Path, target: Path, width: int) -> None:
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
    picture.save(target, quality=QUALITY, optimize=True)


def square(top: Path, graph: Path, target: Path, side: int) -> None:
    """The graph is fitted to the width; the detail fills what is left above it, or is fitted if it is much wider."""
    whole = Image.new("RGB", (side, side), GROUND)
    small = ImageOps.contain(Image.open(graph).convert("RGB"), (side, side // 2), Image.Resampling.LANCZOS)
    room = side - small.height
    detail = Image.open(top).convert("RGB")
    if detail.width * room > 1.5 * detail.height * side:
        shown = ImageOps.contain(detail, (side, room), Image.Resampling.LANCZOS)
    else:
        shown = ImageOps.fit(detail, (side, room), Image.Resampling.LANCZOS, centering=(0.5, 0))
    whole.paste(shown, (0, (room - shown.height) // 2))
    whole.paste(small, ((side - small.width) // 2, room))
    whole.save(target, quality=QUALITY, optimize=True)


def main(how: str, *rest: str) -> None:
    *files, number = rest
    {"png": shrink, "jpg": as_jpeg, "square": square}[how](*map(Path, files), int(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
