"""Makes workflows/*.json, the examples of ComfyUI's template browser:

    python tests/make_workflows.py

The pictures beside them are taken by tests/browser.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_builder import Graph, Node, Stage

FOLDER = Path(__file__).resolve().parent.parent / "workflows"
CLIP, PICTURE, KEY_FRAME = "sample.mp4", "key_frame.png", 16  # they lie beside the workflows, made by demo/make_sample.py
CHECKPOINT = "sd_xl_base_1.0.safetensors"
BLUE, GREEN, ORANGE, PURPLE, GREY = "#3f789e", "#3f8a5a", "#b06634", "#7a4fa3", "#666666"

YOUR_CLIP = """
**Your clip**: choose it in *Load Video*. One shot; for a film put *Find Shots and Key Frames* behind it.

No clip at hand? Drop *sample.mp4* on it, from this pack's folder *workflows*. *key_frame.png* there shows its frame 16.
"""


def enhance_a_clip() -> dict[str, Any]:
    g = Graph("Enhance a clip")
    note = g.note("Enhance a clip", f"""
A poor clip gets the detail of **one good frame**, which is made from the clip itself.

{YOUR_CLIP.strip()}

Then *Run*. Drag the line in *Compare*.

**The dial** is `n` of *Noise Augmentation*: low keeps the input, high invents more. A new `n` runs only what stands right \
of it.
""")
    clip = loaded(g)
    made = g.add("GenVESemanticReference", z=clip["encode"]["Z"], **shared(clip), key_frame=clip["encode"]["key frame"])
    flow = g.add("GenVEOpticalFlow", **shared(clip), key_frame=clip["encode"]["key frame"])
    steps = controlled(g, clip, made, flow)
    ends = shown(g, clip, steps["sampler"]["IMAGE"], clip["encode"]["key frame"], made["IMAGE"])
    return g.saved([
        [Stage("What this does", [[note]], GREY)],
        [Stage("1  The clip", [[clip["load"], clip["bundle"], clip["encode"]]])],
        [Stage("2  One good frame", [[made]], GREEN), Stage("3  The motion", [[flow]], GREEN)],
        [Stage("4  The noise dial", [[steps["noise"]]], ORANGE),
         Stage("5  Carry and denoise", [[steps["temporal"], steps["lca"], steps["sampler"]]], PURPLE)],
        [Stage("6  Look and save", [[ends["compare"]], [ends["create"], ends["save"]]])],
    ])  # fmt: skip


def enhance_in_one_node() -> dict[str, Any]:
    g = Graph("Enhance a clip in one node")
    note = g.note("Enhance a clip in one node", f"""
The whole method in one box: the same result as *Enhance a clip*, but every changed setting runs all of it.

{YOUR_CLIP.strip()}

`reference` takes one good picture of the key frame; without it, one is made from the clip. `n` is the noise dial: low \
keeps the input, high invents more.
""")
    load = g.add("LoadVideo", file=CLIP)
    parts = g.add("GetVideoComponents", video=load["VIDEO"])
    box = g.add("GenVEEnhanceVideo", video=load["VIDEO"])
    compare = g.add("GenVECompare", before=parts["images"], after=box["IMAGE"], frames_per_second=parts["fps"])
    save = g.add("SaveVideo", video=box["VIDEO"], filename_prefix="video/genve", format="auto", codec="auto")
    return g.saved([
        [Stage("What this does", [[note]], GREY)],
        [Stage("1  The clip", [[load, parts]])],
        [Stage("2  Enhance", [[box]], PURPLE)],
        [Stage("3  Look and save", [[compare], [save]])],
    ])  # fmt: skip


def bring_your_own_reference() -> dict[str, Any]:
    g = Graph("Bring your own reference")
    note = g.note("Bring your own reference", f"""
**You decide how the clip looks**: one good picture of one frame, and its detail is carried to all others.

{YOUR_CLIP.strip()}

