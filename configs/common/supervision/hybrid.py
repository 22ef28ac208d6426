"""H-DETR's hybrid branch: more queries, which are to answer every object several times.

``add_hybrid(model)`` goes with any model here, mixed supervision and other additions included.
The weight of the branch (lambda in the paper) is ``model.supervisions.hybrid.weight``.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L

from ms_detr.assigners import RepeatingAssigner
from ms_detr.queries import (
    DINOQueries,
    EmbeddedQueries,
    MixedSelectionQueries,
    ProposalQueries,
)
from ms_detr.supervision.sources import (
    NextMixedProposals,
    NextProposals,
    OwnEmbeddings,
    OwnQueries,
)


def add_hybrid(model, num_queries: int = 1500, repeats: int = 6) -> None:
    """Add ``num_queries`` queries that answer every object ``repeats`` times, in place.

    Apart from that they are taught what the primary queries are taught one-to-one.
    """
    one_to_one = model.supervisions.one_to_one
    hybrid = deepcopy(one_to_one)
    hybrid.source = _source(model.queries, num_queries)
    hybrid.assigner = L(RepeatingAssigner)(assigner=one_to_one.assigner, repeats=repeats)
    hybrid.weight = 1.0
    model.supervisions.hybrid = hybrid


def _source(queries, num_queries: int):
    if issubclass(queries._target_, (MixedSelectionQueries, DINOQueries)):
        return L(NextMixedProposals)(num_queries=num_queries, embed_dim="${....neck.embed_dim}")
    if issubclass(queries._target_, ProposalQueries):
        return L(NextProposals)(num_queries=num_queries)
    source = OwnEmbeddings if issubclass(queries._target_, EmbeddedQueries) else OwnQueries
    own = L(source)(queries=deepcopy(queries), blocks=1)
    own.queries.update(num_queries=num_queries, embed_dim="${.....neck.embed_dim}")
    return own
