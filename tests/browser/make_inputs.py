"""The files that workflows ask for, small: a clip of 20 frames for every video, its good key frame for every picture, a
checkpoint of random weights for every other.

    python tests/browser/make_inputs.py FOLDER clip.mp4 picture.png ../models/checkpoints/sd.safetensors ...
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRAMES, KEY_FRAME = slice(20), 16  # of the sample, whose key frame it is too
WIDTH, HEIGHT = 88, 56  # px
VIDEOS = {".mp4", ".mov", ".mkv", ".webm"}


def make_inputs(folder: Path, names: list[str]) -> None:
    """Write each name into `folder` unless it is there: the same clip or the same picture."""
    sys.path.insert(0, str(ROOT / "demo"))
    import make_sample
    from PIL import Image
    from skimage.data import astronaut

    truth = make_sample.render(astronaut(), make_sample.camera(make_sample.FRAMES))
    truth = truth[:, 20 : 20 + HEIGHT * make_sample.SCALE, 48 : 48 + WIDTH * make_sample.SCALE]
    for path in (folder / name for name in names):
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in VIDEOS:
            make_sample.compress(make_sample.spoil(truth[FRAMES]), path)
        elif path.suffix == ".safetensors":
            make_checkpoint(path)
        else:
            Image.fromarray(truth[KEY_FRAME]).save(path)


def make_checkpoint(path: Path) -> None:
    """In ComfyUI's own process, as it imports its own `comfy`."""
    sys.path.insert(0, str(ROOT / "tests"))
    from host.server import COMFYUI

    sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu = True  # before anything else of comfy
    from host.tiny_models import write_checkpoint

    write_checkpoint(path)


if __name__ == "__main__":
    make_inputs(Path(sys.argv[1]), sys.argv[2:])
