"""What teaches the detector: a named set of supervisions, absent at inference."""

from .branches import LayerwiseFeedForward
from .outputs import TrainingOutputs, by_group
from .proposals import (
    ChosenProposalSupervision,
    PredictedProposalSupervision,
    ProposalSupervision,
)
from .supervision import Supervision, check_layers
from .supervision_set import SupervisionSet

__all__ = [
    "ChosenProposalSupervision",
    "LayerwiseFeedForward",
    "PredictedProposalSupervision",
    "ProposalSupervision",
    "Supervision",
    "SupervisionSet",
    "TrainingOutputs",
    "by_group",
    "check_layers",
]
