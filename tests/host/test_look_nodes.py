"""The nodes to look, choose and measure, and the shots, in the real host."""

import json

import pytest
import torch
from host.graph import BUNDLE, ENCODE, FLOW, LCA, NOISE, REFERENCE, SAMPLER, SAVE, TEMPORAL, graph, made, node
from media_clips import to_bytes, write_clip

SEEN = "seen"  # the node under test


def saves(**links):
    """ProbeSave nodes: file name without .pt -> what it keeps."""
    return {f"keep_{name}": node("ProbeSave", value=link, file=f"{name}.pt") for name, link in links.items()}


def only(prompt, *names):
    """The prompt without its save node, with these nodes dropped as well."""
    return {key: value for key, value in prompt.items() if key not in (SAVE, *names)}


def fails(host, prompt, message):
    result = host.run(prompt)
    assert result.status == "error", result
    assert list(result.errors) == [SEEN]
    assert message in result.errors[SEEN] and "\n" not in result.errors[SEEN]


# Attention Preview

def preview(**inputs):
    values = dict(z_n=[NOISE, 0], carried_y_n=[TEMPORAL, 0], bundle=[BUNDLE, 0], frame=1, x=0.5, y=0.25)
    return {**only(graph(made()), LCA, SAMPLER), SEEN: node("GenVEAttentionPreview", **{**values, **inputs})}


def test_attention_is_shown_beside_the_frame_and_moves_with_the_patch(host):
    found = []
    for x in (0.1, 0.9):
        result = host.run({**preview(x=x), **saves(attention=[SEEN, 0], up=[ENCODE, 1])})
        assert result.status == "success", result.errors
        assert len(result.outputs[SEEN]["images"]) == 1
        found.append(host.saved("attention.pt"))
    assert found[0].shape == (1, 48, 166, 3)  # 80x48 px twice, 6 px between
    changed = (found[0] - found[1]).abs().amax(-1)[0]
    up = host.saved("up.pt")[1]
    assert (changed[:, 86:] > 0.1).any()
    # the frame itself but for the patch and its frame: 16 px and 2 px around
    assert (found[0][0, :, 22:80] - up[:, 22:]).abs().max() < 1e-3
    assert result.executed == [SEEN, "keep_attention"]  # nothing is computed anew for another place


@pytest.mark.parametrize(("inputs", "message"), [
    ({"frame": 5}, "frame 5 is not in the clip of 5 frames; choose from 0 to 4"),
    ({"z_n": [ENCODE, 0]}, "Z_n does not come from Noise Augmentation"),
    ({"carried_y_n": [NOISE, 0]}, "Y_n does not come from Temporal Augmentation"),
])
def test_attention_of_what_is_not_there_is_refused(host, inputs, message):
    fails(host, preview(**inputs), message)


def test_a_bundle_that_is_none_is_refused(host):
    wrong = node("ProbeAny", value=["source", 0])
    fails(host, {**preview(bundle=["wrong", 0]), "wrong": wrong}, "bundle is a tensor of shape (5, 24, 40, 3), wanted")


# Noise Sweep

def sweep(clip=None, **inputs):
    values = dict(z=[ENCODE, 0], reference=[REFERENCE, 0], flow=[FLOW, 0], bundle=[BUNDLE, 0], levels="0, 400", frames="",
                  frame_count=2, steps=0, seed=3, strength=1.0, window=16, overlap=4, cell_width=64)
    return {**only(graph(clip or made(), seed=3), NOISE, TEMPORAL, LCA, SAMPLER),
            SEEN: node("GenVENoiseSweep", **{**values, **inputs})}


def test_the_sweeps_frames_are_those_of_the_graph(host):
    result = host.run({**sweep(frames="1 4"), **saves(sheet=[SEEN, 0], pictures=[SEEN, 1])})
    assert result.status == "success", result.errors
    assert len(result.outputs[SEEN]["images"]) == 1 and result.progress
    pictures = host.saved("pictures.pt")
    assert pictures.shape == (4, 48, 80, 3)  # frame 1 at 0 and 400, frame 4 at 0 and 400
    for column, n in enumerate((0, 400)):
        assert host.run(graph(made(), seed=3, n=n)).status == "success"
        whole = host.saved("frames.pt")
        for row, frame in enumerate((1, 4)):
            assert (pictures[2 * row + column] - whole[frame]).abs().max() < 1e-4
    sheet = host.saved("sheet.pt")
    assert sheet.shape[2] > 3 * 64 and sheet.shape[1] < 2 * 48 + 60  # a column for the input; reduced to 64 px


def test_another_level_runs_the_sweep_alone(host):
    assert host.run(sweep()).status == "success"
    assert host.run(sweep(levels="100")).executed == [SEEN]


def test_a_second_reference_has_its_own_columns(host):
    other = node("ProbeImages", frames=1, width=80, height=48, channels=3, seed=9)
    second = node("GenVEReferenceFromImage", image=["other", 0], images=[ENCODE, 1], bundle=[BUNDLE, 0],
                  key_frame=[ENCODE, 2], fit="cover", match_colour=True)
    prompt = {**sweep(frames="0", levels="250", reference_b=["second", 0]), "other": other, "second": second}
    result = host.run({**prompt, **saves(pictures=[SEEN, 1])})
    assert result.status == "success", result.errors
    a, b = host.saved("pictures.pt")
    assert (a - b).abs().mean() > 0.002


