"""The method's graph as tests want it: over HTTP as a prompt, and in this process call by call."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

Prompt = dict[str, dict[str, Any]]
BUNDLE, ENCODE, REFERENCE, FLOW, NOISE, TEMPORAL, LCA, SAMPLER, SAVE = (
    "bundle", "encode", "reference", "flow", "noise", "temporal", "lca", "sampler", "save")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def source(file: str = "clip.mkv") -> Prompt:
    """A VIDEO file, as node "source"."""
    return {"source": node("LoadVideo", file=file)}


def made(frames: int = 5, width: int = 40, height: int = 24, channels: int = 3, seed: int = 0) -> Prompt:
    """An IMAGE without a file, as node "source"."""
    return {"source": node("ProbeImages", frames=frames, width=width, height=height, channels=channels, seed=seed)}


def graph(clip: Prompt, *, scale: float = 2.0, image: Any = None, key_frame: Any = None, n: int = 250, strength: float = 1.0,
          seed: int = 0, steps: int = 0, t1: int = 0) -> Prompt:
    """The whole graph on node "source" of `clip`; node "save" keeps the frames as frames.pt.

    image: a link to a reference IMAGE; None = Semantic-Aligning Reference.   seed: of every node that draws noise.
    """
    key = [ENCODE, 2] if key_frame is None else key_frame
    shared = {"images": [ENCODE, 1], "bundle": [BUNDLE, 0], "key_frame": key}
    if image is None:
        reference = node("GenVESemanticReference", z=[ENCODE, 0], **shared, steps=0, t0=0, gamma_max=0.5, seed=seed,
                         noise="same noise")
    else:
        reference = node("GenVEReferenceFromImage", image=image, **shared, fit="cover", match_colour=True)
    return {
        **clip,
        BUNDLE: node("GenVELoadBundle", bundle="genve-mini"),
        ENCODE: node("GenVEUpscaleEncode", video=["source", 0], bundle=[BUNDLE, 0], scale=scale, width=0, height=0),
        REFERENCE: reference,
        FLOW: node("GenVEOpticalFlow", **shared, estimator="auto"),
        NOISE: node("GenVENoiseAugmentation", z=[ENCODE, 0], reference=[REFERENCE, 0], n=n, seed=seed),
        TEMPORAL: node("GenVETemporalAugmentation", y_n=[NOISE, 1], flow=[FLOW, 0]),
        LCA: node("GenVELCAController", z_n=[NOISE, 0], carried_y_n=[TEMPORAL, 0], bundle=[BUNDLE, 0], strength=strength,
                  start=0.0, end=1.0),
        SAMPLER: node("GenVEVideoDiffuserSampler", z=[ENCODE, 0], guidance=[LCA, 0], steps=steps, t1=t1, seed=seed, window=16,
                      overlap=4, colour="low", steadiness=1.0),
        SAVE: node("ProbeSave", value=[SAMPLER, 1], file="frames.pt"),
    }


def enhance(clip: Prompt, *, reference: Any = None, bundle: Any = None, save: int = 0, **settings: Any) -> Prompt:
    """Enhance Video on node "source" of `clip`; node "save" keeps the frames as frames.pt."""
    values = dict(scale=2.0, n=250, strength=1.0, key_frame=-1, seed=0, steps=0, width=0, height=0, fit="cover",
                  match_colour=True, window=16, overlap=4, colour="low", steadiness=1.0)
    links = {name: link for name, link in (("reference", reference), ("bundle", bundle)) if link is not None}
    return {**clip, "enhance": node("GenVEEnhanceVideo", video=["source", 0], **{**values, **settings}, **links),
            SAVE: node("ProbeSave", value=["enhance", save], file="frames.pt")}


def run_graph(run_node: Callable, bundle: Any, video: Any, *, scale: float = 2.0, image: Any = None, n: int = 250,
              strength: float = 1.0, seed: int = 0, steps: int = 0) -> SimpleNamespace:
    """The same graph in this process: every node's outputs by name."""
    z, images, key, rate, audio = run_node("GenVEUpscaleEncode", video=video, bundle=bundle, scale=scale)
    shared = {"images": images, "bundle": bundle, "key_frame": key}
    if image is None:
        reference, shown = run_node("GenVESemanticReference", z=z, seed=seed, **shared)
    else:
        reference, shown = run_node("GenVEReferenceFromImage", image=image, **shared)
    flow, picture = run_node("GenVEOpticalFlow", **shared)
    z_n, y_n = run_node("GenVENoiseAugmentation", z=z, reference=reference, n=n, seed=seed)
    carried, validity = run_node("GenVETemporalAugmentation", y_n=y_n, flow=flow)
    (guidance,) = run_node("GenVELCAController", z_n=z_n, carried_y_n=carried, bundle=bundle, strength=strength)
    z_0, frames = run_node("GenVEVideoDiffuserSampler", z=z, guidance=guidance, steps=steps, seed=seed)
    return SimpleNamespace(z=z, images=images, key=key, rate=rate, audio=audio, reference=reference, shown=shown, flow=flow,
                           picture=picture, z_n=z_n, y_n=y_n, carried=carried, validity=validity, guidance=guidance, z_0=z_0,
                           frames=frames)


def alike(a, b):
    """Whether two results, images or bytes of one, differ in rounding only: the box takes more small frames at once than the
    graph does, and in float32 a convolution's last bits depend on that."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    most = 1e-5 if a.is_floating_point() else 1  # one level of 8 bit, where a value lies between two
    apart = (a.double() - b.double()).abs()
    return bool(apart.max() <= most) and bool((apart > 1e-5).double().mean() < 1e-3)
