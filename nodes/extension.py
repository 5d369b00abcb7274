"""The pack's nodes, in one list."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .attention_preview import GenVEAttentionPreview
from .augmentation import GenVENoiseAugmentation, GenVETemporalAugmentation
from .compare import GenVECompare
from .controller import GenVELCAController
from .encode import GenVEUpscaleEncode
from .enhance import GenVEEnhanceVideo
from .flow import GenVEOpticalFlow
from .load_bundle import GenVELoadBundle
from .metrics import GenVEMetrics
from .noise_sweep import GenVENoiseSweep
from .preclean import GenVEPreclean
from .reference import GenVEReferenceFromImage, GenVESemanticReference
from .sampler import GenVEVideoDiffuserSampler
from .semantic_alignment import GenVESemanticAlignment, GenVESemanticAlignmentSampler
from .shots import GenVEFindShots

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
    GenVEFindShots,
    GenVEAttentionPreview,
    GenVENoiseSweep,
    GenVEMetrics,
    GenVEPreclean,
]


class GenVEExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
