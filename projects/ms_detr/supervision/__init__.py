"""What teaches the detector: a named set of supervisions, absent at inference."""

from .branches import LayerwiseFeedForward
from .proposals import ProposalSupervision
from .supervision import Supervision, TrainingOutputs
from .supervision_set import SupervisionSet

__all__ = [
    "LayerwiseFeedForward",
    "ProposalSupervision",
    "Supervision",
    "SupervisionSet",
    "TrainingOutputs",
]
