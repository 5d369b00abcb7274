"""What users get wrong, each in the real host over HTTP: one line on the node that says what came, what was wanted and
what to do, or a run that works. Bundles that are missing or damaged: test_load_bundle.py; shots, metrics, sweeps:
test_look_nodes.py."""

from __future__ import annotations

import re

import pytest
import torch
from comfy_api_recorder import read_snapshot
from host.graph import (
    BUNDLE,
    ENCODE,
    FLOW,
    LCA,
    NOISE,
    REFERENCE,
    SAMPLER,
    SAVE,
    TEMPORAL,
    alike,
    enhance,
    graph,
    made,
    node,
)

PICTURE = ["picture", 0]
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def picture(width=96, height=60, channels=3, frames=1, seed=1):
    return {"picture": node("ProbeImages", frames=frames, width=width, height=height, channels=channels, seed=seed)}


def with_image(**settings):
    """The graph with a reference IMAGE."""
    return graph({**made(), **picture()}, image=PICTURE, **settings)


def wired(prompt, at, name, link):
    prompt[at]["inputs"][name] = link
    return prompt


def is_told(host, prompt, at, message):
    """The prompt fails at node `at` with one line that matches."""
    result = host.run(prompt)
    assert result.status == "error", result
    assert list(result.errors) == [at], result.errors
    assert re.search(message, result.errors[at]) and "\n" not in result.errors[at], result.errors[at]


def works(host, prompt, shape):
    """The prompt gives finite frames of that shape; returns them with what the nodes said."""
    result = host.run(prompt)
    assert result.status == "success", result.errors
    frames = host.saved("frames.pt")
    assert frames.shape == shape and bool(torch.isfinite(frames).all())
    return frames, result


# Wrong type on a socket

@pytest.mark.parametrize("at, name, link", [
    (ENCODE, "video", [BUNDLE, 1]), (ENCODE, "bundle", [BUNDLE, 1]), (REFERENCE, "z", [ENCODE, 1]), (NOISE, "n", [ENCODE, 1]),
    (FLOW, "images", [ENCODE, 0]), (TEMPORAL, "flow", [ENCODE, 1]), (LCA, "z_n", [NOISE, 1]), (SAMPLER, "z", [LCA, 0]),
])  # fmt: skip
def test_a_wire_between_different_types_is_refused_before_anything_runs(host, at, name, link):
    result = host.run(wired(graph(made()), at, name, link))
    assert result.status == "invalid" and result.executed == []
    assert "Return type mismatch between linked nodes" in result.errors[at] and name in result.errors[at]


def all_nodes():
    """Every node of the pack, with every socket wired: node id -> prompt, and the number of the node in it."""
    prompt = with_image()
    del prompt[SAVE]
    own = graph(made())[REFERENCE]
    links = {"z": [ENCODE, 0], "images": [ENCODE, 1], "bundle": [BUNDLE, 0], "reference": [REFERENCE, 0], "flow": [FLOW, 0]}
    z_n, y_n = [NOISE, 0], [TEMPORAL, 0]
    prompt |= {
        "own": own, "enhance": enhance(made(), reference=PICTURE, bundle=[BUNDLE, 0])["enhance"],
        "look": node("GenVEAttentionPreview", z_n=z_n, carried_y_n=y_n, bundle=[BUNDLE, 0], frame=1, x=0.5, y=0.5),
        "sweep": node("GenVENoiseSweep", **{k: links[k] for k in ("z", "reference", "flow", "bundle")}, levels="0", frames="0",
                      frame_count=1, steps=0, seed=0, strength=1.0, window=16, overlap=4, cell_width=64),
        "metrics": node("GenVEMetrics", result=[ENCODE, 1], source=["source", 0], scale=2, window=16, overlap=4,
                        plot_width=300),
        "clean": node("GenVEPreclean", video=["source", 0], bundle=[BUNDLE, 0], preclean=0.5),
        "shots": node("GenVEFindShots", video=["source", 0], shot=0, sensitivity=0.5, key_frames="", shortest=4),
        "compare": node("GenVECompare", before=["source", 0], after=["source", 0], key_frame=-1, frames_per_second=24.0,
                        resize="bicubic", most_frames=10),
        # its other settings are looked at before the model, which would need a checkpoint
        "align": node("GenVESemanticAlignment", model=["wrong", 0], gamma_max=0.5, noise="same noise", seed=0),
        "align sampler": node("GenVESemanticAlignmentSampler", gamma_max=0.5, noise="same noise", seed=0,
                              sampler=["sampler name", 0]),
        "sampler name": node("KSamplerSelect", sampler_name="euler"),
    }  # fmt: skip
    return prompt


def sockets():
    """(node id, input) of every socket of the pack."""
    return [(one["node_id"], i["id"]) for one in read_snapshot() for i in one["inputs"] if i["type"] not in WIDGETS]


