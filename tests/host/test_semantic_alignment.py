"""Eq. 3 in the real ComfyUI: its own model classes, made tiny, its KSampler, and every sampler that it has."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from host.tiny_models import FAMILIES, latent_of, tiny_model

from genve_core.diffuser.windows import frame_noise

REFUSED = {"uni_pc", "uni_pc_bh2", "dpm_fast", "dpm_adaptive", "sa_solver", "sa_solver_pece"}
NODE, SAMPLER_NODE = "GenVESemanticAlignment", "GenVESemanticAlignmentSampler"
cached_model = functools.cache(tiny_model)


@pytest.fixture(scope="module", autouse=True)
def _models():
    yield
    cached_model.cache_clear()  # before Python takes the host apart


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():  # as the host does
        yield


def ksampler(model, conditioning, latent, sampler="euler", steps=6, denoise=0.7, seed=3):
    """The stock KSampler node. latent: samples or a LATENT dict. Returns samples."""
    import nodes

    latent = latent if isinstance(latent, dict) else {"samples": latent}
    run = nodes.KSampler().sample(model, seed, steps, 2.0, sampler, "normal", conditioning, conditioning, latent, denoise)
    return run[0]["samples"]


def custom(model, conditioning, latent, sampler, sigmas, seed=3):
    """A SAMPLER on given sigmas, as SamplerCustom runs it. Returns samples."""
    import comfy.sample

    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample_custom(model, noise, 2.0, sampler, sigmas, conditioning, conditioning, latent, seed=seed,
                                      callback=lambda step, x0, x, total: None)


def sigmas_of(model, sampler="euler", steps=6, denoise=0.7):
    import comfy.samplers

    return comfy.samplers.KSampler(model, steps, model.load_device, sampler, "normal", denoise).sigmas


def share_of_time(sampling, sigma: float) -> float:
    """t / T of a noise level, written out for each of ComfyUI's ways to count time."""
    low, high = float(sampling.sigma_min), float(sampling.sigma_max)
    kind = {base.__name__ for base in type(sampling).__mro__}
    if sigma <= 0:
        return 0.0
    if "ModelSamplingDiscrete" in kind:
        return int((sampling.sigmas.log() - math.log(sigma)).abs().argmin()) / 999
    if "ModelSamplingContinuousV" in kind:
        return (math.atan(sigma) - math.atan(low)) / (math.atan(high) - math.atan(low))
    if "ModelSamplingCosmosRFlow" in kind:
        return (sigma / (sigma + 1) - low / (low + 1)) / (high / (high + 1) - low / (low + 1))
    if "ModelSamplingContinuousEDM" in kind:
        return math.log(sigma / low) / math.log(high / low)
    return (sigma - low) / (high - low)  # flow


def written_out(gamma_max: float, noise: str, seed: int = 0):
    """Eq. 2 and 3 as a sampler function, step by step: x = alpha x0 + sigma eps, both scales by the kind of model."""

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
        sampling, z = model.inner_model.inner_model.model_sampling, model.latent_image
        flow = any(base.__name__ == "CONST" for base in type(sampling).__mro__)
        for sigma, next_sigma in zip(sigmas[:-1].tolist(), sigmas[1:].tolist()):
            clean = model(x, torch.full((x.shape[0],), sigma), **extra_args)
            alpha, next_alpha = (1 - sigma, 1 - next_sigma) if flow else (1.0, 1.0)
            eps = (x - alpha * clean) / sigma
            x = next_alpha * clean + next_sigma * eps
            g = gamma_max * (1 - math.cos(math.pi * share_of_time(sampling, next_sigma))) / 2
            if noise == "literal":
                eps = frame_noise(x.shape[1:], range(x.shape[0]), seed, f"semantic alignment {next_sigma:.6g}")
            x = (1 - g) * x + g * (next_alpha * z + next_sigma * eps)
        return x

    return sample


def deviation(a, b) -> float:
    """Largest difference, relative to the spread of the values."""
    return float((a - b).abs().max() / a.std())


