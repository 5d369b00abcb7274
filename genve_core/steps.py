"""The steps of the method (paper, Fig. 2), each a call on a whole clip; the last, decoding, is in `decode`. `pipeline` and
the graph's nodes compose them.

Frames are taken up a few at a time (`chunk`), so that memory is bounded by what a step returns, not by the frames
that it looks at. Every step asks `Models` for the networks it needs, and computes in its precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from .activations import BYTES_PER_PIXEL, activation_bytes, decoder_bytes
from .clip import MULTIPLE, Clip, ClipFlow, Guidance, Reference
from .conditioning.calm import CalmFrames, calm_frames, calm_key_flow, calm_neighbour_flow, context, settled
from .conditioning.flow import (
    FlowConfig,
    FlowEstimator,
    flow_estimator,
    neighbour_flow,
    reduce_frames,
)
from .conditioning.noise import augment_conditions
from .controller import VideoController
from .decoder.detail_decoder import DetailDecoder
from .decoder.inputs import decoder_inputs
from .decoder.tiles import decode_in_tiles
from .dial import detail_level
from .diffuser.sampler import sample
from .diffuser.tiles import latent_tiles
from .diffuser.windows import WindowConfig, frame_noise, fuse, window_weights, windows
from .errors import InputError
from .models import Models
from .reference.agreement import onto_key_frame
from .reference.image_diffuser import make_reference
from .reference.semantic_alignment import AlignmentNoise
from .reference.user_image import Fit, fit_reference
from .settings import CHUNK, LARGE
from .vae import MiniVAE
from .video_codec import TilingConfig, crop, encode, pad_to_multiple

MATCHED = 8 * LARGE  # pixels: of smaller frames as many are matched at once as make up so many, on up to four CPU cores
LOOKED = 8  # frames of which the controller looks at the reference at once: on a CPU the fastest, and little memory

OnProgress = Callable[[str, int, int], None]  # stage, frames done, frames in all


def silent(stage: str, done: int, total: int) -> None:
    """An `OnProgress` that tells nobody."""


def chunks(total: int, length: int) -> list[slice]:
    """0 to `total` in slices of at most `length`."""
    return [slice(start, min(start + length, total)) for start in range(0, total, length)]


def matched_at_once(size: tuple[int, int], chunk: int) -> int:
    """How many frames of `size` flow is measured of at once: as `settings.at_once`, with `MATCHED` pixels of small ones."""
    most = MATCHED * max(1, torch.get_num_threads() // 4)  # each core matches a pair
    return max(chunk, most // (size[0] * size[1])) if chunk > 1 else chunk


def encode_clip(models: Models, clip: Clip, *, tiling: TilingConfig = TilingConfig(), chunk: int = CHUNK,
                report: OnProgress = silent) -> Tensor:
    """Up-sample and encode (section 3.1): Z, (1, f, c, H/8, W/8) float32."""
    latents = []
    with models.computing():
        for part in chunks(len(clip), chunk):
            up = clip.up(part, models.device)
            (vae,) = models.ready("vae", work=activation_bytes("vae", min(tiling.frames, len(up)), up.shape))
            latents.append(encode(cast(MiniVAE, vae), up.unsqueeze(0), tiling).float())
            report("encode", part.stop, len(clip))
        return torch.cat(latents, dim=1)


def find_flow(models: Models, clip: Clip, keys: Sequence[int], config: FlowConfig = FlowConfig(), *, chunk: int = CHUNK,
              report: OnProgress = silent) -> ClipFlow:
    """Flow between neighbours and from every frame to each key frame (section 3.3), on whole up-sampled frames."""
    flow = key_flow(models, clip, keys, config, chunk=chunk, report=report)
    return between_flow(models, clip, flow, config, chunk=chunk)


def key_flow(models: Models, clip: Clip, keys: Sequence[int], config: FlowConfig = FlowConfig(), *,
             calm: Mapping[int, Tensor | None] | None = None, rows: slice = slice(None), chunk: int = CHUNK,
             report: OnProgress = silent) -> ClipFlow:
    """The part of `find_flow` that leads to key frames. That between neighbours is zero, and takes no memory.

    calm: `calm_frame` of key frames whose neighbours the clip lacks.   rows: only of these of its frames.
    """
    span = range(*rows.indices(len(clip)))
    to_key: dict[int, list[Tensor]] = {key: [] for key in keys}
    valid: dict[int, list[Tensor]] = {key: [] for key in keys}
    with models.computing():
        estimate = _flow_estimator(models, config)
        given = calm or {}
        to = {key: frames if (frames := given.get(key)) is not None else calm_frame(models, clip, key, config, chunk=chunk)
              for key in keys}
        frames = _calm_frames(models, clip, config, chunk)
        for part in chunks(len(span), matched_at_once(clip.size, chunk)) if keys else ():
            now = span[part]
            both = frames.frames(now), frames.averaged(now)
            for key, frame in to.items():
                at = key - clip.first
                found = calm_key_flow(both, (frame[0], frame[1]), config, estimate, [at - now.start] if at in now else [])
                to_key[key].append(found[0])
                valid[key].append(found[1])
            report("flow", part.stop, len(span))
        still = torch.zeros(1, 2, 1, 1, device=models.device).expand(len(span), -1, -1, -1)
        return ClipFlow(still, still, {key: torch.cat(parts) for key, parts in to_key.items()},
                        {key: torch.cat(parts) for key, parts in valid.items()}, clip.first + span.start)


def calm_frame(models: Models, clip: Clip, number: int, config: FlowConfig = FlowConfig(), *, chunk: int = CHUNK) -> Tensor:
    """Frame `number` of the shot as flow is measured to it: (2, 3, H/2, W/2), settled and averaged.

    The clip holds its neighbours, see `context`.
    """
    i = number - clip.first
    if not 0 <= i < len(clip):
        return reduce_frames(clip.up_at(number, models.device), config).expand(2, -1, -1, -1)
    near = clip.part(slice(max(0, i - context(config)), i + context(config) + 1))
    i = number - near.first
    with models.computing():
        frames = _calm_frames(models, near, config, chunk)
        return torch.cat([frames.frames(range(i, i + 1)), frames.averaged(range(i, i + 1))])


def _calm_frames(models: Models, clip: Clip, config: FlowConfig, chunk: int) -> CalmFrames:
    return calm_frames(_reduced(models, clip, config, chunk), len(clip), config)


def _reduced(models: Models, clip: Clip, config: FlowConfig, chunk: int) -> Callable[[range], Tensor]:
    """Frames on the flow's grid, by their numbers in the clip."""
    def read(span: range) -> Tensor:
        parts = [slice(span[part].start, span[part].stop) for part in chunks(len(span), chunk)]
        return torch.cat([reduce_frames(clip.up(part, models.device), config) for part in parts])

    return read