@pytest.mark.parametrize("node_id, name", sockets())
def test_a_value_of_another_kind_is_told_on_every_socket(host, node_id, name):
    """Through a wildcard socket of another pack anything can come."""
    prompt = all_nodes()
    (at,) = (number for number, part in prompt.items() if part["class_type"] == node_id)
    host.put("wrong.pt", {"waveform": torch.zeros(1, 1, 4), "sample_rate": 8000})
    prompt[at]["inputs"][name] = ["wrong", 0]
    prompt |= {"wrong": node("ProbeLoad", file="wrong.pt"), "end": node("ProbeSave", value=[at, 0], file="end.pt")}
    is_told(host, ending_at(prompt, at), at, r"^[\w -]+ is a dictionary with waveform, sample_rate, wanted .+; \w+ .+")


def ending_at(prompt, at):
    """Only node `at`, what it needs, and what keeps its result."""
    kept, waiting = {}, [at]
    while waiting:
        name = waiting.pop()
        kept[name] = prompt[name]
        waiting += [v[0] for v in prompt[name]["inputs"].values() if isinstance(v, list) and v[0] not in kept]
    return {**kept, "end": prompt["end"]} if at != "end" else kept


# Latents of another VAE, and of nothing

FOREIGN = [
    (node("EmptyLatentImage", width=80, height=64, batch_size=5),
     "has 4 channels, the bundle's VAE has 16: these are latents of another VAE; encode the frames with the bundle's VAE"),
    (node("EmptyHunyuanLatentVideo", width=80, height=64, length=17, batch_size=1),
     r"has 5 axes, \(1, 16, 5, 8, 10\), wanted .* another VAE; encode"),
]  # fmt: skip


@pytest.mark.parametrize("at, name", [(REFERENCE, "z"), (NOISE, "z"), (LCA, "z_n"), (LCA, "carried_y_n"), (SAMPLER, "z")])
@pytest.mark.parametrize("latent, message", FOREIGN)
def test_latents_of_another_vae_are_told(host, at, name, latent, message):
    is_told(host, {**wired(graph(made()), at, name, ["foreign", 0]), "foreign": latent}, at, message)


@pytest.mark.parametrize("file, samples, message", [
    ("none.pt", torch.zeros(0, 16, 8, 12), r"Z is empty, \(0, 16, 8, 12\), wanted at least one frame; check the node that"),
    ("nan.pt", torch.full((5, 16, 8, 12), float("nan")), "Z holds NaN or infinity; check the node that makes it"),
])
def test_latents_of_nothing_are_told(host, file, samples, message):
    host.put(file, {"samples": samples})
    prompt = wired(graph(made()), NOISE, "z", ["foreign", 0])
    is_told(host, {**prompt, "foreign": node("ProbeLoad", file=file)}, NOISE, message)


# Parts of different clips

def another(prompt, frames=5, scale=2.0, key_frame=2):
    """The graph, beside it the beginning of one on another clip: "z2", "made2" and "flow2"."""
    shared = {"images": ["z2", 1], "bundle": [BUNDLE, 0], "key_frame": key_frame}
    return {**prompt, "source2": made(frames, seed=5)["source"],
            "z2": {**prompt[ENCODE], "inputs": {**prompt[ENCODE]["inputs"], "video": ["source2", 0], "scale": scale}},
            "made2": node("GenVEReferenceFromImage", image=["source3", 0], **shared, fit="cover", match_colour=True),
            "source3": made(1, seed=6)["source"], "flow2": node("GenVEOpticalFlow", **shared, estimator="auto")}


CLIPS = "they are of different clips; wire both from one Upscale and Encode Video"


@pytest.mark.parametrize("other", [{"frames": 7}, {"scale": 4.0}])
@pytest.mark.parametrize("at, name, link, message", [
    (REFERENCE, "z", ["z2", 0], "Z has . frames of .* latents, images 5 frames of 12x8"),
    (NOISE, "z", ["z2", 0], None),
    (TEMPORAL, "flow", ["flow2", 0], "y_n has . frames of .*, the flow's clip . frames"),
    (LCA, "z_n", ["noise2", 0], "Z_n has . frames of .* latents, Y_n's clip 5 frames of 12x8"),
    (SAMPLER, "z", ["z2", 0], "Z has . frames of .* latents, the guidance's clip 5 frames of 12x8"),
])
def test_parts_of_different_clips_are_told(host, other, at, name, link, message):
    prompt = wired(another(graph(made()), **other), at, name, link)
    prompt["noise2"] = node("GenVENoiseAugmentation", z=["z2", 0], reference=["made2", 0], n=250, seed=0)
    if at == NOISE and "frames" in other:  # a longer clip has that key frame too: told where the flow is used
        at, message = LCA, "Z_n has 7 frames of 12x8 latents, Y_n's clip 5 frames of 12x8"
    if at == TEMPORAL and "frames" in other:
        at, message = LCA, "Z_n has 5 frames of 12x8 latents, Y_n's clip 7 frames of 12x8"
    is_told(host, prompt, at, f"{message or 'Z has 5 frames of .* latents, the reference is of frame 2 and'}.*{CLIPS}")


