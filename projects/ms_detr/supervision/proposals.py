"""Supervision of the encoder's proposals."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ..assigners import Assigner, Steps
from ..losses import LossTerms
from ..queries import ProposalQueries, QueryInitializer
from ..structures import LayerPredictions, Lesson, Proposals, Targets
from ..structures.query_groups import PRIMARY
from .outputs import TrainingOutputs
from .supervision import Supervision


class ProposalSupervision(Supervision):
    """Teaches the encoder's tokens which of them lie on an object, and its box.

    Objects are paired with *anchors*, as the released code of MS-DETR does, so that the pairs do
    not change while the predictions do; losses are those of the predicted boxes.  Every object is
    of class 0 here.

    Args:
        assigner: which token answers which object.
        terms: loss terms.
        weight: factor of all terms.
        group: the queries whose proposals are taught, see :class:`.supervision.Supervision`.
    """

    def __init__(
        self,
        *,
        assigner: Assigner,
        terms: LossTerms,
        weight: float = 1.0,
        group: str | None = None,
    ):
        super().__init__(assigner=assigner, terms=terms, weight=weight, group=group)
        self.assigner: Assigner

    def check_fit(
        self, key: str, num_classes: int, num_layers: int, queries: QueryInitializer
    ) -> None:
        super().check_fit(key, num_classes, num_layers, queries)
        if self.group in (None, PRIMARY) and not isinstance(queries, ProposalQueries):
            raise ValueError(
                f"{key} teaches proposals, but model.queries, {type(queries).__name__}, makes "
                f"none; use two-stage queries, or delete it: '~{key}'"
            )

    def prepare(self, outputs: TrainingOutputs, targets: Targets) -> Steps[Lesson]:
        if outputs.proposals is None:  # the primary queries have some, see check_fit
            raise ValueError(
                f"a {type(self).__name__} teaches the proposals of group {self.group!r}, but the "
                f"source of this group makes none; leave group out, or name an OwnQueries of "
                f"two-stage queries"
            )
        return (yield from self.lesson(outputs.proposals, targets))

    def lesson(self, proposals: Proposals, targets: Targets) -> Steps[Lesson]:
        """What the proposals are taught."""
        objects = targets.as_objectness()
        logits, blocks = proposals.logits_BSK, proposals.blocks
        matched = LayerPredictions(logits, self.matched_boxes(proposals), blocks=blocks)
        predictions = LayerPredictions(logits, proposals.boxes_BS4, blocks=blocks)
        assignment = yield from self.assigner.steps(matched, objects)
        return Lesson(predictions, objects, assignment)

    @staticmethod
    def matched_boxes(proposals: Proposals) -> Tensor:
        """Boxes (B, S, 4) that decide which token answers which object."""
        return proposals.anchors_BS4


class PredictedProposalSupervision(ProposalSupervision):
    """The same with pairs from the predicted boxes, as Deformable DETR and H-DETR have it."""

    @staticmethod
    def matched_boxes(proposals: Proposals) -> Tensor:
        return proposals.boxes_BS4


class ChosenProposalSupervision(ProposalSupervision):
    """Teaches the proposals that became queries, with classes, like a decoder layer (DINO).

    The proposals must have as many outputs as there are classes.
    """

    def check_fit(
        self, key: str, num_classes: int, num_layers: int, queries: QueryInitializer
    ) -> None:
        super().check_fit(key, num_classes, num_layers, queries)
        head = queries.proposals.class_head if isinstance(queries, ProposalQueries) else None
        if head is not None and head.out_features != num_classes:
            raise ValueError(
                f"{key} teaches proposals their classes, but model.queries.proposals.num_outputs "
                f"is {head.out_features} and model.heads.num_classes {num_classes}; make them equal"
            )

    def lesson(self, proposals: Proposals, targets: Targets) -> Steps[Lesson]:
        chosen_BN1 = cast(Tensor, proposals.chosen_BN)[..., None]
        logits, boxes = (
            values.gather(1, chosen_BN1.expand(-1, -1, values.shape[-1]))
            for values in (proposals.logits_BSK, proposals.boxes_BS4)
        )
        predictions = LayerPredictions(logits, boxes, blocks=proposals.blocks)
        assignment = yield from self.assigner.steps(predictions, targets)
        return Lesson(predictions, targets, assignment)
