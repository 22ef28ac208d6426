"""Group DETR: more groups of queries, each with its own one-to-one assignment.

``add_group(model)`` goes with any model here, mixed supervision and other additions included.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L

from ms_detr.assigners import BlockwiseAssigner
from ms_detr.queries import EmbeddedQueries
from ms_detr.supervision.sources import OwnEmbeddings, OwnQueries


def add_group(model, groups: int = 11) -> None:
    """Teach ``groups`` groups of queries, the primary ones included, in place.

    The groups are taught what the primary queries are taught one-to-one, and losses are averaged
    over all groups.  In a two-stage model every group has its own first stage, as in LW-DETR.
    """
    if groups < 2:
        raise ValueError(f"there must be at least 2 groups, the primary one included, got {groups}")
    supervisions = model.supervisions
    supervisions.group = _blockwise(supervisions.one_to_one, groups)
    embedded = issubclass(model.queries._target_, EmbeddedQueries)
    source = OwnEmbeddings if embedded else OwnQueries
    supervisions.group.source = L(source)(queries="${....queries}", blocks=groups - 1)
    if "proposals" in supervisions:
        supervisions.group_proposals = _blockwise(supervisions.proposals, groups)
        supervisions.group_proposals.group = "group"


def _blockwise(supervision, groups: int):
    """A copy of a supervision for the other groups; both get their share of the weight."""
    others = deepcopy(supervision)
    others.assigner = L(BlockwiseAssigner)(assigner=supervision.assigner)
    supervision.weight, others.weight = 1 / groups, (groups - 1) / groups
    return others
