"""Supervision of the encoder's proposals."""

from __future__ import annotations

from torch import Tensor

from ..assigners import Assigner
from ..losses import LossTerms
from ..structures import LayerPredictions, Targets
from .supervision import Supervision, TrainingOutputs, assign, weigh


class ProposalSupervision(Supervision):
    """Teaches the encoder's tokens which of them lie on an object, and its box.

    Objects are paired with *anchors*, as the released code of MS-DETR does, so that the pairs do
    not change while the predictions do; losses are those of the predicted boxes.  Every object is
    of class 0 here.

    Args:
        assigner: which token answers which object.
        terms: loss terms.
    """

    def __init__(self, *, assigner: Assigner, terms: LossTerms):
        super().__init__(assigner=assigner, terms=terms)

    def forward(self, outputs: TrainingOutputs, targets: Targets) -> dict[str, Tensor]:
        proposals = outputs.proposals
        if proposals is None:
            raise ValueError(
                "a ProposalSupervision needs two-stage queries, but these make no proposals; "
                "use TwoStageQueries or delete the supervision from model.supervisions"
            )
        objects = targets.as_objectness()
        anchors = LayerPredictions(proposals.logits_BSK, proposals.anchors_BS4)
        assignment = assign(self.assigner, anchors, objects, 0)
        predictions = LayerPredictions(proposals.logits_BSK, proposals.boxes_BS4)
        return weigh(self.terms, predictions, objects, assignment, 0)
