"""What the decoder ends with, and who answers what."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .masks import BatchMasks, QueryMasks
from .query_groups import QueryGroup, find


@dataclass(frozen=True)
class DecoderStates:
    """Query states of every decoder layer at each place where a supervision may read them.

    Attributes:
        taps: name of the place -> one (B, N, C) per layer.  "output" is the end of the layer,
            "internal" the state between its two attentions.
        references: one (B, N, r) per layer, what the layer's boxes are predicted relative to.
        groups: whom the queries belong to, in their order; none: all are one group.
        masks: what masks of these states are made of; None without a mask head.
    """

    taps: dict[str, tuple[Tensor, ...]]
    references: tuple[Tensor, ...]
    masks: BatchMasks | None = None
    groups: tuple[QueryGroup, ...] = ()

    def of(self, group: str) -> DecoderStates:
        """The states of one group of queries."""
        place = find(self.groups, group)
        return DecoderStates(
            taps={tap: tuple(x[:, place] for x in layers) for tap, layers in self.taps.items()},
            references=tuple(x[:, place] for x in self.references),
            masks=self.masks,
        )

    def masks_of(self, states_BNC: Tensor, boxes_BN4: Tensor) -> QueryMasks | None:
        """The masks that states of these queries predict; None without a mask head."""
        return None if self.masks is None else self.masks.of_queries(states_BNC, boxes_BN4)


TAPS = ("output", "internal")


@dataclass(frozen=True)
class LayerPredictions:
    """What the queries of one layer predict.

    Attributes:
        logits_BNK: class logits.
        boxes_BN4: boxes.
        masks: for who asks for them; None without a mask head.
        blocks: equal, consecutive parts of the N queries, see :class:`.query_groups.QueryGroup`.
        counted_BN: False for queries that fill up a batch and are taught nothing; None: all count.
    """

    logits_BNK: Tensor
    boxes_BN4: Tensor
    masks: QueryMasks | None = None
    blocks: int = 1
    counted_BN: Tensor | None = None

    def blocks_as_images(self) -> LayerPredictions:
        """The same predictions, with the blocks of every image as images of a larger batch."""
        parts = (self.blocks, -1)
        return LayerPredictions(
            logits_BNK=self.logits_BNK.unflatten(1, parts).flatten(0, 1),
            boxes_BN4=self.boxes_BN4.unflatten(1, parts).flatten(0, 1),
            masks=None if self.masks is None else self.masks.blocks_as_images(self.blocks),
        )


@dataclass(frozen=True)
class Assignment:
    """Which query is taught which object.

    An assigner may return more slots P than pairs, so that their number is known without asking
    the device; losses count the slots that hold a pair.

    Attributes:
        image_P, query_P, target_P: the pairs; ``target_P`` indexes the objects of :class:`Targets`.
            Slots without a pair hold valid indices of no meaning.
        valid_P: True for a slot that holds a pair.
        labelled_P: True for the pair that says which class its query learns; at most one per query.
            A query with two objects learns both boxes, but one class.  Implies ``valid_P``.
        normalizer: (), what losses are divided by; NaN if the predictions were not finite.
    """

    image_P: Tensor
    query_P: Tensor
    target_P: Tensor
    valid_P: Tensor
    labelled_P: Tensor
    normalizer: Tensor