@pytest.mark.parametrize("noise", ["same noise", "literal"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_checkpoint_does_eq_3(run_node, family, noise, record_property):
    import comfy.samplers

    (model, conditioning), latent, sigmas = cached_model(family), latent_of(family), sigmas_of(cached_model(family)[0])
    explicit = comfy.samplers.KSAMPLER(written_out(0.4, noise.split()[0], seed=7))
    expected = custom(model, conditioning, latent, explicit, sigmas)
    plain = ksampler(model, conditioning, latent)
    patched = ksampler(run_node(NODE, model=model, gamma_max=0.4, noise=noise, seed=7)[0], conditioning, latent)
    [sampler] = run_node(SAMPLER_NODE, sampler=comfy.samplers.sampler_object("euler"), gamma_max=0.4, noise=noise, seed=7)
    wrapped = custom(model, conditioning, latent, sampler, sigmas)
    record_property("deviation", deviation(expected, patched))
    assert torch.equal(patched, wrapped) and patched.shape == latent.shape
    assert deviation(expected, patched) < 1e-4 and deviation(expected, plain) > 0.03


@pytest.mark.parametrize("model_type", ["EPS", "V_PREDICTION", "V_PREDICTION_EDM", "EDM", "FLOW", "FLUX",
                                        "V_PREDICTION_CONTINUOUS", "FLOW_COSMOS"])
def test_every_prediction_type_does_eq_3(run_node, model_type, record_property):
    import comfy.samplers

    model, conditioning = cached_model("SD 1.5, eps", model_type)
    latent = latent_of("SD 1.5, eps")
    explicit = comfy.samplers.KSAMPLER(written_out(0.5, "same"))
    expected = custom(model, conditioning, latent, explicit, sigmas_of(model))
    patched = ksampler(run_node(NODE, model=model)[0], conditioning, latent)
    record_property("deviation", deviation(expected, patched))
    assert deviation(expected, patched) < 1e-4
    assert deviation(expected, ksampler(model, conditioning, latent)) > 0.03


@pytest.mark.parametrize("model_type", ["EPS", "EDM", "FLOW", "FLUX", "STABLE_CASCADE", "FLOW_COSMOS"])
def test_gamma_falls_from_its_maximum_at_full_noise_to_zero_without_noise(genve, model_type):
    sampling = cached_model("SD 1.5, eps", model_type)[0].model.model_sampling
    gamma_at = genve("nodes.sampler_blend").gamma_at
    low, high = float(sampling.sigma_min), float(sampling.sigma_max)
    assert gamma_at(sampling, torch.tensor(high), 0.5) == pytest.approx(0.5)
    assert gamma_at(sampling, torch.tensor(2 * high), 0.5) == pytest.approx(0.5)
    assert gamma_at(sampling, torch.tensor(0.0), 0.5) == 0 and gamma_at(sampling, torch.tensor(low), 0.5) == 0
    values = [gamma_at(sampling, torch.tensor(low * (high / low) ** (i / 20)), 0.5) for i in range(21)]
    assert values == sorted(values)


@pytest.mark.parametrize("family", ["SD 1.5, eps", "Wan video, flow"])
def test_gamma_zero_is_no_patch_bit_for_bit(run_node, family):
    import comfy.samplers

    (model, conditioning), latent = cached_model(family), latent_of(family)
    plain = ksampler(model, conditioning, latent, "euler_ancestral")
    aligned = run_node(NODE, model=model)[0]
    assert not torch.equal(plain, ksampler(aligned, conditioning, latent, "euler_ancestral"))
    for start in (model, aligned):  # the later node counts
        off = run_node(NODE, model=start, gamma_max=0.0)[0]
        assert torch.equal(plain, ksampler(off, conditioning, latent, "euler_ancestral"))
        ksampler(off, conditioning, latent, "uni_pc")  # nothing to refuse
    assert torch.equal(plain, ksampler(model, conditioning, latent, "euler_ancestral")), "the input model was changed"
    sampler = comfy.samplers.sampler_object("uni_pc")
    assert run_node(SAMPLER_NODE, sampler=sampler, gamma_max=0.0)[0] is sampler


def test_the_last_of_two_alignments_counts(run_node):
    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    once = run_node(NODE, model=model, gamma_max=0.3)[0]
    twice = run_node(NODE, model=run_node(NODE, model=model, gamma_max=1.0)[0], gamma_max=0.3)[0]
    assert torch.equal(ksampler(once, conditioning, latent), ksampler(twice, conditioning, latent))


# --- samplers -----------------------------------------------------------------------------------------------------

MEAN, SPREAD = 1.0, 0.5  # of the pictures that the exact model knows, in the model's latent space


def exact_model(model_type: str):
    """A real model whose network is replaced by the exact denoiser of normally distributed pictures."""
    model, conditioning = cached_model("SD 1.5, eps", model_type)
    model = model.clone()

    def denoise(apply_model, args):
        x, sigma = args["input"], args["timestep"].view(-1, 1, 1, 1)
        alpha = 1 - sigma if model_type == "FLOW" else torch.ones_like(sigma)
        return MEAN + alpha * SPREAD**2 * (x - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)

    model.set_model_unet_function_wrapper(denoise)
    return model, conditioning


def test_every_sampler_of_the_host_does_eq_3_or_is_refused_by_name(run_node, record_property):
    """The original is -1 and the exact model draws to 1: a blended state must end nearer to -1. Every sampler, swept."""
    import comfy.samplers

    shifts = {}
    for model_type in ("EPS", "FLOW"):
        model, conditioning = exact_model(model_type)
        latent = torch.full((1, 4, 16, 16), -1 / 0.18215)
        [aligned], [barely] = run_node(NODE, model=model), run_node(NODE, model=model, gamma_max=1e-12)
        for name in comfy.samplers.SAMPLER_NAMES:
            run = functools.partial(ksampler, conditioning=conditioning, latent=latent, sampler=name, steps=20, denoise=0.9)
            if name in REFUSED:
                with pytest.raises(ValueError, match=rf"^sampler {name} cannot be used with Semantic Alignment: "):
                    run(aligned)
                continue
            result = 0.18215 * run(aligned)
            plain = 0.18215 * run(model)
            assert deviation(plain, 0.18215 * run(barely)) < 1e-4, f"{name}: something else than Eq. 3 was changed"
            shifts[model_type, name] = float((result - plain).mean())
    record_property("shifts", shifts)
    weak = {key: shift for key, shift in shifts.items() if shift > (-0.04 if key[1] == "lcm" else -0.35)}
    assert not weak and len(shifts) == 2 * (len(comfy.samplers.SAMPLER_NAMES) - len(REFUSED))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_sampler_node_refuses_before_anything_runs(run_node, name):
    import comfy.samplers

    sampler = comfy.samplers.sampler_object(name)
    with pytest.raises(ValueError, match=rf"^sampler {name} cannot be used with Semantic Alignment: .*; choose another"):
        run_node(SAMPLER_NODE, sampler=sampler)


def keeps_a_copy(model, x, sigmas, extra_args, callback, disable):
    for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        shown = x.clone()
        clean = model(shown, sigma.expand(len(x)), **extra_args)
        callback({"x": shown, "i": i, "denoised": clean})
        x = clean + (x - clean) * following / sigma
    return x


def reports_nothing(model, x, sigmas, extra_args, callback, disable):
    return keeps_a_copy(model, x, sigmas, extra_args, lambda report: None, disable)


def reports_late(model, x, sigmas, extra_args, callback, disable):
    for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        first = model(x, sigma.expand(len(x)), **extra_args)
        middle = first + (x - first) * 0.5
        clean = model(middle, (0.5 * sigma).expand(len(x)), **extra_args)
        callback({"x": x, "i": i, "denoised": clean})
        x = clean + (x - clean) * following / sigma
    return x


def asks_by_the_picture(model, x, sigmas, extra_args, callback, disable):
    for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        clean = model(x, sigma.expand(len(x)), **extra_args)
        callback({"x": x, "i": i, "denoised": clean})
        if clean.abs().max() > 0:
            clean = model(x.clone(), sigma.expand(len(x)), **extra_args)
        x = clean + (x - clean) * following / sigma
    return x


def needs_four_channels(model, x, sigmas, extra_args, callback, disable):
    raise RuntimeError(f"{x.shape[1]} channels")


@pytest.mark.parametrize("function, reason", [
    (keeps_a_copy, "it does not go on from the state that it gives to the model"),
    (reports_nothing, "it does not report one state per step"),
    (reports_late, "it does not report one state per step"),
    (asks_by_the_picture, "its number of model calls depends on the picture"),
    (needs_four_channels, r"its steps could not be found \(RuntimeError: 1 channels\)"),
])
@pytest.mark.parametrize("steps", [2, 6])
def test_a_custom_sampler_without_one_state_per_step_is_refused_with_the_reason(run_node, function, reason, steps):
    import comfy.samplers

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    [aligned] = run_node(NODE, model=model)
    with pytest.raises(ValueError, match=f"^sampler {function.__name__} cannot be used .*: {reason}; choose another"):
        custom(aligned, conditioning, latent, comfy.samplers.KSAMPLER(function), sigmas_of(model, steps=steps))


@pytest.mark.parametrize("name", ["uni_pc", "uni_pc_bh2", "sa_solver", "sa_solver_pece", "dpm_fast", "dpm_adaptive"])
def test_what_is_refused_by_name_is_refused_without_its_name_too(run_node, name):
    """The probe finds them by itself, so it will find their like."""
    import comfy.samplers

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    original = comfy.samplers.sampler_object(name).sampler_function

    def unnamed(model, x, sigmas, **rest):
        return original(model, x, sigmas, **rest)

    [aligned] = run_node(NODE, model=model)
    with pytest.raises(ValueError, match=r"^sampler unnamed cannot be used"):
        custom(aligned, conditioning, latent, comfy.samplers.KSAMPLER(unnamed), sigmas_of(model))


def test_a_sampler_that_is_no_function_is_refused(run_node):
    import comfy.samplers

    class Other(comfy.samplers.Sampler):
        pass

    with pytest.raises(ValueError, match=r"^sampler Other cannot be used with Semantic Alignment: it is not one of"):
        run_node(SAMPLER_NODE, sampler=Other())


def test_model_and_sampler_both_aligned_is_an_error(run_node):
    import comfy.samplers

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    [sampler] = run_node(SAMPLER_NODE, sampler=comfy.samplers.sampler_object("euler"))
    with pytest.raises(ValueError, match="applied twice, to the model and to the sampler; remove one"):
        custom(run_node(NODE, model=model)[0], conditioning, latent, sampler, sigmas_of(model))


# --- the original -------------------------------------------------------------------------------------------------


def two_stages(model, conditioning, latent):
    """KSampler (Advanced) twice: the second adds no noise and goes on from the noisy latent of the first."""
    import nodes

    run = functools.partial(nodes.KSamplerAdvanced().sample, model, noise_seed=3, steps=8, cfg=2.0, sampler_name="euler",
                            scheduler="normal", positive=conditioning, negative=conditioning)
    [first] = run(add_noise="enable", latent_image={"samples": latent}, start_at_step=2, end_at_step=5,
                  return_with_leftover_noise="enable")
    [second] = run(add_noise="disable", latent_image=first, start_at_step=5, end_at_step=8,
                   return_with_leftover_noise="disable")
    [whole] = run(add_noise="enable", latent_image={"samples": latent}, start_at_step=2, end_at_step=8,
                  return_with_leftover_noise="disable")
    return second["samples"], whole["samples"]


@pytest.mark.parametrize("noise", ["same noise", "literal"])
@pytest.mark.parametrize("family", ["SD 1.5, eps", "Flux, flow"])
def test_two_stages_with_the_original_equal_one(run_node, family, noise):
    (model, conditioning), latent = cached_model(family), latent_of(family)
    [aligned] = run_node(NODE, model=model, noise=noise, original={"samples": latent})
    in_two, whole = two_stages(aligned, conditioning, latent)
    assert deviation(whole, in_two) < 1e-4
    assert deviation(whole, two_stages(model, conditioning, latent)[1]) > 0.03


@pytest.mark.parametrize("family", ["SD 1.5, eps", "Flux, flow"])
def test_without_added_noise_the_original_must_be_wired(run_node, family):
    (model, conditioning), latent = cached_model(family), latent_of(family)
    with pytest.raises(ValueError, match=r"added no noise.*; wire VAE Encode of the key frame to `original`"):
        two_stages(run_node(NODE, model=model)[0], conditioning, latent)


def test_an_empty_latent_needs_the_original(run_node):
    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    empty = torch.zeros_like(latent)
    with pytest.raises(ValueError, match="got an empty latent as the original; wire VAE Encode of the key frame"):
        ksampler(run_node(NODE, model=model)[0], conditioning, empty)
    [aligned] = run_node(NODE, model=model, original={"samples": latent[:1]})  # one original for a batch
    result = ksampler(aligned, conditioning, empty, denoise=1.0)
    plain = ksampler(model, conditioning, empty, denoise=1.0)
    assert (result - latent[:1]).square().mean() < 0.98 * (plain - latent[:1]).square().mean()


@pytest.mark.parametrize("shape", [(2, 4, 8, 9), (2, 4, 9, 10), (2, 16, 8, 10), (3, 4, 8, 10), (1, 4, 1, 8, 10)])
def test_an_original_of_another_shape_is_refused(run_node, shape):
    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    [aligned] = run_node(NODE, model=model, original={"samples": torch.ones(shape)})
    with pytest.raises(ValueError, match=r"^original has the latent shape .*, but the sampler's latent is .*; encode"):
        ksampler(aligned, conditioning, latent)


def test_wrong_settings_are_refused(run_node):
    model, _ = cached_model("SD 1.5, eps")
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"^gamma_max must be in \[0, 1\], got"):
            run_node(NODE, model=model, gamma_max=wrong)
    with pytest.raises(ValueError, match=r"^noise must be one of same noise, literal, got 'fresh'"):
        run_node(NODE, model=model, noise="fresh")


# --- a good citizen of the host -----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["same noise", "literal"])
def test_a_noise_mask_keeps_what_it_keeps(run_node, noise):
    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    mask = torch.zeros(1, 1, 64, 80)
    mask[..., 40:] = 1  # the right half is sampled
    masked = {"samples": latent, "noise_mask": mask}
    result = ksampler(run_node(NODE, model=model, noise=noise)[0], conditioning, masked)
    plain = ksampler(model, conditioning, masked)
    torch.testing.assert_close(result[..., :4], latent[..., :4], atol=1e-4, rtol=0)
    assert deviation(plain[..., 6:], result[..., 6:]) > 0.03


def test_progress_is_reported_once_per_step(run_node):
    import comfy.sample

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    for sampler in ("euler", "heun", "dpmpp_2m_sde"):
        seen, noise = [], comfy.sample.prepare_noise(latent, 3)
        comfy.sample.sample(run_node(NODE, model=model)[0], noise, 6, 2.0, sampler, "normal", conditioning, conditioning,
                            latent, denoise=0.7, callback=lambda step, x0, x, total, seen=seen: seen.append((step, total)))
        assert seen == [(i, 6) for i in range(6)]


def test_wrappers_of_other_packs_stay_in_the_chain(run_node):
    from comfy.patcher_extension import WrappersMP

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    seen = []

    def other(name):
        def wrapper(executor, *args, **kwargs):
            seen.append(name)
            return executor(*args, **kwargs)
        return wrapper

    before = model.clone()
    before.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "before", other("before"))
    [aligned] = run_node(NODE, model=before)
    aligned.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "after", other("after"))
    aligned.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "step", other("step"))
    result = ksampler(aligned, conditioning, latent)
    assert seen == ["before", "after"] + ["step"] * 6, "the dry run asks no real model"
    assert torch.equal(result, ksampler(run_node(NODE, model=model)[0], conditioning, latent))


