"""The whole method (paper, Fig. 2) in one screen: `enhance` for Python users, `Enhancer` for long clips.

    up-sample, encode ........... Z            flow key <-> frame, frame <-> neighbour
    reference ................... y            (image diffuser with Eq. 3, or the user's image)
    augment, warp ............... Z_n, Y_n
    LCA, once per window ........ e
    Z_T1, then for each t: controller -> guidance -> video diffuser -> Z_0
    decode, colour .............. frames
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from .clip import MULTIPLE, Clip, Reference
from .conditioning.flow import flow_estimator, key_frame_flow, neighbour_flow, reduce_frames
from .conditioning.noise import augment_conditions
from .conditioning.warp import warp, warp_latent
from .controller import VideoController
from .decoder.detail_decoder import NEIGHBOURS
from .decoder.inputs import decoder_inputs
from .decoder.steady import steadied
from .devices import has_bf16, pick_device
from .diffuser.backbone import ImageDiffuser, MotionDiffuser
from .diffuser.sampler import sample, timesteps
from .diffuser.windows import frame_noise, fuse, window_weights, windows
from .errors import InputError
from .media.colour import ColourMatch
from .noise_schedule import NoiseSchedule
from .reference.image_diffuser import make_reference
from .reference.key_frame import check_key_frame, choose_key_frame
from .reference.user_image import fit_reference
from .settings import EnhanceConfig
from .vae import MiniVAE
from .video_codec import crop, encode, pad_to_multiple

OnProgress = Callable[[str, int, int], None]  # stage, frames done, frames in all
HALO = max(NEIGHBOURS)  # frames that the decoder looks beyond those it decodes


class Enhancer:
    """A bundle on a device, ready to enhance clips.

    After a run, `seconds` holds the time each stage took, `key_frame` the key frame used, `notes` what the user
    should know about the reference.
    """

    def __init__(self, bundle: Bundle, config: EnhanceConfig = EnhanceConfig(), device: str = "auto"):
        self.config, self.bundle = config, bundle
        self.device = pick_device(device)
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bf16(self.device))
        self.schedule = NoiseSchedule(bundle.schedule)
        defaults = bundle.defaults
        self.n = defaults.noise_level if config.noise_level is None else config.noise_level
        self.steps = defaults.steps if config.steps is None else config.steps
        self.times = timesteps(defaults.video_start, self.steps)
        self.vae = cast(MiniVAE, bundle["vae"].to(self.device))
        self.decoder = bundle["decoder"].to(self.device)
        self.controller = cast(VideoController, bundle["controller"].to(self.device))
        self.image_diffuser = ImageDiffuser(bundle["unet"]).to(self.device)  # type: ignore[arg-type]
        self.diffuser = MotionDiffuser(bundle.video_unet()).to(self.device)
        self.estimate = flow_estimator(config.flow, bundle.components.get("flow"))
        self.seconds: dict[str, float] = {}
        self.key_frame, self.notes = 0, ()

    def run(self, frames: Tensor, reference: Tensor | str | Path | None = None,
            on_progress: OnProgress | None = None) -> Iterator[Tensor]:
        """Enhance one shot. frames: (f, 3, h, w) in [-1, 1], f >= 1, any size.

        reference: a picture of the key frame's scene, as a file or (3 or 4, h, w) in [-1, 1]; None = made here.
        Yields finished frames one by one, (1, 3, H, W) in [-1, 1] on the CPU. Raises InputError for unusable input.
        """
        self.seconds = {}
        report = on_progress or (lambda stage, done, total: None)
        with self._computing("look"):
            clip = self._open(frames)
        with self._computing("encode"):
            self._encode(clip, report)
        y = None
        if self.config.reference_strength > 0:
            with self._computing("reference"):
                y = self._reference(clip, reference)
            with self._computing("flow"):
                self._flow_to_key(clip, report)
        with self._computing("diffuse"):
            Z_0 = self._diffuse(clip, y, report)
        finished = steadied(self._decode(clip, Z_0, y, report), clip.flow["forward"], clip.flow["backward"],
                            self.config.steadiness, self.config.flow)
        for _ in range(len(clip.frames)):
            with self._computing("decode"):
                frame = crop(next(finished), clip.size).clamp(-1, 1).cpu()
            yield frame.unsqueeze(0)

    @contextmanager
    def _computing(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    def _open(self, frames: Tensor) -> Clip:
        if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
            raise InputError(f"video must be (f, 3, h, w) with at least one frame, got {tuple(frames.shape)}")
        if min(frames.shape[-2:]) < 8:
            raise InputError(f"video is {frames.shape[-1]}x{frames.shape[-2]} px, but needs 8 px a side or more")
        if not torch.isfinite(frames).all():
            raise InputError("video holds NaN or infinity; wanted values in [-1, 1]")
        h, w = frames.shape[-2:]
        size = self.config.size or (round(h * self.config.scale), round(w * self.config.scale))
        EnhanceConfig(size=size)  # a small input with a small scale can leave nothing
        wanted = self.config.key_frame
        key = choose_key_frame(frames) if wanted is None else check_key_frame(wanted, len(frames))
        self.key_frame = key
        return Clip(frames, size, key)

    def _encode(self, clip: Clip, report: OnProgress) -> None:
        """Z, and the flow between neighbouring frames."""
        total, latents, flows = len(clip.frames), [], []
        for start in range(0, total, self.config.chunk):
            stop = min(start + self.config.chunk, total)
            up = clip.up(slice(start, min(stop + 1, total)), self.device)  # one more frame: its flow belongs here
            latents.append(encode(self.vae, up[None, : stop - start], self.config.tiling)[0].float())
            flows.append(neighbour_flow(reduce_frames(up, self.config.flow), self.estimate))
            report("encode", stop, total)
        clip.Z = torch.cat(latents).unsqueeze(0)
        # chunk k: forward of all its frames, backward of all its frames but the first, and of chunk k + 1's first
        clip.flow["forward"] = torch.cat([f[: self.config.chunk] for f, _ in flows])
        clip.flow["backward"] = torch.cat([flows[0][1][:1], *[b[1:] for _, b in flows]])[:total]

    def _flow_to_key(self, clip: Clip, report: OnProgress) -> None:
        total, parts = len(clip.frames), []
        key = reduce_frames(clip.up(slice(clip.key, clip.key + 1), self.device), self.config.flow)[0]
        for start in range(0, total, self.config.chunk):
            part = slice(start, min(start + self.config.chunk, total))
            skip = [clip.key - start] if part.start <= clip.key < part.stop else []
            reduced = reduce_frames(clip.up(part, self.device), self.config.flow)
            parts.append(key_frame_flow(reduced, key, self.config.flow, self.estimate, skip))
            report("flow", part.stop, total)
        clip.flow["to_key"], clip.flow["valid"] = (torch.cat(p) for p in zip(*parts, strict=True))

    def _reference(self, clip: Clip, given: Tensor | str | Path | None) -> Reference:
        """Section 3.2, or the user's image in its place."""
        key = clip.up(slice(clip.key, clip.key + 1), self.device)
        if given is not None:
            target = crop(key, clip.size)[0].cpu()
            fitted = fit_reference(given, clip.size, fit=self.config.fit,
                                   match_to=target if self.config.match_colour else None)
            self.notes = fitted.notes
            image, valid = (pad_to_multiple(x.unsqueeze(0).to(self.device), MULTIPLE) for x in (fitted.image, fitted.valid))
            return Reference(image[0], encode(self.vae, image.unsqueeze(0), self.config.tiling)[0, 0].float(), valid[0])
        assert clip.Z is not None
        defaults = self.bundle.defaults
        y = make_reference(self.image_diffuser, clip.Z[:, clip.key], self.schedule, start=defaults.image_start,
                           steps=defaults.image_steps, seed=self.config.seed)
        still = key.new_zeros(1, 1, 2, 2, 2)
        image = self.decoder(y, decoder_inputs(key.unsqueeze(0), still, still)).float().clamp(-1, 1)
        return Reference(image[0], y[0].float(), torch.ones_like(image[0, :1]))

    def _conditions(self, clip: Clip, reference: Reference | None, span: range) -> tuple[Tensor, Tensor]:
        """Section 3.3: Z_n and Y_n of one window. Noise is fixed per absolute frame."""
        assert clip.Z is not None
        Z = clip.Z[:, span.start : span.stop]
        y = torch.zeros_like(Z[:, 0]) if reference is None else reference.y.unsqueeze(0)
        Z_n, y_n = augment_conditions(Z, y, self.n, self.schedule, seed=self.config.seed, first_frame=span.start)
        if reference is None:
            return Z_n, torch.zeros_like(Z_n)
        part = slice(span.start, span.stop)
        Y_n = warp_latent(y_n[0], clip.flow["to_key"][part], self._valid(clip, reference, part))
        return Z_n, Y_n.unsqueeze(0) * self.config.reference_strength

    def _valid(self, clip: Clip, reference: Reference, part: slice) -> Tensor:
        """Where the flow is trusted and the reference reaches: (k, 1, h/2, w/2)."""
        flow, valid = clip.flow["to_key"][part], clip.flow["valid"][part]
        if bool((reference.valid == 1).all()):
            return valid
        reach = F.interpolate(reference.valid.unsqueeze(0), size=flow.shape[-2:], mode="area")
        return valid * (warp(reach.expand(len(flow), -1, -1, -1), flow) > 0.99)

    def _diffuse(self, clip: Clip, reference: Reference | None, report: OnProgress) -> Tensor:
        """Section 3.4: Z_T1 -> Z_0 under guidance, windows fused in every step."""
        assert clip.Z is not None
        total = len(clip.frames)
        spans = windows(total, self.config.window)
        weights = window_weights(spans)
        e = [self.controller.match(*self._conditions(clip, reference, span)) for span in spans]
        done = 0

        def model(Z_t: Tensor, t: int) -> Tensor:
            nonlocal done
            parts = []
            for span, e_span in zip(spans, e, strict=True):
                part = Z_t[:, span.start : span.stop]
                guidance = self.controller(part, t, e_span, self.n)
                parts.append(self.diffuser(part, t, guidance).float())
                done += len(span)
                report("diffuse", done, self.steps * sum(map(len, spans)))
            # at one t the clean estimate is linear in the output: fusing outputs is fusing estimates
            return fuse(parts, spans, weights, total)

        noise = frame_noise(clip.Z.shape[2:], range(total), self.config.seed, "sample").to(clip.Z)
        Z_T1 = self.schedule.add_noise(clip.Z, noise.unsqueeze(0), self.times[0])
        return sample(model, Z_T1, self.schedule, self.times)

    def _decode(self, clip: Clip, Z_0: Tensor, reference: Reference | None, report: OnProgress) -> Iterator[Tensor]:
        """Decoded frames (3, H, W) with the input's colours, one by one."""
        match = ColourMatch(self.config.colour)
        total = len(clip.frames)
        parts = [slice(i, min(i + self.config.chunk, total)) for i in range(0, total, self.config.chunk)]
        if match.needs_first_pass:
            for part in parts:
                match.observe(*self._decode_part(clip, Z_0, reference, part))
        for part in parts:
            frames = match.apply(*self._decode_part(clip, Z_0, reference, part))
            report("decode", part.stop, total)
            yield from frames

    def _decode_part(self, clip: Clip, Z_0: Tensor, reference: Reference | None, part: slice) -> tuple[Tensor, Tensor]:
        around = slice(max(0, part.start - HALO), min(len(clip.frames), part.stop + HALO))
        mine = slice(part.start - around.start, part.stop - around.start)
        up = clip.up(around, self.device)
        flows = {name: clip.flow[name][around].unsqueeze(0) for name in ("forward", "backward")}
        if reference is not None:
            key = clip.up(slice(clip.key, clip.key + 1), self.device)
            flows |= {"reference": reference.image.unsqueeze(0), "key": key,
                      "to_key": clip.flow["to_key"][around].unsqueeze(0),
                      "valid": self._valid(clip, reference, around).unsqueeze(0),
                      "strength": self.config.reference_strength}  # type: ignore[dict-item]
        inputs = decoder_inputs(up.unsqueeze(0), frames=mine, **flows)  # type: ignore[arg-type]
        return self.decoder(Z_0[0, part], inputs).float(), up[mine]


def enhance(video: Tensor, *, reference: Tensor | str | Path | None = None, bundle: str | Path | Bundle = DEFAULT_BUNDLE,
            device: str = "auto", on_progress: OnProgress | None = None, **config: object) -> Tensor:
    """Enhance a clip in memory.

    video: (f, 3, h, w) or (1, f, 3, h, w) in [-1, 1].   reference: a picture, see `Enhancer.run`.
    bundle: a name, a folder, or a loaded `Bundle`.   config: fields of `EnhanceConfig`.
    Returns the video, shaped like the input with its new height and width, on the CPU.
    """
    frames = video[0] if video.ndim == 5 and len(video) == 1 else video
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    enhancer = Enhancer(loaded, EnhanceConfig(**config), device)  # type: ignore[arg-type]
    result = torch.cat(list(enhancer.run(frames, reference, on_progress)))
    return result.unsqueeze(0) if video.ndim == 5 else result
