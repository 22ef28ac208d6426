"""H-DETR's hybrid branch: more queries, which are to answer every object several times.

``add_hybrid(model)`` goes with any model here, mixed supervision and other additions included.
The weight of the branch (lambda in the paper) is ``model.supervisions.hybrid.weight``.
"""

from detectron2.config import LazyCall as L

from ms_detr.assigners import RepeatingAssigner
from ms_detr.queries import LearnedQueries, MixedSelectionQueries
from ms_detr.supervision import Supervision
from ms_detr.supervision.sources import NextMixedProposals, NextProposals, OwnQueries

from .one_to_one import detection_terms, hungarian


def add_hybrid(model, num_queries: int = 1500, repeats: int = 6) -> None:
    """Add ``num_queries`` queries that answer every object ``repeats`` times, in place."""
    model.supervisions.hybrid = L(Supervision)(
        source=_source(model.queries._target_, num_queries),
        tap="output",
        assigner=L(RepeatingAssigner)(assigner=hungarian(), repeats=repeats),
        terms=detection_terms(),
        weight=1.0,
    )


def _source(initializer, num_queries: int):
    width = "${.....neck.embed_dim}"
    if initializer is LearnedQueries:
        return L(OwnQueries)(queries=L(LearnedQueries)(num_queries=num_queries, embed_dim=width))
    if issubclass(initializer, MixedSelectionQueries):
        return L(NextMixedProposals)(num_queries=num_queries, embed_dim="${....neck.embed_dim}")
    return L(NextProposals)(num_queries=num_queries)
