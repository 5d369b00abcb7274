"""Video in and out: reading with true colours and times, writing whole or not at all, colour match to the
input.
"""

from .colour import ColourConfig, ColourMatch
from .info import VideoInfo, probe
from .reader import Frame, VideoReader
from .writer import VideoWriter

__all__ = ["ColourConfig", "ColourMatch", "Frame", "VideoInfo", "VideoReader", "VideoWriter", "probe"]
