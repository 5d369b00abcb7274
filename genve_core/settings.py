"""How to enhance: every setting of the pipeline, with its default. Checked when made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .conditioning.flow import FlowConfig
from .diffuser.windows import WindowConfig
from .errors import InputError
from .media.colour import ColourConfig
from .reference.user_image import Fit
from .video_codec import TilingConfig

# Of 704x448 a CPU decodes two at once 5 % faster than four: larger tensors go back to the system after every use.
CHUNK = 2
LARGE = 704 * 448  # pixels
# A GPU takes longer to be told what to do than to do it: of 1280x720 it is given eight frames at once.
FILLING = 4 * 1280 * 720  # pixels


@dataclass(frozen=True)
class EnhanceConfig:
    """How to enhance. None = what the bundle recommends."""

    scale: float = 4.0
    size: tuple[int, int] | None = None  # (h, w) in pixels; overrides `scale`
    key_frame: int | None = None  # None = a sharp, central one is chosen
    noise_level: int | None = None  # n in [0, 1000): small keeps the input, large lets detail be invented
    reference_strength: float = 1.0  # 0 = exactly as without any reference
    preclean: float = 0.0  # share of what a first pass at the clip's own size changes; 0 = no such pass, see `preclean`
    dehalo: float = 0.0  # share of the rims at edges that is taken away, of cameras that sharpen; see `dehalo`
    supersample: bool = False  # without a picture given, work at twice the size, at most 4x, and reduce: crisper and slower
    steps: int | None = None
    seed: int = 0
    fit: Fit = "cover"  # of the user's reference: cover, contain, stretch
    match_colour: bool = True  # give the user's reference the key frame's colours
    align: bool = True  # move a reference that lies beside the key frame onto it, and do not use an unrelated one
    flow: FlowConfig = field(default_factory=FlowConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)
    colour: ColourConfig = field(default_factory=ColourConfig)
    steadiness: float = 1.0  # weight of each neighbour in the final fusion along the motion; 0 = off, < 1 = no views
    segment: int = 96  # frames of a shot worked on together, about: what memory depends on, and what a resume repeats
    chunk: int = CHUNK  # frames encoded or decoded together; up to four times as many where that is faster, see `at_once`
    precision: str = "auto"  # "auto": bf16 where it is native, else float32; or "float32", "bf16"

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 8:
            raise InputError(f"scale must be above 0 and at most 8, got {self.scale}")
        if self.size is not None and (min(self.size) < 8 or max(self.size) > 16384):
            raise InputError(f"size must be 8 to 16384 px a side, got {self.size[1]}x{self.size[0]}")
        if self.noise_level is not None and not 0 <= self.noise_level < 1000:
            raise InputError(f"noise level must be in [0, 999], got {self.noise_level}")
        if not 0 <= self.reference_strength <= 1:
            raise InputError(f"reference strength must be in [0, 1], got {self.reference_strength}")
        if not 0 <= self.preclean <= 1:
            raise InputError(f"preclean must be in [0, 1], got {self.preclean}")
        if not 0 <= self.dehalo <= 1:
            raise InputError(f"dehalo must be in [0, 1], got {self.dehalo}")
        if not 0 <= self.steadiness <= 1:
            raise InputError(f"steadiness must be in [0, 1], got {self.steadiness}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps must be 1 or more, got {self.steps}")
        if self.segment < 1:
            raise InputError(f"segment must be 1 frame or more, got {self.segment}")
        if self.precision not in ("auto", "float32", "bf16"):
            raise InputError(f"precision must be auto, float32 or bf16, got {self.precision!r}")

    def output_size(self, h: int, w: int) -> tuple[int, int]:
        """(h, w) of the output for frames of h x w pixels. Raises InputError if that leaves nothing."""
        size = self.size or (round(h * self.scale), round(w * self.scale))
        replace(self, size=size)
        return size


def at_once(size: tuple[int, int], chunk: int, accelerated: bool = False) -> int:
    """How many frames of `size` = (h, w) are worked on together: of small ones more, or calls would take much of the time.

    accelerated: on a GPU with memory of its own. But 1 is one: it is what is left to try when memory has run out.
    """
    most = FILLING if accelerated else LARGE
    return chunk * min(4, max(1, most // (size[0] * size[1]))) if chunk > 1 else chunk