1. Set the number of the **key frame**, counted from 0.
2. *Run*: *Save Image* writes that frame, up-scaled. (The first time, *Load Image* may miss its picture: let it.)
3. Make it good with any tool: an up-scaler, a diffusion model, a paint program, a photograph of the same view.
4. Load your picture in *Load Image* and *Run* again.
""")
    clip = loaded(g)
    key = g.add("PrimitiveInt", "Key frame", value=KEY_FRAME)
    pick = g.add("ImageFromBatch", "The key frame, up-scaled", image=clip["encode"]["up-scaled"], batch_index=key["INT"],
                 length=1)
    keep = g.add("SaveImage", "Save it, to make it good", images=pick["IMAGE"], filename_prefix="genve/key_frame")
    image = g.add("LoadImage", "Your picture of it", image=PICTURE)
    made = g.add("GenVEReferenceFromImage", image=image["IMAGE"], **shared(clip), key_frame=key["INT"])
    flow = g.add("GenVEOpticalFlow", **shared(clip), key_frame=key["INT"])
    steps = controlled(g, clip, made, flow)
    ends = shown(g, clip, steps["sampler"]["IMAGE"], key["INT"], made["IMAGE"])
    return g.saved([
        [Stage("What this does", [[note]], GREY)],
        [Stage("1  The clip", [[clip["load"], clip["bundle"], clip["encode"]]])],
        [Stage("2  The frame to make good", [[key, pick, keep]], ORANGE)],
        [Stage("3  Your picture of it", [[image, made]], GREEN), Stage("4  The motion", [[flow]], GREEN)],
        [Stage("5  Noise, carry, denoise", [[steps["noise"], steps["temporal"], steps["lca"], steps["sampler"]]], PURPLE)],
        [Stage("6  Look and save", [[ends["compare"]], [ends["create"], ends["save"]]])],
    ])  # fmt: skip


def any_checkpoint() -> dict[str, Any]:
    g = Graph("Make the reference with any checkpoint")
    note = g.note("Make the reference with any checkpoint", f"""
Your own SDXL or SD 1.5 checkpoint makes the good frame; **Semantic Alignment** keeps what the frame shows.

{YOUR_CLIP.strip()}

1. Choose your **checkpoint**. For SD 1.5 set `megapixels` to 0.4.
2. Say in the prompt what the frame shows.
3. `denoise` of *KSampler* is how much is made anew, `gamma_max` how strongly the frame holds on to its content.
4. Look at the picture, then at the clip.
""")
    clip = loaded(g)
    key = clip["encode"]["key frame"]
    checkpoint = g.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    aligned = g.add("GenVESemanticAlignment", model=checkpoint["MODEL"])
    pick = g.add("ImageFromBatch", "The key frame", image=clip["encode"]["up-scaled"], batch_index=key, length=1)
    large = g.add("ImageScaleToTotalPixels", "At the checkpoint's size", image=pick["IMAGE"], upscale_method="lanczos",
                  megapixels=1.0)
    encoded = g.add("VAEEncode", pixels=large["IMAGE"], vae=checkpoint["VAE"])
    wanted = g.add("CLIPTextEncode", "What the frame shows", clip=checkpoint["CLIP"],
                   text="a sharp photograph, fine detail, natural texture")
    unwanted = g.add("CLIPTextEncode", "What it should not", clip=checkpoint["CLIP"], text="blurry, noise, jpeg artifacts")
    sampled = g.add("KSampler", model=aligned["MODEL"], positive=wanted["CONDITIONING"], negative=unwanted["CONDITIONING"],
                    latent_image=encoded["LATENT"], seed=0, steps=20, cfg=5.0, sampler_name="euler", scheduler="normal",
                    denoise=0.6)
    decoded = g.add("VAEDecode", samples=sampled["LATENT"], vae=checkpoint["VAE"])
    look = g.add("PreviewImage", images=decoded["IMAGE"])
    made = g.add("GenVEReferenceFromImage", image=decoded["IMAGE"], **shared(clip), key_frame=key)
    flow = g.add("GenVEOpticalFlow", **shared(clip), key_frame=key)
    steps = controlled(g, clip, made, flow)
    ends = shown(g, clip, steps["sampler"]["IMAGE"], key, made["IMAGE"])
    return g.saved([
        [Stage("What this does", [[note]], GREY)],
        [Stage("1  The clip", [[clip["load"], clip["bundle"], clip["encode"]]])],
        [Stage("2  The key frame, made good by your checkpoint",
               [[pick, large, encoded, wanted, unwanted], [checkpoint, aligned, sampled, decoded]], ORANGE)],
        [Stage("3  The reference", [[look, made]], GREEN), Stage("4  The motion", [[flow]], GREEN)],
        [Stage("5  Noise, carry, denoise", [[steps["noise"], steps["temporal"], steps["lca"], steps["sampler"]]], PURPLE)],
        [Stage("6  Look and save", [[ends["compare"]], [ends["create"], ends["save"]]])],
    ])  # fmt: skip


def noise_sweep_and_pick() -> dict[str, Any]:
    g = Graph("Noise sweep and pick")
    note = g.note("Noise sweep and pick", f"""