def between_flow(models: Models, clip: Clip, flow: ClipFlow, config: FlowConfig = FlowConfig(), *,
                 chunk: int = CHUNK) -> ClipFlow:
    """`flow` with the flow between neighbours.   clip: its frames, and as many around them as there are of `context`."""
    forward, backward = [], []
    with models.computing():
        estimate = _flow_estimator(models, config)
        read, last = settled(_reduced(models, clip, config, chunk), len(clip), config), None
        for part in chunks(len(clip), matched_at_once(clip.size, chunk)):
            new = read(range(part.start, part.stop))
            # the last frame before, too: the flow across the border of two chunks belongs to both
            ahead, back = neighbour_flow(new if last is None else torch.cat([last, new]), estimate)
            forward.append(ahead[:-1])
            backward.append(back if last is None else back[1:])
            last = new[-1:]
        steps = torch.cat([*forward, ahead[-1:]]), torch.cat(backward)
        calm_neighbour_flow(*steps, config)
        rows = slice(flow.first - clip.first, flow.first - clip.first + len(flow.forward))
        return replace(flow, forward=steps[0][rows], backward=steps[1][rows])


def _flow_estimator(models: Models, config: FlowConfig) -> FlowEstimator:
    module = models.ready("flow")[0] if config.estimator != "dis" and "flow" in models.bundle.components else None
    return flow_estimator(config, module)


