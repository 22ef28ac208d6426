"""Group DETR: more groups of queries, each with its own one-to-one assignment.

``add_group(model)`` goes with any model here, mixed supervision and other additions included.
Losses are the average over all groups, the primary one among them.
"""

from detectron2.config import LazyCall as L

from ms_detr.assigners import BlockwiseAssigner
from ms_detr.supervision import ProposalSupervision, Supervision
from ms_detr.supervision.sources import OwnQueries

from .one_to_one import anchor_hungarian, detection_terms, hungarian


def add_group(model, groups: int = 11) -> None:
    """Teach ``groups`` groups of queries, the primary ones included, in place.

    In a two-stage model every group has its own first stage, as in LW-DETR, which is taught too.
    """
    more = (groups - 1) / groups
    model.supervisions.one_to_one.weight = 1 / groups
    model.supervisions.group = L(Supervision)(
        source=L(OwnQueries)(queries="${....queries}", blocks=groups - 1),
        tap="output",
        assigner=L(BlockwiseAssigner)(assigner=hungarian()),
        terms=detection_terms(),
        weight=more,
    )
    if "proposals" in model.supervisions:
        model.supervisions.proposals.weight = 1 / groups
        model.supervisions.group_proposals = L(ProposalSupervision)(
            group="group",
            assigner=L(BlockwiseAssigner)(assigner=anchor_hungarian()),
            terms=detection_terms(),
            weight=more,
        )
