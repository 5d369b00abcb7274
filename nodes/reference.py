"""Semantic-Aligning Reference, Reference from Image: the one good frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..genve_core.errors import InputError
from ..genve_core.sizes import Sizes
from ..genve_core.video_codec import crop
from .clips import CHOOSE, channels_of, check_shows, kept, key_frame_of, one_picture, upscaled_clip
from .compat import advanced, schema
from .convert import check_same_clip, images_of, latents_of
from .run import Progress, explained, retrying_smaller, text_ui
from .semantic_alignment import NOISES
from .sockets import BundleSocket, GraphReference, ReferenceSocket, as_bundle, as_reference

if TYPE_CHECKING:
    from ..genve_core.clip import Clip, Reference

FITS = ["cover", "contain", "stretch"]
FIT = ("A reference of another aspect: cover cuts off what sticks out, contain leaves the rest without reference, stretch "
       "gives up the aspect.")
ALIGN = ("Move a picture that is shifted or cropped onto the key frame, and do not use one of something else; off takes any "
         "picture as it lies.")
KEY_FRAME = ("The frame that the reference shows, counted from 0; -1 chooses a sharp and central one of the up-scaled frames. "
             "Use the same for the flow.")


class GenVESemanticReference(io.ComfyNode):
    """Section 3.2 of the paper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVESemanticReference",
            display_name="Semantic-Aligning Reference",
            category="GenVE",
            description="Makes the reference from the clip's own key frame: the image diffuser adds detail, Semantic "
                        "Alignment (Eq. 3) keeps what the frame shows.",
            search_aliases=["genve", "reference", "key frame", "image diffuser", "eq 3"],
            inputs=[
                io.Latent.Input("z", display_name="Z", tooltip="Z of Upscale and Encode Video."),
                io.Image.Input("images", tooltip="The up-scaled frames of Upscale and Encode Video."),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.Int.Input("key_frame", default=CHOOSE, min=CHOOSE, max=1_000_000, tooltip=KEY_FRAME),
                io.Int.Input("steps", default=0, min=0, max=1000,
                             tooltip="Denoising steps; 0 = as many as the bundle recommends (genve-mini: 4)."),
                io.Int.Input("t0", display_name="T0", default=0, min=0, max=999,
                             tooltip="Start time of the denoising, of 1000; higher invents more. "
                                     "0 = what the bundle recommends (genve-mini: 250)."),
                io.Float.Input("gamma_max", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider,
                               tooltip="How strongly the key frame pulls, as a share: 0 not at all, 0.5 as in the paper."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True,
                             tooltip="Of the noise; the same seed gives the same reference."),
                advanced(io.Combo.Input("noise", options=list(NOISES), default="same noise",
                                        tooltip="The noise of Eq. 3: the step's own (sharper), or drawn anew (literal).")),
            ],
            outputs=[
                ReferenceSocket.Output("reference", display_name="reference", tooltip="For Noise Augmentation."),
                io.Image.Output("reference_image", display_name="IMAGE", tooltip="The reference, to look at or to change."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, z, images, bundle, key_frame: int, steps: int, t0: int, gamma_max: float, seed: int,
                noise: str) -> io.NodeOutput:
        from ..genve_core.steps import own_reference

        models = as_bundle(bundle)
        clip, Z = upscaled_clip(images, z=z), latents_of(z, channels_of(models), "Z")
        check_same_clip(Z, images, ("Z", "images"))
        if noise not in NOISES:
            raise InputError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
        key = key_frame_of(key_frame, clip)
        check_shows(models, Z, clip, key, "images")
        made = own_reference(models, clip, Z, key, seed=seed, start=t0 or None,
                             steps=steps or None, gamma_max=gamma_max, noise=NOISES[noise],  # type: ignore[arg-type]
                             report=Progress({"reference": 1.0}))
        return io.NodeOutput(GraphReference((kept(made),), models), _shown(made, clip))


class GenVEReferenceFromImage(io.ComfyNode):
    """The user's picture in place of section 3.2's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GenVEReferenceFromImage",
            display_name="Reference from Image",
            category="GenVE",
            description="Takes any picture of the key frame as the reference: a photograph, an up-scaled or repainted "
                        "frame. Its detail is carried to every frame.",
            search_aliases=["genve", "reference", "image reference", "swap reference", "key frame", "bring your own"],
            inputs=[
                io.Image.Input("image", tooltip="One picture that shows what the key frame shows; any size. Transparent parts "
                                                "are not used."),
                io.Image.Input("images", tooltip="The up-scaled frames of Upscale and Encode Video."),
                BundleSocket.Input("bundle", tooltip="From Load GenVE Bundle."),
                io.Int.Input("key_frame", default=CHOOSE, min=CHOOSE, max=1_000_000, tooltip=KEY_FRAME),
                io.Combo.Input("fit", options=FITS, default="cover", tooltip=FIT),
                io.Boolean.Input("match_colour", default=True,
                                 tooltip="Give the picture the key frame's colours; off keeps its own."),
                ReferenceSocket.Input("previous", optional=True,
                                      tooltip="More references, of other key frames; each governs the frames nearest to it."),
                io.Boolean.Input("align", default=True, optional=True, tooltip=ALIGN),
            ],
            outputs=[
                ReferenceSocket.Output("reference", display_name="reference", tooltip="For Noise Augmentation."),
                io.Image.Output("reference_image", display_name="IMAGE", tooltip="The picture as used: fitted, coloured."),
            ],
        )

    @classmethod
    @explained
    def execute(cls, image, images, bundle, key_frame: int, fit: str, match_colour: bool, previous=None,
                align: bool = True) -> io.NodeOutput:
        from ..genve_core.steps import given_reference

        models = as_bundle(bundle)
        clip, picture = upscaled_clip(images), one_picture(image, "image")
        key = key_frame_of(key_frame, clip)

        def make(sizes: Sizes) -> Reference:
            return given_reference(models, clip, picture, key, fit=fit, match_colour=match_colour,  # type: ignore[arg-type]
                                   align=align, tiling=sizes.tiling)

        made, notes = retrying_smaller(make, parts=("tile",))
        made = kept(made)
        references = (made,) if previous is None else _with_previous(made, as_reference(previous, "previous"))
        return io.NodeOutput(GraphReference(references, models), _shown(made, clip), ui=text_ui(*made.notes, *notes))


def _with_previous(made: Reference, previous: GraphReference) -> tuple[Reference, ...]:
    """All references, in the order of their key frames."""
    if previous.n is not None:
        raise InputError("previous is y_n of Noise Augmentation, wanted a reference before it; wire Reference from Image to it")
    for other in previous.references:
        if other.key == made.key:
            raise InputError(f"previous holds a reference of frame {made.key} already; give each another key frame")
        if other.image.shape != made.image.shape:
            (h, w), (wanted_h, wanted_w) = other.image.shape[-2:], made.image.shape[-2:]
            raise InputError(f"previous is a reference of {w}x{h} px, this clip has {wanted_w}x{wanted_h}; "
                             f"make both from one Upscale and Encode Video")
    return tuple(sorted((*previous.references, made), key=lambda reference: reference.key))


def _shown(reference: Reference, clip: Clip):
    """The reference as an IMAGE (1, H, W, 3)."""
    return images_of(crop(reference.image, clip.size).unsqueeze(0))