def test_interrupt_stops_within_a_step_and_leaves_nothing_behind(run_node):
    import comfy.model_management as management

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    [aligned] = run_node(NODE, model=model)
    expected, calls = ksampler(aligned, conditioning, latent), []
    stopped = aligned.clone()

    def interrupted(apply_model, args):
        calls.append(1)
        management.interrupt_current_processing(len(calls) == 3)
        management.throw_exception_if_processing_interrupted()
        return apply_model(args["input"], args["timestep"], **args["c"])

    stopped.set_model_unet_function_wrapper(interrupted)
    with pytest.raises(management.InterruptProcessingException):
        ksampler(stopped, conditioning, latent)
    assert len(calls) == 3
    assert torch.equal(expected, ksampler(aligned, conditioning, latent))


def test_ten_runs_leave_no_tensors(run_node):
    import gc

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")

    def tensors_after_a_run():
        [aligned] = run_node(NODE, model=model, original={"samples": latent.clone()}, noise="literal")
        ksampler(aligned, conditioning, latent, steps=3)
        del aligned
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    tensors_after_a_run()
    counts = [tensors_after_a_run() for _ in range(10)]
    assert counts[-1] <= counts[0], counts


def test_a_schedule_without_a_step_is_left_alone(run_node):
    import comfy.samplers

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    run = functools.partial(custom, conditioning=conditioning, latent=latent, sampler=comfy.samplers.sampler_object("euler"))
    one = sigmas_of(model)[:1]
    assert torch.equal(run(model, sigmas=one), run(run_node(NODE, model=model)[0], sigmas=one))


def test_a_cfg_of_one_and_the_samplers_with_cfg_pp_work_together(run_node):
    import nodes

    (model, conditioning), latent = cached_model("SD 1.5, eps"), latent_of("SD 1.5, eps")
    [aligned] = run_node(NODE, model=model)
    run = functools.partial(nodes.KSampler().sample, seed=3, steps=4, cfg=1.0, sampler_name="euler_cfg_pp",
                            scheduler="normal", positive=conditioning, negative=conditioning, denoise=0.6)
    [with_it], [without] = (run(m, latent_image={"samples": latent}) for m in (aligned, model))
    assert deviation(without["samples"], with_it["samples"]) > 0.03
