"""Measuring: protocol v1, its metrics, the peers and the report. Nothing else in the core imports this."""

from .protocol import CLIPS, DEGRADATIONS, POOR_CLIPS, PROTOCOL_VERSION, SETTINGS, Clip, Sample, load_sample
from .runner import EvaluateConfig, Evaluation, Scorer, evaluate

__all__ = [
    "CLIPS",
    "DEGRADATIONS",
    "POOR_CLIPS",
    "PROTOCOL_VERSION",
    "SETTINGS",
    "Clip",
    "EvaluateConfig",
    "Evaluation",
    "Sample",
    "Scorer",
    "evaluate",
    "load_sample",
]