@pytest.mark.parametrize(("inputs", "message"), [
    ({"levels": ""}, "a sweep needs at least one noise level and one frame, got 0 and 2"),
    ({"levels": "0, many"}, "levels must be"),
    ({"levels": "1000"}, "noise level must be in [0, 999], got 1000"),
    ({"frames": "5"}, "frame 5 is not in the clip of 5 frames; choose from 0 to 4"),
    ({"frames": "-1"}, "frames must be"),
    ({"levels": " ".join(map(str, range(60)))}, "the sweep would have 120 pictures, at most 100 are made"),
    ({"overlap": 16}, "need 0 <= overlap < window length, got 16 and 16"),
])
def test_sweeps_that_cannot_be_are_refused(host, inputs, message):
    fails(host, sweep(**inputs), message)


def test_references_and_latents_of_another_clip_are_refused(host):
    noise = node("GenVENoiseAugmentation", z=[ENCODE, 0], reference=[REFERENCE, 0], n=100, seed=0)
    fails(host, {**sweep(reference=["noised", 1]), "noised": noise}, "reference A is y_n of Noise Augmentation")
    small = node("GenVEUpscaleEncode", video=["source", 0], bundle=[BUNDLE, 0], scale=1.0, width=0, height=0)
    fails(host, {**sweep(z=["small", 0]), "small": small}, "they are of different clips; wire both from one Upscale and Encode")
    other = node("GenVESemanticReference", z=["small", 0], images=["small", 1], bundle=[BUNDLE, 0], key_frame=2, steps=0,
                 t0=0, gamma_max=0.5, seed=0, noise="same noise")
    fails(host, {**sweep(reference=["other", 0]), "small": small, "other": other}, "reference A has (16, 4, 8) latents")


# Metrics

def metrics(clip=None, **inputs):
    values = dict(result=["large", 0], source=["source", 0], scale=2, window=3, overlap=1, plot_width=300)
    large = node("ImageScale", image=["source", 0], upscale_method="bicubic", width=80, height=48, crop="disabled")
    return {**(clip or made(6)), "large": large, SEEN: node("GenVEMetrics", **{**values, **inputs})}


def test_a_bicubic_result_is_as_sharp_as_its_input_and_steady(host):
    result = host.run({**metrics(truth=["large", 0]), **saves(plot=[SEEN, 2])})
    assert result.status == "success", result.errors
    (text,) = result.outputs[SEEN]["text"]
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "Fidelity to the input", "Sharpness", "Sharpness gain", "Warp ratio", "Seam score", "PSNR against the truth"]
    assert host.saved("plot.pt").shape[2] == 300 and len(result.outputs[SEEN]["images"]) == 1


def test_the_numbers_come_as_json_and_follow_what_is_wired(host, run_node):
    images = torch.rand(4, 12, 16, 3).repeat_interleave(4, 1).repeat_interleave(4, 2)
    text, numbers, _ = run_node("GenVEMetrics", result=images, source=images[:, ::4, ::4])
    values = json.loads(numbers)
    assert values["input_psnr"] == 100 and values["frames"] == 4 and values["seam_score"] is None
    assert f"Fidelity to the input: {values['input_psnr']:.2f} dB" in text
    assert len(values["per_frame"]["warp_error"]) == 4 and values["per_frame"]["warp_error"][0] is None


def test_the_graphs_flow_serves_the_warp_ratio(host):
    prompt = {**only(graph(made()), NOISE, TEMPORAL, LCA, SAMPLER),
              SEEN: node("GenVEMetrics", result=[ENCODE, 1], source=["source", 0], scale=4, window=16, overlap=4,
                         plot_width=300, flow=[FLOW, 0])}
    result = host.run(prompt)
    assert result.status == "success", result.errors
    assert "Warp ratio: 1.00 times the input's change" in result.outputs[SEEN]["text"][0]
    other = node("GenVEUpscaleEncode", video=["source", 0], bundle=[BUNDLE, 0], scale=3.0, width=0, height=0)
    prompt[SEEN]["inputs"]["result"] = ["other", 1]
    fails(host, {**prompt, "other": other}, "the flow is of 5 frames of 80x48 px, the result has 5 of 120x72")


@pytest.mark.parametrize(("inputs", "message"), [
    ({"result": ["source", 0], "source": ["large", 0]}, "are the two swapped?"),
    ({"truth": ["source", 0]}, "the truth has 6 frames of 40x24 px, the result 6 frames of 80x48 px"),
    ({"source": ["one", 0]}, "the result has 6 frames and the input 1, wanted as many"),
    ({"source": ["none", 0]}, "input holds 0 frames of 40x24 px, wanted at least one"),
    ({"overlap": 3}, "need 0 <= overlap < window length, got 3 and 3"),
])
def test_what_cannot_be_measured_is_refused(host, inputs, message):
    extra = {name: node("ProbeImages", frames=frames, width=40, height=24, channels=3, seed=0)
             for name, frames in (("one", 1), ("none", 0))}
    fails(host, {**metrics(**inputs), **extra}, message)


