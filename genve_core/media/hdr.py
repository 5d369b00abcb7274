"""Wide-gamut and HDR pictures to the SDR BT.709 picture that everything else in GenVE works on.

Signal -> light (linear, 1.0 = SDR white) -> BT.709 primaries -> roll-off of what is brighter than white ->
signal.
Curves: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67 with the 1000 cd/m2 system gamma of BT.2100); SDR displays
are taken as pure 2.4 power (BT.1886). SDR white sits at 203 cd/m2 of an HDR picture (BT.2408).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SDR_WHITE_NITS = 203.0
HDR_PEAK_NITS = 1000.0  # what is brighter than this clips; HLG is defined for it, most PQ is graded for it
KNEE = 0.5  # linear light below which tone mapping changes nothing
DISPLAY_GAMMA = 2.4

# Chromaticities (x, y) of red, green, blue; all with the D65 white point.
_PRIMARIES = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "display-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


@dataclass(frozen=True)
class LightData:
    """What an HDR file says of its mastering display (SMPTE ST 2086) and its brightest picture (CTA-861.3)."""

    mastering: str = ""
    """As encoders take it, G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min): x, y in 1/50000, luminance in 1/10000 cd/m2. "": not said."""
    content: str = ""
    """Brightest pixel and brightest mean of a frame, "max,mean" in cd/m2. "": not said."""


def light_data(frame: Any) -> LightData:
    """That of an av.VideoFrame."""
    import numpy as np
    from av.sidedata.sidedata import Type

    try:
        display = frame.side_data.get(Type.MASTERING_DISPLAY_METADATA)
        content = frame.side_data.get(Type.CONTENT_LIGHT_LEVEL)
    except ValueError:  # PyAV 18 cannot list side data newer than itself
        return LightData()
    mastering = ""
    if display is not None:  # AVMasteringDisplayMetadata: rationals of R, G, B, white (x, y), of min, max, then two flags
        numbers = np.frombuffer(bytes(display), "<i4")[:22]
        top, bottom = numbers[:20:2], numbers[1:20:2]
        if numbers[20:].all() and bottom.all():
            (rx, ry, gx, gy, bx, by, wx, wy) = np.rint(top[:8] / bottom[:8] * 50_000).astype(int)
            low, high = np.rint(top[8:] / bottom[8:] * 10_000).astype(int)
            mastering = f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"
    numbers = [] if content is None else np.frombuffer(bytes(content), "<u4")[:2]
    return LightData(mastering, ",".join(map(str, numbers)))


def needs_conversion(transfer: str, primaries: str) -> bool:
    """True for HDR curves and for primaries clearly wider than BT.709; the small BT.601 differences pass
    through.
    """
    return transfer in ("pq", "hlg") or primaries in ("bt2020", "display-p3")


def to_sdr(signal: Tensor, transfer: str, primaries: str) -> Tensor:
    """Convert one RGB picture to SDR BT.709.

    signal: (3, h, w) in [0, 1], coded with `transfer` ("pq", "hlg", anything else counts as SDR) and
    `primaries`.
    Returns (3, h, w) in [0, 1]. An HDR curve without known primaries counts as BT.2020.
    """
    hdr = transfer in ("pq", "hlg")
    if hdr and primaries not in _PRIMARIES:
        primaries = "bt2020"
    light = {"pq": pq_to_light, "hlg": hlg_to_light}.get(transfer, _sdr_to_light)(signal)
    if primaries != "bt709":
        light = torch.einsum("ij,jhw->ihw", primaries_matrix(primaries), light)
    light = light.clamp(min=0)
    if hdr:
        light = tone_map(light)
    return light.clamp(max=1).pow(1 / DISPLAY_GAMMA)


def pq_to_light(signal: Tensor) -> Tensor:
    """ST 2084 EOTF: signal in [0, 1] to linear light, 1.0 = SDR white (203 cd/m2), at most 10000 / 203."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal.clamp(0, 1).pow(1 / m2)
    return ((root - c1).clamp(min=0) / (c2 - c3 * root)).pow(1 / m1) * (10000 / SDR_WHITE_NITS)


def hlg_to_light(signal: Tensor) -> Tensor:
    """HLG on a 1000 cd/m2 display (BT.2100: inverse OETF, then system gamma 1.2 on luminance), 1.0 = SDR
    white.
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = signal.clamp(0, 1)
    scene = torch.where(signal <= 0.5, signal.square() / 3, (((signal - c) / a).exp() + b) / 12)
    luminance = torch.einsum("c,chw->hw", torch.tensor([0.2627, 0.6780, 0.0593]), scene)
    return scene * luminance.clamp(min=1e-6).pow(0.2) * (HDR_PEAK_NITS / SDR_WHITE_NITS)


def tone_map(light: Tensor) -> Tensor:
    """Roll off highlights: the identity up to `KNEE`, then a smooth shoulder that takes the HDR peak to 1.

    light: (3, h, w), linear, >= 0. The curve acts on the largest channel and all three are scaled alike, so
    hue stays. With u = (x - knee) / (1 - knee) and U the same of the peak: y = knee + (1 - knee) u (1 + u /
    U^2) / (1 + u), which has slope 1 at the knee (extended Reinhard, moved to start there).
    """
    peak = (HDR_PEAK_NITS / SDR_WHITE_NITS - KNEE) / (1 - KNEE)
    brightest = light.amax(dim=0, keepdim=True)
    u = ((brightest - KNEE) / (1 - KNEE)).clamp(min=0, max=peak)
    shoulder = KNEE + (1 - KNEE) * u * (1 + u / peak**2) / (1 + u)
    scale = torch.where(brightest > KNEE, shoulder / brightest.clamp(min=KNEE), torch.ones_like(brightest))
    return light * scale


def primaries_matrix(source: str) -> Tensor:
    """(3, 3) matrix from linear RGB of `source` primaries to linear BT.709 RGB; rows sum to 1 (same
    white).
    """
    to_xyz = _rgb_to_xyz(source)
    return (torch.linalg.inv(_rgb_to_xyz("bt709")) @ to_xyz).float()


def _rgb_to_xyz(name: str) -> Tensor:
    def xyz(x: float, y: float) -> list[float]:
        return [x / y, 1.0, (1 - x - y) / y]

    columns = torch.tensor([xyz(*point) for point in _PRIMARIES[name]], dtype=torch.float64).T
    white = torch.tensor(xyz(*_D65), dtype=torch.float64)
    return columns * torch.linalg.solve(columns, white)


def _sdr_to_light(signal: Tensor) -> Tensor:
    return signal.clamp(0, 1).pow(DISPLAY_GAMMA)