def own_reference(models: Models, clip: Clip, Z: Tensor, key: int, *, seed: int = 0, start: int | None = None,
                  steps: int | None = None, gamma_max: float = 0.5, noise: AlignmentNoise = "same",
                  tiling: TilingConfig = TilingConfig(), report: OnProgress = silent) -> Reference:
    """Section 3.2: the key frame through the image diffuser, pulled back to itself by Eq. 3.

    It steers the diffuser in every frame. Its picture goes only where frames are less sharp than the key frame (`sharper`).

    start: T0, and steps: None takes the bundle's.   gamma_max, noise: see `semantic_alignment.align`.
    """
    defaults, models = models.defaults, models.for_enlargement(clip.enlargement)
    steps = steps or defaults.image_steps
    with models.computing():
        up = clip.up_at(key, models.device)
        work = decoder_bytes(models, 1, up.shape, tiling.decode)
        image_diffuser, decoder = models.ready("image", models.decoder, work=work)
        y = make_reference(image_diffuser, Z[:, key - clip.first].to(models.device), models.schedule,
                           start=defaults.image_start if start is None else start,
                           steps=steps, gamma_max=gamma_max, noise=noise, seed=seed,
                           on_step=lambda i, _: report("reference", i + 1, steps))
        still = up.new_zeros(1, 1, 2, 2, 2)
        decoder = cast(DetailDecoder, decoder)
        inputs = decoder_inputs(up.unsqueeze(0), still, still, reach=decoder.reach, fine=decoder.fine)
        level = detail_level(defaults.noise_level, defaults, clip.enlargement)
        image = decode_in_tiles(decoder, y, inputs, level, tiling.decode**2).clamp(-1, 1)
        return Reference(key, image[0], y[0].float(), torch.ones_like(image[0, :1]), own=True)


def given_reference(models: Models, clip: Clip, picture: Tensor | str | Path, key: int, *, fit: Fit = "cover",
                    match_colour: bool = True, align: bool = True, tiling: TilingConfig = TilingConfig()) -> Reference:
    """The user's picture in place of section 3.2's: fitted to the key frame and encoded. See `fit_reference`.

    align: move a picture that lies beside the key frame onto it, and do not use an unrelated one; see `onto_key_frame`.
    """
    with torch.inference_mode():  # not in bf16: a picture has finer steps
        target = crop(clip.up_at(key, models.device), clip.size)[0].cpu()
        fitted = fit_reference(picture, clip.size, fit=fit, match_to=target if match_colour else None)
        fitted = onto_key_frame(fitted, target) if align else fitted
    with models.computing():
        image, valid = (pad_to_multiple(x.unsqueeze(0).to(models.device), MULTIPLE) for x in (fitted.image, fitted.valid))
        (vae,) = models.ready("vae", work=activation_bytes("vae", 1, image.shape))
        y = encode(cast(MiniVAE, vae), image.unsqueeze(0), tiling)[0, 0].float()
        return Reference(key, image[0], y, valid[0], fitted.notes)


def augment(models: Models, Z: Tensor, references: Sequence[Reference], n: int, *, seed: int = 0,
            first_frame: int = 0) -> tuple[Tensor, list[Reference]]:
    """Noise augmentation (section 3.3): Z_n, and the references with y_n in the place of y. Noise is fixed per frame.

    first_frame: number in its shot of Z's first frame.
    """
    with models.computing():
        Z = Z.to(models.device)
        y = torch.zeros_like(Z[:, 0])
        Z_n, _ = augment_conditions(Z, y, n, models.schedule, seed=seed, first_frame=first_frame)
        noised = [augment_conditions(Z[:, :1], reference.y.to(Z).unsqueeze(0), n, models.schedule, seed=seed)[1]
                  for reference in references]
    return Z_n, [replace(reference, y=y_n[0]) for reference, y_n in zip(references, noised, strict=True)]


