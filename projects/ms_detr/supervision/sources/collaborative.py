"""Queries made of the positives of an auxiliary head (Co-DETR)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ...arguments import require_kind, require_number, require_whole
from ...heads.boxes import inverse_sigmoid
from ...queries import QueryInitializer
from ...registry import SOURCES
from ...structures import Assignment, Queries, Targets, count_boxes, send
from ..auxiliary import UNUSED, AuxiliaryHead, AuxiliaryMaps, Candidates
from ..auxiliary.losses import shared_normalizer
from .box_embedding import BoxEmbedding, FeatureEmbedding, PositionedBoxEmbedding
from .selection import Selected, Selection
from .source import ExtraQueries, QuerySource, SourceContext

# References are kept in (0, 1) as those of denoising are: decoders divide by their sizes.
_MARGIN = 1e-3


@SOURCES.register()
class CollaborativeQueries(QuerySource):
    """An auxiliary head on the encoder's output, and its positives as queries (Co-DETR, 3.2, 3.3).

    The head teaches the encoder; the losses of the queries, whose objects the head has assigned,
    teach the decoder.  These queries see each other and nobody else.

    The paper's objective (equation 6) adds the losses of the head once for every decoder layer,
    so that they are multiplied by ``weight * num_layers``, the 12 of the released configs; the
    weight of the supervision (lambda 1) is not theirs.

    All these losses are divided by numbers of positives, which only the batch at hand knows.  Where
    an update is computed in parts, each of them is weighted by its share of the objects; a part
    without objects counts as one with one.

    Args:
        head: the auxiliary head.
        selection: which of its candidates become queries.
        boxes: embeds the boxes of the candidates, from which the queries start; a
            :class:`PositionedBoxEmbedding` where the detector's queries bring positions.
        features: embeds the features of the candidates; None: contents follow from boxes alone, as
            in the released Co-DINO.
        weight: factor of the head's losses, the paper's lambda 2.
        num_layers: of the decoder.
    """

    knows = True
    reads_maps = True

    def __init__(
        self,
        *,
        head: AuxiliaryHead,
        selection: Selection,
        boxes: BoxEmbedding,
        features: FeatureEmbedding | None = None,
        weight: float = 2.0,
        num_layers: int = 6,
    ):
        super().__init__()
        owner = "of CollaborativeQueries"
        parts: list[tuple[str, object, type, str]] = [
            ("head", head, AuxiliaryHead, "auxiliary.ATSSHead"),
            ("selection", selection, Selection, "sources.PositivesOnly"),
            ("boxes", boxes, BoxEmbedding, "sources.BoxEmbedding"),
        ]
        if features is not None:
            parts.append(("features", features, FeatureEmbedding, "sources.FeatureEmbedding"))
        for name, part, kind, example in parts:
            mend = f"write {name}={{_target_: ms_detr.supervision.{example}, ...}}"
            require_kind(f"{name} {owner}", part, kind, mend)
        require_number(f"weight {owner}", weight, 0)
        require_whole(f"num_layers {owner}", num_layers)
        self.head = head
        self.selection = selection
        self.boxes = boxes
        self.features = features
        self.weight = weight
        self.num_layers = num_layers

    def check_fit(
        self, key: str, num_classes: int, num_layers: int, queries: QueryInitializer
    ) -> None:
        if self.head.num_classes != num_classes:
            raise ValueError(
                f"{key}.head.num_classes is {self.head.num_classes}, but model.heads.num_classes "
                f"is {num_classes}; make them equal"
            )
        if self.num_layers != num_layers:
            raise ValueError(
                f"{key}.num_layers is {self.num_layers}, but model.decoder.num_layers is "
                f"{num_layers}; make them equal"
            )
        if self.boxes.positioned != queries.brings_positions:
            does = "bring positions" if queries.brings_positions else "leave these to the decoder"
            fitting = PositionedBoxEmbedding if queries.brings_positions else BoxEmbedding
            raise ValueError(
                f"{key}.boxes is a {type(self.boxes).__name__}, but queries of model.queries, "
                f"{type(queries).__name__}, {does}; make it a "
                f"ms_detr.supervision.sources.{fitting.__name__}"
            )

    def forward(self, context: SourceContext) -> ExtraQueries:
        maps = cast(AuxiliaryMaps, context.pyramid)  # the set has made sure that there are some
        output = self.head(maps, context.targets)
        selected = self.selection(output.candidates.object_BA)
        share = _share(context.targets)
        factor = self.weight * self.num_layers * share
        return ExtraQueries(
            self._queries(output.candidates, selected, maps, context.primary),
            known=_known(selected, context.targets, share),
            counted_BN=selected.object_BN != UNUSED,
            losses={term: factor * loss for term, loss in output.losses.items()},
        )

    def _queries(
        self, candidates: Candidates, selected: Selected, maps: AuxiliaryMaps, primary: Queries
    ) -> Queries:
        """Queries that start from the boxes of the selected candidates."""
        fills_BN1 = (selected.object_BN == UNUSED)[..., None]
        boxes_BN4 = maps.fractions(_rows(candidates.boxes_BA4.detach(), selected.candidate_BN))
        boxes_BN4 = inverse_sigmoid(boxes_BN4, _MARGIN).sigmoid()
        # What fills up is the same whoever it was: the middle box, with zeros as content.
        boxes_BN4 = boxes_BN4.masked_fill(fills_BN1, 0.5)
        content_BNC, pos_BNC = self.boxes(boxes_BN4)
        if self.features is not None:
            token_BN = candidates.token_A[selected.candidate_BN]
            content_BNC = content_BNC + self.features(_rows(candidates.tokens_BTC, token_BN))
        return Queries(
            content_BNC=content_BNC.masked_fill(fills_BN1, 0.0),
            pos_BNC=pos_BNC,
            # Points where the detector's queries start from points.
            reference_BNr=boxes_BN4[..., : primary.reference_BNr.shape[-1]],
        )


def _rows(values_BAD: Tensor, index_BN: Tensor) -> Tensor:
    """The values (B, N, D) of some candidates of every image."""
    return values_BAD.gather(1, index_BN[..., None].expand(-1, -1, values_BAD.shape[-1]))


def _share(targets: Targets) -> Tensor:
    """Share () of these objects in the update; 1 unless it is computed in several parts."""
    normalizer = targets.num_boxes
    here = count_boxes(len(targets.labels_G), normalizer.dtype, normalizer.device)
    return here / normalizer


def _known(selected: Selected, targets: Targets, share: Tensor) -> Assignment:
    """The pairs that the head has assigned."""
    image_P = torch.arange(len(selected.counts)).repeat_interleave(torch.tensor(selected.counts))
    query_P = torch.cat([torch.arange(count) for count in selected.counts])
    image_P, query_P = (send(x, selected.object_BN.device) for x in (image_P, query_P))
    pair_P = torch.ones_like(image_P, dtype=torch.bool)
    here = torch.full_like(targets.num_boxes, len(image_P))
    return Assignment(
        image_P=image_P,
        query_P=query_P,
        target_P=selected.object_BN[image_P, query_P],
        valid_P=pair_P,
        labelled_P=pair_P,
        normalizer=shared_normalizer(here) / share,
        counts=selected.counts,
    )
