"""Makes the pictures of the help pages, web/docs/pictures/*.jpg: each node at work on the sample of demo/make_sample.py.

    python tests/make_help_pictures.py [NODE ID ...]

Runs the nodes in the real ComfyUI (COMFYUI_PATH, else ~/comfy/ComfyUI), on the CPU: a few minutes. The pictures of Compare
and of the two Semantic Alignment nodes are of the front end: tests/browser/screenshots.mjs takes them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(ROOT / "tests")]

FOLDER = ROOT / "web" / "docs" / "pictures"
KEY, FAR = 16, 4  # frames of the sample: the key frame, and one that the camera has moved away from it
CELL, CELL_FEW = 240, 320  # px: width of a picture in a sheet of many or of few
QUALITY = 85


def nodes_in_host() -> Callable[..., tuple[Any, ...]]:
    """`run("GenVEX", images=..., n=250)` -> the outputs of the node, run as the host would; widgets have defaults."""
    from host.server import COMFYUI, why_not

    if reason := why_not():
        raise SystemExit(reason)
    sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu, args.base_directory = True, tempfile.mkdtemp(prefix="genve-pictures-")
    from comfy_api_recorder import load_nodes, load_pack

    classes = {node.GET_SCHEMA().node_id: node for node in load_nodes(load_pack("genve_pack"))}

    def run(node_id: str, **inputs: Any) -> tuple[Any, ...]:
        node = classes[node_id]
        widgets = {i.id: i.default for i in node.GET_SCHEMA().inputs if getattr(i, "default", None) is not None}
        with torch.inference_mode():
            return node.PREPARE_CLASS_CLONE(None).execute(**{**widgets, **inputs}).result

    return run


class Sample:
    """The sample, and what the graph makes of it, each once. IMAGEs are (f, h, w, 3) in [0, 1]."""

    def __init__(self, run: Callable[..., tuple[Any, ...]], folder: Path):
        import make_sample

        from genve_core.media import VideoReader

        make_sample.make_sample(folder)
        with VideoReader(folder / "sample.mp4") as video:
            self.poor = torch.stack([(frame.rgb.movedim(0, -1) + 1) / 2 for frame in video])
        with Image.open(folder / "key_frame.png") as picture:
            self.good = torch.from_numpy(np.asarray(picture).copy()).unsqueeze(0) / 255
        self.run = run

    @cached_property
    def bundle(self) -> tuple[Any, Any]:
        return self.run("GenVELoadBundle")

    @cached_property
    def encoded(self) -> tuple[Any, ...]:
        """Z, the up-scaled frames, ..."""
        return self.run("GenVEUpscaleEncode", video=self.poor, bundle=self.bundle[0])

    @property
    def shared(self) -> dict[str, Any]:
        return {"images": self.encoded[1], "bundle": self.bundle[0], "key_frame": KEY}

    @cached_property
    def given(self) -> tuple[Any, ...]:
        """The good key frame as the reference."""
        return self.run("GenVEReferenceFromImage", image=self.good, **self.shared)

    @cached_property
    def flow(self) -> tuple[Any, ...]:
        return self.run("GenVEOpticalFlow", **self.shared)

    def noised(self, n: int) -> tuple[Any, ...]:
        return self.run("GenVENoiseAugmentation", z=self.encoded[0], reference=self.given[0], n=n)

    def carried(self, n: int) -> tuple[Any, ...]:
        return self.run("GenVETemporalAugmentation", y_n=self.noised(n)[1], flow=self.flow[0])

    def finished(self, strength: float) -> Tensor:
        """Frames of the whole graph."""
        z_n, Y_n = self.noised(250)[0], self.carried(250)[0]
        (guidance,) = self.run("GenVELCAController", z_n=z_n, carried_y_n=Y_n, bundle=self.bundle[0], strength=strength)
        return self.run("GenVEVideoDiffuserSampler", z=self.encoded[0], guidance=guidance)[1]

    def decoded(self, latent: dict[str, Any], frame: int) -> Tensor:
        """One frame of a LATENT by the bundle's VAE, as ComfyUI's VAE Decode does it."""
        with torch.inference_mode():
            return self.bundle[1].decode(latent["samples"][frame : frame + 1])[0]


Picture = Tensor  # (h, w, 3) in [0, 1]


def load_bundle(s: Sample) -> Picture:
    with torch.inference_mode():
        latent = {"samples": s.bundle[1].encode(s.good)}
    return sheet(CELL_FEW, ("a good frame", s.good[0]), ("through the bundle's VAE", s.decoded(latent, 0)))


def upscale_encode(s: Sample) -> Picture:
    poor = s.poor[KEY].repeat_interleave(4, 0).repeat_interleave(4, 1)
    return sheet(CELL_FEW, ("a frame of the clip, 112x80 px", poor), ("up-scaled, 448x320 px", s.encoded[1][KEY]))


def semantic_reference(s: Sample) -> Picture:
    _, made = s.run("GenVESemanticReference", z=s.encoded[0], **s.shared)
    return sheet(CELL_FEW, ("the up-scaled key frame", s.encoded[1][KEY]), ("the reference", made[0]))


def reference_from_image(s: Sample) -> Picture:
    wider = torch.cat([s.good[:, :, :80].flip(2), s.good, s.good[:, :, -80:].flip(2)], dim=2)
    tinted = wider * torch.tensor([1.0, 0.92, 0.7])
    _, used = s.run("GenVEReferenceFromImage", image=tinted, **s.shared)
    return sheet(CELL, ("the up-scaled key frame", s.encoded[1][KEY]), ("the picture given", tinted[0]), ("as used", used[0]))


def optical_flow(s: Sample) -> Picture:
    return sheet(CELL, *((f"frame {i}", s.flow[1][i]) for i in (0, 10, 14, 31)))


def noise_augmentation(s: Sample) -> Picture:
    return sheet(CELL, *((f"n = {n}", s.decoded(s.noised(n)[0], KEY)) for n in (0, 100, 250, 600)))


def temporal_augmentation(s: Sample) -> Picture:
    carried, validity = s.carried(0)
    seen = validity[FAR].unsqueeze(-1).expand(-1, -1, 3)
    return sheet(CELL, (f"frame {FAR}, up-scaled", s.encoded[1][FAR]), ("Y_n there, decoded (n = 0)", s.decoded(carried, FAR)),
                 ("validity", seen))


def lca_controller(s: Sample) -> Picture:
    return sheet(CELL, ("input, up-scaled", detail(s.encoded[1][FAR])),
                 *((f"strength {strength}", detail(s.finished(strength)[FAR])) for strength in (0.0, 0.5, 1.0)))


def sampler(s: Sample) -> Picture:
    return sheet(CELL_FEW, (f"frame {FAR}, up-scaled", s.encoded[1][FAR]), ("finished", s.finished(1.0)[FAR]))


def enhance_video(s: Sample) -> Picture:
    made = s.run("GenVEEnhanceVideo", video=s.poor, key_frame=KEY)[0]
    given = s.run("GenVEEnhanceVideo", video=s.poor, key_frame=KEY, reference=s.good)[0]
    return sheet(CELL, (f"frame {FAR}, bicubic", s.encoded[1][FAR]), ("no reference given", made[FAR]),
                 (f"a good frame {KEY} given", given[FAR]))


def preclean(s: Sample) -> Picture:
    fields = s.poor[:, ::2].repeat_interleave(2, dim=1)  # of an old camera: every second line is the one above
    cleaned, bundle = s.run("GenVEPreclean", video=fields, bundle=s.bundle[0], preclean=1.0)
    finished = [s.run("GenVEEnhanceVideo", video=video, bundle=bundle, key_frame=KEY)[0][KEY]
                for video, bundle in ((fields, s.bundle[0]), (cleaned, bundle))]
    poor = s.run("GenVEUpscaleEncode", video=fields, bundle=s.bundle[0])[1][KEY]
    return sheet(CELL, ("half of the lines, bicubic", detail(poor)), ("without", detail(finished[0])),
                 ("preclean 1", detail(finished[1])))


def attention_preview(s: Sample) -> Picture:
    Z_n, Y_n = s.noised(250)[0], s.carried(250)[0]
    (shown,) = s.run("GenVEAttentionPreview", z_n=Z_n, carried_y_n=Y_n, bundle=s.bundle[0], frame=FAR, x=0.6, y=0.4)
    return shown[0]


def find_shots(s: Sample) -> Picture:
    two = torch.cat([s.poor[:16], s.poor[16:].flip(2)])  # a mirrored half: a cut
    return s.run("GenVEFindShots", video=two)[-1][0]


def metrics(s: Sample) -> Picture:
    return s.run("GenVEMetrics", result=s.finished(1.0), source=s.poor, flow=s.flow[0])[-1][0]


def noise_sweep(s: Sample) -> Picture:
    return s.run("GenVENoiseSweep", z=s.encoded[0], reference=s.given[0], flow=s.flow[0], bundle=s.bundle[0],
                 levels="0, 250, 600", cell_width=CELL)[0][0]


PICTURES: dict[str, Callable[[Sample], Picture]] = {
    "GenVELoadBundle": load_bundle,
    "GenVEUpscaleEncode": upscale_encode,
    "GenVESemanticReference": semantic_reference,
    "GenVEReferenceFromImage": reference_from_image,
    "GenVEOpticalFlow": optical_flow,
    "GenVENoiseAugmentation": noise_augmentation,
    "GenVETemporalAugmentation": temporal_augmentation,
    "GenVELCAController": lca_controller,
    "GenVEVideoDiffuserSampler": sampler,
    "GenVEEnhanceVideo": enhance_video,
    "GenVEAttentionPreview": attention_preview,
    "GenVEFindShots": find_shots,
    "GenVEMetrics": metrics,
    "GenVENoiseSweep": noise_sweep,
    "GenVEPreclean": preclean,
}


def sheet(width: int, *cells: tuple[str, Tensor]) -> Picture:
    """Labelled pictures (h, w, 3) side by side."""
    from genve_core.evaluation.pictures import contact_sheet

    whole = contact_sheet([[picture.movedim(-1, 0) for _, picture in cells]], [""], [name for name, _ in cells],
                          cell_width=width)
    return whole.movedim(0, -1)


def detail(picture: Tensor) -> Tensor:
    """The middle, where the face is, at twice its size."""
    return picture[60:220, 120:344].repeat_interleave(2, 0).repeat_interleave(2, 1)


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    run = nodes_in_host()
    with tempfile.TemporaryDirectory() as folder:
        sample = Sample(run, Path(folder))
        for name in names or PICTURES:
            file = FOLDER / f"{name}.jpg"
            picture = (PICTURES[name](sample).clamp(0, 1) * 255).round().byte().cpu().numpy()
            Image.fromarray(picture).save(file, quality=QUALITY, optimize=True)
            sys.stdout.write(f"{file}: {picture.shape[1]}x{picture.shape[0]} px, {file.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