@pytest.mark.parametrize("at, shown", [(REFERENCE, "images"), (SAMPLER, "the guidance's clip")])
def test_latents_of_another_clip_of_the_same_size_are_told(host, at, shown):
    prompt = wired(another(graph(made())), at, "z", ["z2", 0])
    is_told(host, prompt, at, rf"^Z does not show {shown}: .* are like that frame by -?0\.\d\d of 1, wanted 0\.25 or more; "
                              r"they are of another clip or another VAE, wire Z of its Upscale and Encode Video$")


def test_two_noise_levels_are_told(host):
    prompt = wired(graph(made()), LCA, "z_n", ["noise2", 0])
    prompt["noise2"] = {**prompt[NOISE], "inputs": {**prompt[NOISE]["inputs"], "n": 100}}
    is_told(host, prompt, LCA, "Z_n has noise level 100, Y_n 250; wire both from one Noise Augmentation")


def test_the_flow_to_another_key_frame_is_told(host):
    is_told(host, wired(graph(made(), key_frame=2), FLOW, "key_frame", 4), TEMPORAL,
            "the reference depicts frame 2, but the flow leads to key frame 4; use one key frame for both")


@pytest.mark.parametrize("at", [REFERENCE, FLOW])
def test_a_key_frame_that_is_not_in_the_clip_is_told(host, at):
    prompt = wired(graph(made()), at, "key_frame", 5)
    is_told(host, prompt, at, r"key frame must be in \[0, 4\] for a clip of 5 frames, got 5")


@pytest.mark.parametrize("at, name, link, message", [
    (NOISE, "reference", ["noise2", 1], "reference is y_n of another Noise Augmentation, wanted one without noise; wire"),
    (TEMPORAL, "y_n", [REFERENCE, 0], "y_n is a reference without noise, wanted y_n of Noise Augmentation; put that node"),
    (LCA, "z_n", [ENCODE, 0], "Z_n does not come from Noise Augmentation, .*; wire Z_n of Noise Augmentation to it"),
    (LCA, "carried_y_n", [NOISE, 0], "Y_n does not come from Temporal Augmentation, .*; wire Y_n of Temporal Augmentation"),
])
def test_a_stage_that_is_left_out_or_done_twice_is_told(host, at, name, link, message):
    prompt = wired(graph(made()), at, name, link)
    prompt["noise2"] = node("GenVENoiseAugmentation", z=[ENCODE, 0], reference=[REFERENCE, 0], n=100, seed=0)
    is_told(host, prompt, at, message)


# The reference

@pytest.mark.parametrize("fit, what", [("cover", "of it is cut off"), ("contain", "of the frame is without reference"),
                                       ("stretch", "it is stretched")])
def test_a_reference_of_another_aspect_works_and_is_told(host, fit, what):
    prompt = wired(graph({**made(), **picture(60, 96)}, image=PICTURE), REFERENCE, "fit", fit)
    _, result = works(host, prompt, (5, 48, 80, 3))
    text = result.outputs[REFERENCE]["text"][0]  # next, that it shows something else
    assert text.startswith("the reference is 60x96 px, of another aspect than the frame's 80x48: ") and what in text


def test_a_reference_of_something_else_is_used_as_it_lies_if_that_is_asked_for(host):
    made_with, said = {}, {}
    for align in (True, False):
        prompt = {**with_image(), **picture(80, 48)}
        prompt[REFERENCE]["inputs"]["align"] = align
        made_with[align], result = works(host, prompt, (5, 48, 80, 3))
        said[align] = result.outputs.get(REFERENCE, {}).get("text", [""])[0]
        box, _ = works(host, enhance({**made(), **picture(80, 48)}, reference=PICTURE, align=align), (5, 48, 80, 3))
        assert alike(box, made_with[align])
    assert said[True].startswith("the reference shows something else than the key frame") and not said[False]
    assert (made_with[True] - made_with[False]).abs().mean() > 0.01


@pytest.mark.parametrize("size, message", [
    ({"width": 7}, "the reference is 7x60 px, but each side must be at least 8 px"),
    ({"frames": 2}, "holds 2 pictures, wanted one, of the key frame; pick it with Image From Batch"),
    ({"frames": 0}, "holds 0 frames of 96x60 px, wanted at least one; check the node that loads them"),
    ({"channels": 1}, r"has 1 channels, wanted 3 \(RGB\) or 4 \(RGBA\); convert it to RGB first"),
])
@pytest.mark.parametrize("box", [False, True])
def test_a_reference_that_cannot_be_used_is_told(host, size, message, box):
    if box:
        is_told(host, enhance({**made(), **picture(**size)}, reference=PICTURE), "enhance", message)
    else:
        is_told(host, {**with_image(), **picture(**size)}, REFERENCE, message)