# Find Shots and Key Frames

def scene(seed, frames):
    # large: the camera's 2 px a frame must be slow beside a cut
    return node("ProbeImages", frames=frames, width=192, height=128, channels=3, seed=seed)


def shots(**inputs):
    values = dict(video=["clip", 0], shot=0, sensitivity=0.5, key_frames="", shortest=4)
    return {"a": scene(1, 6), "b": scene(2, 8), "clip": node("ImageBatch", image1=["a", 0], image2=["b", 0]),
            SEEN: node("GenVEFindShots", **{**values, **inputs})}


NAMES = ("shots", "frames", "key", "start", "end", "count", "rate", "strip")


def numbers(run_node, video, **inputs):
    pytest.importorskip("scenedetect")
    return dict(zip(NAMES, run_node("GenVEFindShots", video=video, **inputs), strict=True))


@pytest.mark.parametrize("shot", [0, 1])
def test_the_chosen_shots_frames_go_on(host, shot):
    pytest.importorskip("scenedetect")
    result = host.run({**shots(shot=shot), **saves(frames=[SEEN, 1], part=["ab"[shot], 0], strip=[SEEN, 7])})
    assert result.status == "success", result.errors
    assert torch.equal(host.saved("frames.pt"), host.saved("part.pt"))
    assert len(result.outputs[SEEN]["images"]) == 1 and host.saved("strip.pt").shape[0] == 1


@pytest.fixture(scope="module")
def cut():
    """Two scenes as an IMAGE of 8 bit: frames 0 to 5, and 6 to 13."""
    def one(seed, frames):
        coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed))
        wide = torch.nn.functional.interpolate(coarse, size=(128, 192 + 2 * frames), mode="bicubic").clamp(0, 1)[0]
        return torch.stack([wide[:, :, 2 * i : 2 * i + 192] for i in range(frames)])

    return (torch.cat([one(1, 6), one(2, 8)]) * 255).round().movedim(1, -1) / 255


def test_numbers_are_of_the_whole_video_but_the_key_frame_of_the_shot(run_node, cut):
    found = numbers(run_node, cut, shot=1)
    assert (found["start"], found["end"], found["count"], found["rate"]) == (6, 13, 2, 25.0)
    assert 0 <= found["key"] < 8 and found["shots"].shots[1].key == 6 + found["key"] and found["shots"].frames == 14
    named = numbers(run_node, cut, shot=1, key_frames="2, 13")
    assert named["key"] == 7 and [shot.key for shot in named["shots"].shots] == [2, 13]


def test_a_video_file_gives_what_its_frames_give_with_its_own_rate(run_node, cut, tmp_path):
    from comfy_api.latest import InputImpl

    from genve_core.media import probe

    frames = (cut * 255).round().movedim(-1, 1) / 127.5 - 1
    write_clip(tmp_path / "cut.mkv", list(to_bytes(frames)), pixel_format="bgr0")
    file = numbers(run_node, InputImpl.VideoFromFile(str(tmp_path / "cut.mkv")), shot=1)
    images = numbers(run_node, cut, shot=1)
    for name in ("frames", "strip"):  # equal but for the rounding between [0, 1] and [-1, 1]
        assert (file[name] - images[name]).abs().max() < 1e-6
    assert all(file[name] == images[name] for name in ("key", "start", "end", "count"))
    assert file["rate"] == float(probe(tmp_path / "cut.mkv").rate)


def test_one_shot_without_a_cut_is_passed_on_whole_with_its_alpha(run_node, cut):
    opaque = torch.cat([cut[:6], torch.full_like(cut[:6, ..., :1], 0.5)], dim=-1)
    found = numbers(run_node, opaque)
    assert torch.equal(found["frames"], opaque) and found["count"] == 1


@pytest.mark.parametrize(("inputs", "message"), [
    ({"shot": 2}, "shot 2 is not in the video, which has 2; choose from 0 to 1"),
    ({"key_frames": "14"}, "key frame 14 is not in the clip of 14 frames; choose from 0 to 13"),
    ({"key_frames": "1, 2"}, "key frames 1 and 2 are both in shot 0 (frames 0 to 5)"),
    ({"key_frames": "first"}, "key frames must be"),
    ({"video": ["none", 0]}, "video holds 0 frames of 192x128 px, wanted at least one"),
    ({"video": ["wrong", 0]}, "video is a dictionary with samples, wanted an IMAGE or a VIDEO"),
])
def test_shots_that_are_not_there_are_refused(host, inputs, message):
    pytest.importorskip("scenedetect")
    host.put("latent.pt", {"samples": torch.zeros(1, 4, 4, 6)})
    extra = {"none": scene(1, 0), "wrong": node("ProbeLoad", file="latent.pt")}
    fails(host, {**shots(**inputs), **extra}, message)