def match(models: Models, Z_n: Tensor, Y_n: Tensor | None, n: int, *, strength: float = 1.0, start: float = 0.0,
          end: float = 1.0) -> Guidance:
    """Local-aware cross-attention (section 3.4): what the reference says about each frame, once for all steps.

    Y_n: None or strength 0 is no reference at all.   start, end: shares of the steps in which the controller acts.
    """
    with models.computing():
        (controller,) = models.ready("controller", work=8 * Z_n[:, :LOOKED].numel() * 4)
        Z_n = Z_n.to(models.device)
        Y_n = torch.zeros_like(Z_n) if Y_n is None or strength == 0 else Y_n.to(Z_n) * strength
        e = [cast(VideoController, controller).match(Z_n[:, part], Y_n[:, part]) for part in chunks(Z_n.shape[1], LOOKED)]
        return Guidance(torch.cat(e, dim=1), n, start, end)


def longest_window(models: Models) -> int:
    """How many frames the motion modules know at once."""
    return int(models.bundle["motion"].config["motion_max_seq_length"])  # type: ignore[index]


def check_window(models: Models, window: int, frames: int) -> None:
    """Raise InputError if the motion modules do not know that many frames at once."""
    longest = longest_window(models)
    if min(window, frames) > longest:
        raise InputError(f"window is {window} frames, this bundle's motion modules know {longest}; set it to {longest} or less")


def diffuse(models: Models, Z: Tensor, guidance: Guidance, times: Sequence[int], *, seed: int = 0,
            window: WindowConfig = WindowConfig(), tiling: TilingConfig = TilingConfig(), first_frame: int = 0,
            report: OnProgress = silent) -> Tensor:
    """Section 3.4: Z_T1 -> Z_0 under guidance, (1, f, c, H/8, W/8) float32. Windows are fused in every step, and so are
    the tiles of large frames (`TilingConfig.diffuse`).

    times: when the network is asked, the first is T1; see `sampler.timesteps`.
    first_frame: number in its shot of Z's first frame: noise belongs to the frames of the shot.
    """
    total, steps = Z.shape[1], len(times)
    spans = windows(total, window)
    weights, grid = window_weights(spans), latent_tiles((Z.shape[-2], Z.shape[-1]), tiling)
    coarse = round(Z.shape[-1] / guidance.e.shape[-1])
    done = 0
    with models.computing():
        Z = Z.to(models.device)
        work = BYTES_PER_PIXEL["diffuser"] * len(spans[0]) * grid[0].weight.numel() * 64
        controller, diffuser = models.ready("controller", "video", work=work)

        def estimate(z_t: Tensor, t: int, e: Tensor | None) -> Tensor:
            residuals = None if e is None else controller(z_t, t, e, guidance.n)
            return diffuser(z_t, t, residuals).float()

        def model(Z_t: Tensor, t: int) -> Tensor:
            nonlocal done
            parts = []
            active = guidance.acts(list(times).index(t), steps)
            for span in spans:
                part, e = (x[:, span.start : span.stop] for x in (Z_t, guidance.e))
                parts.append(torch.zeros_like(part, dtype=torch.float32))
                for tile in grid:
                    found = estimate(tile.of(part), t, tile.of(e, coarse) if active else None)
                    tile.of(parts[-1]).add_(found * tile.weight.to(found))
                done += len(span)
                report("diffuse", done, steps * sum(map(len, spans)))
            # at one t the clean estimate is linear in the output: fusing outputs is fusing estimates
            return fuse(parts, spans, weights, total)

        noise = frame_noise(Z.shape[2:], range(first_frame, first_frame + total), seed, "sample").to(Z)
        return sample(model, models.schedule.add_noise(Z, noise.unsqueeze(0), times[0]), models.schedule, times)