def test_an_rgba_reference_is_used_where_it_is_opaque(host):
    host.put("rgba.pt", torch.cat([torch.rand(1, 60, 96, 3), torch.zeros(1, 60, 96, 1)], dim=-1))
    clear = {**with_image(), "picture": node("ProbeLoad", file="rgba.pt")}
    is_told(host, clear, REFERENCE, "the reference is transparent everywhere; give a picture with opaque parts")
    _, result = works(host, {**with_image(), **picture(channels=4)}, (5, 48, 80, 3))
    assert re.search(r"\d+ % of the reference is transparent and not used", result.outputs[REFERENCE]["text"][0])


# Any number of frames, any size, any channels

@pytest.mark.parametrize("frames, width, height, scale", [
    (1, 40, 24, 2.0), (2, 33, 21, 4.0), (9, 41, 23, 2.0), (17, 24, 16, 2.0), (20, 17, 31, 1.0), (3, 40, 24, 0.5),
])  # fmt: skip
def test_one_frame_any_count_and_odd_sizes_work(host, frames, width, height, scale):
    """17 and 20 are more than one window."""
    shape = (frames, round(scale * height), round(scale * width), 3)
    clip = made(frames, width, height)
    box, _ = works(host, enhance(clip, scale=scale), shape)
    whole, _ = works(host, graph(clip, scale=scale), shape)
    assert alike(box, whole)


def test_rgba_frames_work(host):
    clip = made(3, channels=4)
    _, result = works(host, graph(clip), (3, 48, 80, 3))
    assert result.outputs[ENCODE]["text"] == ["The transparency is left out here; Enhance Video (GenVE) keeps it."]
    works(host, enhance(clip), (3, 48, 80, 4))


@pytest.mark.parametrize("clip, message", [
    (made(0), "holds 0 frames of 40x24 px, wanted at least one; check the node that loads them"),
    (made(3, 7, 24), "video is 7x24 px, but needs 8 px a side or more"),
    (made(3, channels=2), r"has 2 channels, wanted 3 \(RGB\) or 4 \(RGBA\); convert it to RGB first"),
])
@pytest.mark.parametrize("box", [False, True])
def test_a_clip_that_cannot_be_used_is_told(host, clip, message, box):
    prompt, at = (enhance(clip), "enhance") if box else (graph(clip), ENCODE)
    is_told(host, prompt, at, message)


@pytest.mark.parametrize("at, name, value, message", [
    (ENCODE, "scale", 9.0, "scale"), (NOISE, "n", 1000, "n"), (NOISE, "n", -1, "n"), (LCA, "strength", 1.5, "strength"),
    (SAMPLER, "steps", -1, "steps"), (SAMPLER, "window", 0, "window"),
])  # fmt: skip
def test_a_number_out_of_range_is_refused_before_anything_runs(host, at, name, value, message):
    result = host.run(wired(graph(made()), at, name, value))
    assert result.status == "invalid" and result.executed == []
    assert re.search(rf"Value {value} (bigger|smaller) than (max|min) of .*: {message}", result.errors[at]), result.errors


@pytest.mark.parametrize("at, name, message", [
    (REFERENCE, "noise", "noise must be one of same noise, literal, got 'best'"),
    (FLOW, "estimator", "flow estimator must be 'auto', 'dis' or 'raft', got 'best'"),
    (SAMPLER, "colour", "colour method must be low, adain or none, got 'best'"),
])
def test_a_choice_that_is_not_offered_is_told(host, at, name, message):
    """Host 0.3.64 does not check choices; newer ones refuse the prompt."""
    result = host.run(wired(graph(made()), at, name, "best"))
    assert result.status in ("error", "invalid") and list(result.errors) == [at]
    assert re.search(message, result.errors[at]) or result.status == "invalid"


@pytest.mark.parametrize("at, changes, message", [
    (SAMPLER, {"window": 4, "overlap": 4}, "need 0 <= overlap < window length, got 4 and 4"),
    (SAMPLER, {"steps": 300, "t1": 250}, "steps"),
    (LCA, {"start": 0.6, "end": 0.4}, "guidance needs 0 <= start <= end <= 1, got 0.6 and 0.4"),
])
def test_settings_that_do_not_fit_each_other_are_told(host, at, changes, message):
    prompt = graph(made())
    prompt[at]["inputs"].update(changes)
    is_told(host, prompt, at, message)
