"""Make a PNG smaller than a number of bytes: fewer colours, and if that is not enough, fewer pixels.

python tests/browser/shrink.py FILE BYTES
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image


def shrink(path: Path, most: int) -> None:
    """Rewrite `path`. Raises SystemExit if even an eighth of the pixels are too many."""
    whole = Image.open(path).convert("RGB")
    for scale in (1, 0.85, 0.7, 0.6, 0.5, 0.35):
        small = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
        for colours in (256, 128):
            small.quantize(colours).save(path, optimize=True)
            if path.stat().st_size <= most:
                return
    raise SystemExit(f"{path} cannot be made smaller than {most} bytes")


if __name__ == "__main__":
    shrink(Path(sys.argv[1]), int(sys.argv[2]))