Try the noise dial on a few frames, then enhance the clip with the level you like.

{YOUR_CLIP.strip()}

1. *Run*: the sheet shows each frame at each level `n`.
2. Set the `n` you like in *Noise Augmentation* and *Run* again: only what stands right of it runs.

Other `levels` or `frames` run only the sweep.
""")
    clip = loaded(g)
    key = clip["encode"]["key frame"]
    made = g.add("GenVESemanticReference", z=clip["encode"]["Z"], **shared(clip), key_frame=key)
    flow = g.add("GenVEOpticalFlow", **shared(clip), key_frame=key)
    sweep = g.add("GenVENoiseSweep", z=clip["encode"]["Z"], reference=made["reference"], flow=flow["flow"],
                  bundle=clip["bundle"]["bundle"])
    steps = controlled(g, clip, made, flow)
    ends = shown(g, clip, steps["sampler"]["IMAGE"], key, made["IMAGE"])
    return g.saved([
        [Stage("What this does", [[note]], GREY)],
        [Stage("1  The clip", [[clip["load"], clip["bundle"], clip["encode"]]])],
        [Stage("2  One good frame", [[made]], GREEN), Stage("3  The motion", [[flow]], GREEN)],
        [Stage("4  Sweep", [[sweep]], ORANGE)],
        [Stage("5  Pick", [[steps["noise"]]], ORANGE),
         Stage("6  Carry and denoise", [[steps["temporal"], steps["lca"], steps["sampler"]]], PURPLE)],
        [Stage("7  Look and save", [[ends["compare"]], [ends["create"], ends["save"]]])],
    ])  # fmt: skip


def full_paper_graph() -> dict[str, Any]:
    g = Graph("The full paper graph")
    clip = loaded(g, shots=True)
    key = clip["shots"]["key frame"]
    made = g.add("GenVESemanticReference", z=clip["encode"]["Z"], **shared(clip), key_frame=key)
    flow = g.add("GenVEOpticalFlow", **shared(clip), key_frame=key)
    steps = controlled(g, clip, made, flow)
    lca = g.add("GenVEAttentionPreview", z_n=steps["noise"]["Z_n"], carried_y_n=steps["temporal"]["Y_n"],
                bundle=clip["bundle"]["bundle"])
    pictures = {
        "reference": g.add("PreviewImage", "y, decoded", images=made["IMAGE"]),
        "flow": g.add("PreviewImage", "Motion to the key frame", images=flow["preview"]),
    }
    mask = g.add("MaskToImage", mask=steps["temporal"]["validity"])
    pictures["mask"] = g.add("PreviewImage", "Where the reference reaches", images=mask["IMAGE"])
    ends = shown(g, clip, steps["sampler"]["IMAGE"], key, made["IMAGE"])
    metrics = g.add("GenVEMetrics", result=steps["sampler"]["IMAGE"], source=clip["encode"]["up-scaled"], flow=flow["flow"])
    notes = {
        "clip": g.note("Section 3.1", f"{YOUR_CLIP.strip()}\n\n*Find Shots and Key Frames* gives one shot to the rest. Its "
                                      "frames are up-scaled and encoded: **Z**."),
        "reference": g.note("Section 3.2", "The key frame *z* is noised to T0 and denoised by the image diffuser; after every "
                                           "step Eq. 3 pulls it towards the noised original, by gamma_max at first and 0 at "
                                           "last: the reference **y**."),
        "augment": g.note("Section 3.3", "The same noise level *n* for Z and y makes **Z_n** and y_n; the flow carries y_n "
                                         "to every frame: **Y_n**."),
        "lca": g.note("Section 3.4", "Local-aware cross-attention lets every patch of Z_n ask the patches of Y_n around it. "
                                     "*Attention Preview* shows the answer for one patch."),
        "sampler": g.note("Section 3.4", "From T1 the video diffuser denoises Z under that guidance to **Z_0**, which is "
                                         "decoded with the reference's detail."),
    }  # fmt: skip
    return g.saved([
        [Stage("Clip to Z", [[notes["clip"], clip["load"], clip["bundle"]], [clip["shots"], clip["encode"]]])],
        [Stage("Semantic-aligning reference", [[notes["reference"], made], [pictures["reference"]]], GREEN),
         Stage("Optical flow", [[flow], [pictures["flow"]]], GREEN)],
        [Stage("Noise and temporal augmentation",
               [[notes["augment"], steps["noise"], steps["temporal"]], [mask, pictures["mask"]]], ORANGE),
         Stage("Local-aware cross-attention", [[notes["lca"], steps["lca"]], [lca]], PURPLE)],
        [Stage("Video diffuser", [[notes["sampler"], steps["sampler"]]], PURPLE),
         Stage("Save", [[ends["create"], ends["save"]]])],
        [Stage("Look", [[ends["compare"]]]), Stage("Measure", [[metrics]])],
    ])  # fmt: skip


def loaded(g: Graph, shots: bool = False) -> dict[str, Node]:
    """Load Video, the bundle, Upscale and Encode; with `shots`, one shot of the video."""
    load = g.add("LoadVideo", file=CLIP)
    bundle = g.add("GenVELoadBundle")
    parts = {"load": load, "bundle": bundle}
    source = load["VIDEO"]
    if shots:
        parts["shots"] = g.add("GenVEFindShots", video=source)
        source = parts["shots"]["IMAGE"]
    return {**parts, "encode": g.add("GenVEUpscaleEncode", video=source, bundle=bundle["bundle"])}


def shared(clip: dict[str, Node]) -> dict[str, Any]:
    return {"images": clip["encode"]["up-scaled"], "bundle": clip["bundle"]["bundle"]}


def controlled(g: Graph, clip: dict[str, Node], reference: Node, flow: Node) -> dict[str, Node]:
    """From the reference to the finished frames."""
    Z, bundle = clip["encode"]["Z"], clip["bundle"]["bundle"]
    noise = g.add("GenVENoiseAugmentation", z=Z, reference=reference["reference"])
    temporal = g.add("GenVETemporalAugmentation", y_n=noise["y_n"], flow=flow["flow"])
    lca = g.add("GenVELCAController", z_n=noise["Z_n"], carried_y_n=temporal["Y_n"], bundle=bundle)
    sampler = g.add("GenVEVideoDiffuserSampler", z=Z, guidance=lca["guidance"])
    return {"noise": noise, "temporal": temporal, "lca": lca, "sampler": sampler}


def shown(g: Graph, clip: dict[str, Node], frames: Any, key_frame: Any, reference: Any) -> dict[str, Node]:
    """Compare, Create Video and Save Video. The frames of a shot have their rate from it, and no sound."""
    source = clip.get("shots", clip["encode"])
    rate = source["frame rate"]
    sound = {} if "shots" in clip else {"audio": source["audio"]}
    compare = g.add("GenVECompare", before=clip["encode"]["up-scaled"], after=frames, reference=reference,
                    key_frame=key_frame, frames_per_second=rate)
    create = g.add("CreateVideo", images=frames, fps=rate, **sound)
    save = g.add("SaveVideo", video=create["VIDEO"], filename_prefix="video/genve", format="auto", codec="auto")
    return {"compare": compare, "create": create, "save": save}


WORKFLOWS: dict[str, Callable[[], dict[str, Any]]] = {
    "Enhance a clip": enhance_a_clip,
    "Enhance a clip in one node": enhance_in_one_node,
    "Bring your own reference": bring_your_own_reference,
    "Make the reference with any checkpoint": any_checkpoint,
    "Noise sweep and pick": noise_sweep_and_pick,
    "The full paper graph": full_paper_graph,
}


def written(name: str) -> str:
    """The content of workflows/<name>.json."""
    return json.dumps(WORKFLOWS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for workflow in WORKFLOWS:
        (FOLDER / f"{workflow}.json").write_text(written(workflow), encoding="utf-8")
