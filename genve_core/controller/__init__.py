"""The video controller and its local-aware cross-attention (section 3.4, Fig. 2 and 3)."""

from .local_attention import LCAConfig, LocalAwareCrossAttention
from .video_controller import VideoController

__all__ = ["LCAConfig", "LocalAwareCrossAttention", "VideoController"]
