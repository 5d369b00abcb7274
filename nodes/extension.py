"""The pack's nodes, in one list."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .augmentation import GenVENoiseAugmentation, GenVETemporalAugmentation
from .compare import GenVECompare
from .controller import GenVELCAController
from .encode import GenVEUpscaleEncode
from .enhance import GenVEEnhanceVideo
from .flow import GenVEOpticalFlow
from .load_bundle import GenVELoadBundle
from .reference import GenVEReferenceFromImage, GenVESemanticReference
from .sampler import GenVEVideoDiffuserSampler
from .semantic_alignment import GenVESemanticAlignment, GenVESemanticAlignmentSampler

NODES: list[type[io.ComfyNode]] = [
    GenVELoadBundle,
    GenVEUpscaleEncode,
    GenVESemanticReference,
    GenVEReferenceFromImage,
    GenVEOpticalFlow,
    GenVENoiseAugmentation,
    GenVETemporalAugmentation,
    GenVELCAController,
    GenVEVideoDiffuserSampler,
    GenVEEnhanceVideo,
    GenVESemanticAlignment,
    GenVESemanticAlignmentSampler,
    GenVECompare,
]


class GenVEExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
