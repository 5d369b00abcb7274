"""Eq. 3 inside ComfyUI's samplers: after every step, the state is blended with the noised original.

Host code: it finds where a sampler's steps begin; gamma and the fresh noise come from `genve_core`.

A sampler is a function that asks `model(x, sigma)` once or several times per step. Before the real run it runs on a few
values with a model that answers zero (`find_steps`): that tells which calls open a step, and whether the tensor given
there is the state that the sampler goes on from. In the real run that tensor is blended in place at those calls.
Running a sampler one step at a time instead would lose the history of multi-step samplers, and draw the same noise in
every step of ancestral ones.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.model_management
import comfy.samplers
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ..genve_core.diffuser.windows import frame_noise
from ..genve_core.errors import InputError
from ..genve_core.reference.semantic_alignment import AlignmentNoise, check_alignment, gamma
from .run import explained

KEY = "genve_semantic_alignment"
PROBE_SIDE = 8  # latent pixels of the dry run
REFUSED = {  # a sampler's function -> its name in ComfyUI, and why
    "sample_unipc": ("uni_pc", "it works on a rescaled copy of the state"),
    "sample_unipc_bh2": ("uni_pc_bh2", "it works on a rescaled copy of the state"),
    "dpm_fast_function": ("dpm_fast", "its steps are not those of the scheduler"),
    "dpm_adaptive_function": ("dpm_adaptive", "it chooses its steps while it runs"),
    "sample_sa_solver": ("sa_solver", "it computes each state anew from the one before, without the blend"),
    "sample_sa_solver_pece": ("sa_solver_pece", "it computes each state anew from the one before, without the blend"),
}

Refine = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_s, clean, sigma_s) -> x_s


@dataclass(frozen=True)
class Alignment:
    """Settings of Eq. 3 for a ComfyUI model. Raises InputError if gamma_max is not in [0, 1] or noise is unknown."""

    gamma_max: float = 0.5  # gamma at t = T
    noise: AlignmentNoise = "same"  # see genve_core.reference.semantic_alignment.align
    seed: int = 0  # of the literal noise
    original: Tensor | None = None  # LATENT samples (b, c, h, w) or (b, c, f, h, w); None: the sampler's own latent

    def __post_init__(self) -> None:
        check_alignment(self.gamma_max, self.noise)


def patch_model(model: Any, alignment: Alignment) -> Any:
    """A clone of a ModelPatcher whose every sampler does Eq. 3. An alignment that it already had is replaced."""
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    if alignment.gamma_max == 0:
        return patched

    @explained
    def sample(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
        sampler = align_sampler(executor.class_obj, alignment)
        # the wrappers of other packs that come after this one stay in the chain
        rest = WrapperExecutor.new_class_executor(sampler.sample, sampler, executor.wrappers, executor.idx + 1)
        return rest.execute(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, sample)
    return patched


def align_sampler(sampler: comfy.samplers.Sampler, alignment: Alignment) -> comfy.samplers.Sampler:
    """A copy of a SAMPLER that does Eq. 3. Raises InputError if it is known not to allow that, or does it already."""
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        raise InputError(
            f"sampler {type(sampler).__name__} cannot be used with Semantic Alignment: it is not one of ComfyUI's "
            "k-diffusion samplers; choose another, such as euler"
        )
    function = sampler.sampler_function
    if getattr(function, KEY, False):
        raise InputError("Semantic Alignment is applied twice, to the model and to the sampler; remove one of the two")
    if alignment.gamma_max == 0:
        return sampler
    if _name(function) in REFUSED:
        raise _refusal(*REFUSED[_name(function)])
    aligned = copy.copy(sampler)
    aligned.sampler_function = _aligned_function(function, alignment)
    return aligned


def gamma_at(model_sampling: Any, sigma: Tensor, gamma_max: float) -> float:
    """gamma_t for a ComfyUI model at noise level `sigma` (one value, in the sampler's scale).

    The paper's gamma is a cosine of the timestep t in [0, T]. Models of ComfyUI measure time differently: an index
    into 1000 noise levels (eps, v), a quarter of the logarithm of sigma (EDM), sigma itself (flow). t is therefore
    what the network is told, `timestep(sigma)`, and t / T its share of the way from the model's lowest noise level
    (0, gamma = 0) to its highest (1, gamma = gamma_max). No noise at all is 0 as well.
    """
    if float(sigma) <= 0:
        return 0.0
    levels = [torch.as_tensor(s).to(sigma).reshape(()) for s in (sigma, model_sampling.sigma_min, model_sampling.sigma_max)]
    t, low, high = model_sampling.timestep(torch.stack(levels)).float().tolist()
    return gamma(min((t - low) / (high - low), 1.0), 1, gamma_max)


def _aligned_function(function: Callable[..., Tensor], alignment: Alignment) -> Callable[..., Tensor]:
    @explained
    @functools.wraps(function)
    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        refine = _refine(model, x, sigmas, alignment)
        steps = find_steps(function, model, x.shape, sigmas, extra_args, options)
        aligned = _AlignedModel(model, steps.opened, refine)
        x = function(aligned, x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **options)
        if aligned.calls != steps.calls:
            raise _refusal(_name(function), "its number of model calls depends on the picture")
        return refine(x, aligned.clean, sigmas[-1]) if steps.calls else x

    setattr(sample, KEY, True)
    return sample


def _refine(model: Any, x: Tensor, sigmas: Tensor, alignment: Alignment) -> Refine:
    """Eq. 3 in the model's latent space: x_s <- (1 - gamma_s) x_s + gamma_s * (z with noise of level sigma_s)."""
    base = model.inner_model.inner_model
    forward = base.model_sampling.noise_scaling  # (sigma, noise, latent) -> the noised latent, linear in both
    z = _original(model, x, sigmas, alignment)

    def refine(x: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.flatten()[0]
        g = gamma_at(base.model_sampling, sigma, alignment.gamma_max)
        if g == 0:
            return x
        if alignment.noise == "same":
            # what x holds besides the clean estimate is its noise: put z in the estimate's place
            noised = x + forward(sigma, torch.zeros_like(x), z - clean)
        else:
            stream = f"semantic alignment {float(sigma):.6g}"
            noise = frame_noise(x.shape[1:], range(x.shape[0]), alignment.seed, stream)
            noised = forward(sigma, noise.to(x), z)
        return ((1 - g) * x + g * noised).to(x.dtype)

    return refine


def _original(model: Any, x: Tensor, sigmas: Tensor, alignment: Alignment) -> Tensor:
    """z in the model's latent space, shaped like x or with batch 1. Raises InputError if there is none, or it does not fit."""
    base = model.inner_model.inner_model
    if alignment.original is not None:
        z = base.process_latent_in(alignment.original.to(x))
        if z.shape[1:] != x.shape[1:] or z.shape[0] not in (1, x.shape[0]):
            raise InputError(
                f"original has the latent shape {tuple(z.shape)}, but the sampler's latent is {tuple(x.shape)}; "
                "encode the original with this model's VAE, at the size of the latent that is sampled"
            )
        return z
    z = model.latent_image
    if not torch.count_nonzero(z):
        raise InputError(
            "Semantic Alignment got an empty latent as the original; wire VAE Encode of the key frame "
            "to latent_image of the sampler, or to `original` of this node"
        )
    if torch.equal(x, base.model_sampling.noise_scaling(sigmas[0], torch.zeros_like(x), z)):
        raise InputError(
            "the sampler added no noise, so its latent is no clean original; "
            "wire VAE Encode of the key frame to `original` of Semantic Alignment"
        )
    return z


class _AlignedModel:
    """The model of one sampling run; at the calls that open a step (but the first) it refines the state in place."""

    def __init__(self, model: Any, opened: dict[int, int], refine: Refine):
        self.model, self.opened, self.refine = model, opened, refine
        self.calls = 0
        self.clean: Tensor | None = None  # the clean latent, as estimated at the call that opened the step

    def __getattr__(self, name: str) -> Any:  # inner_model, noise, latent_image, sigmas
        return getattr(self.model, name)

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        step = self.opened.get(self.calls)
        self.calls += 1
        if step:
            x.copy_(self.refine(x, self.clean, sigma))
        clean = self.model(x, sigma, **kwargs)
        if step is not None:
            self.clean = clean
        return clean


class Steps(NamedTuple):
    opened: dict[int, int]  # index of a model call -> the step that it opens
    calls: int  # of the whole run


def find_steps(function, model, shape, sigmas: Tensor, extra_args: dict | None, options: dict) -> Steps:
    """Where the steps of a sampler function begin, found by running it on a few values.

    shape: of the latent.   sigmas: (steps + 1,).   extra_args, options: what the sampler will get.
    Raises InputError, naming the sampler, if its steps cannot be told or it does not go on from the state it shows.
    """
    name, sigmas = _name(function), sigmas.cpu()
    small = (1, 1, *(min(side, PROBE_SIDE) for side in shape[2:]))
    run = functools.partial(_dry_run, function, model, small, extra_args or {}, options)
    try:
        found = run(sigmas)
        if not found.tells(len(sigmas) - 1):
            raise _refusal(name, "it does not report one state per step")
        if not _goes_on_from_what_it_shows(run, sigmas[0]):
            raise _refusal(name, "it does not go on from the state that it gives to the model")
    except (InputError, comfy.model_management.InterruptProcessingException):
        raise
    except Exception as error:
        raise _refusal(name, f"its steps could not be found ({type(error).__name__}: {error})") from error
    return Steps({call: step for step, call in found.opening.items()}, found.calls)


def _goes_on_from_what_it_shows(run: Callable[..., _ZeroModel], sigma: Tensor) -> bool:
    """Whether a state written over at step 1 is what step 2 comes from.

    Short steps: there, methods with a history (lms, ipndm, deis) depend little on what was before.
    """
    sigmas = sigma * torch.linspace(1.0, 0.9, 5)
    plain, moved = run(sigmas), run(sigmas, start=1.0)
    written = run(sigmas, start=1.0, write={plain.opening[1]: plain.states[1]})
    change = (moved.states[2] - plain.states[2]).abs().max()  # none at all in lcm, which keeps the estimate alone
    return bool((written.states[2] - plain.states[2]).abs().max() <= 0.5 * change)


def _dry_run(function, model, shape, extra_args, options, sigmas: Tensor, start=0.0, write=None) -> _ZeroModel:
    """Run a sampler from a constant state on the CPU, always with the same noise."""
    model_options = extra_args.get("model_options", {})
    zero = _ZeroModel(model.inner_model, model_options.get("sampler_post_cfg_function", []), write or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, extra = torch.full(shape, start), dict(extra_args)
        function(zero, x, sigmas, extra_args=extra, callback=zero.on_step, disable=True, **options)
    return zero


class _ZeroModel:
    """Stands for the model in a dry run: its clean estimate is zero, and it notes the state at each step's first call.

    write: index of a call -> what is written over the state there.
    """

    def __init__(self, inner_model: Any, hooks: list[Callable], write: dict[int, Tensor]):
        self.inner_model, self.hooks, self.write = inner_model, list(hooks), write
        self.calls = 0
        self.last: tuple[int, Tensor, Tensor] | None = None  # index, the tensor itself, its values
        self.opening: dict[int, int] = {}  # step -> the call that opens it
        self.states: dict[int, Tensor] = {}  # step -> the state there
        self.repeated = False  # a step that was reported twice
        self.shown = True  # whether the sampler reported the very tensor that it gave to the model

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict | None = None, **kwargs: Any) -> Tensor:
        values = x.clone()
        if self.calls in self.write:
            x.copy_(self.write[self.calls])
        self.last = (self.calls, x, values)
        self.calls += 1
        clean = torch.zeros_like(x)
        results = dict.fromkeys(("denoised", "cond_denoised", "uncond_denoised"), clean)
        for hook in (model_options or {}).get("sampler_post_cfg_function", []):
            if hook not in self.hooks:  # the sampler's own: the ones ending in _cfg_pp learn the estimates by it
                hook({**results, "input": x, "sigma": sigma})
        return clean

    def on_step(self, report: dict) -> None:
        step = int(report["i"])
        if self.last is None or step in self.opening:
            self.repeated = True
            return
        call, tensor, values = self.last
        self.opening[step], self.states[step] = call, values
        self.shown &= tensor is report["x"]

    def tells(self, steps: int) -> bool:
        """Whether the calls that open each step are known."""
        if self.repeated or sorted(self.opening) != list(range(steps)):
            return False
        one_call_per_step = list(self.opening.values()) == list(range(self.calls))
        # ipndm and deis report an old x, but cannot be mistaken: they make one call per step
        return (self.shown or one_call_per_step) and (steps == 0 or self.opening[0] == 0)


def _name(function: Callable) -> str:
    function = getattr(function, "func", function)  # of a functools.partial
    return getattr(function, "__name__", type(function).__name__)


def _refusal(sampler: str, reason: str) -> InputError:
    return InputError(
        f"sampler {sampler} cannot be used with Semantic Alignment: {reason}; choose another, such as euler or heun"
    )
