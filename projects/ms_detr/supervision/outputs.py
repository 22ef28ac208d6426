"""What supervisions are given, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..heads import PredictionHeads
from ..structures import Assignment, DecoderStates, Proposals
from ..structures.query_groups import PRIMARY
from .sources import ExtraQueries


@dataclass(frozen=True)
class TrainingOutputs:
    """Everything that a supervision of one group of queries may look at.

    Attributes:
        states: of the queries, in all layers.
        proposals: what the queries were chosen from, if they were.
        heads: the detector's.
        blocks: see :class:`ms_detr.structures.query_groups.QueryGroup`.
        counted_BN: see :class:`ms_detr.structures.LayerPredictions`.
        known: who answers what, if the source of the queries said so.
        losses: see :class:`ms_detr.supervision.sources.ExtraQueries`.
    """

    states: DecoderStates
    proposals: Proposals | None
    heads: PredictionHeads
    blocks: int = 1
    counted_BN: Tensor | None = None
    known: Assignment | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)


def by_group(
    states: DecoderStates,
    proposals: Proposals | None,
    heads: PredictionHeads,
    extra: Mapping[str, ExtraQueries],
) -> dict[str, TrainingOutputs]:
    """What came out of one pass of the decoder, for every group of queries by its name.

    Args:
        states: of all queries, the primary ones first.
        proposals: of the primary queries.
        heads: the detector's.
        extra: the other queries, in the order in which they went into the decoder.
    """
    if not extra:
        return {PRIMARY: TrainingOutputs(states, proposals, heads)}
    primary = TrainingOutputs(states.of(PRIMARY), proposals, heads)
    return {PRIMARY: primary} | {
        name: TrainingOutputs(
            states.of(name),
            more.proposals,
            heads,
            blocks=more.blocks,
            counted_BN=more.counted_BN,
            known=more.known,
            losses=more.losses,
        )
        for name, more in extra.items()
    }
