"""What the decoder ends with, and who answers what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
    """What the queries of one layer predict, or of several: then as images of a larger batch.

    Attributes:
        logits_BNK: class logits.
        boxes_BN4: boxes.
        masks: for who asks for them; None without a mask head.
        blocks: equal, consecutive parts of the N queries, see :class:`.query_groups.QueryGroup`.
        counted_BN: False for queries that fill up a batch and are taught nothing; None: all count.
        layers: of how many layers the images are: all images of the first, then of the next.
    """

    logits_BNK: Tensor
    boxes_BN4: Tensor
    masks: QueryMasks | None = None
    blocks: int = 1
    counted_BN: Tensor | None = None
    layers: int = 1

    @classmethod
    def joined(cls, layers: Sequence[LayerPredictions]) -> LayerPredictions:
        """The predictions of several layers, which are alike in all but their values."""
        first, number = layers[0], len(layers)
        masks = [layer.masks for layer in layers if layer.masks is not None]
        counted = first.counted_BN
        return cls(
            logits_BNK=torch.cat([layer.logits_BNK for layer in layers]),
            boxes_BN4=torch.cat([layer.boxes_BN4 for layer in layers]),
            masks=QueryMasks.joined(masks) if masks else None,
            blocks=first.blocks,
            counted_BN=None if counted is None else counted.repeat(number, 1),
            layers=number,
        )

    @property
    def images(self) -> int:
        """Number of images of one layer."""
        return len(self.boxes_BN4) // self.layers

    def blocks_as_images(self) -> LayerPredictions:
        """The same predictions, with the blocks of every image as images of a larger batch."""
        parts = (self.blocks, -1)
        return LayerPredictions(
            logits_BNK=self.logits_BNK.unflatten(1, parts).flatten(0, 1),
            boxes_BN4=self.boxes_BN4.unflatten(1, parts).flatten(0, 1),
            masks=None if self.masks is None else self.masks.blocks_as_images(self.blocks),
            layers=self.layers,
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
        normalizer: () or (layers,), what losses are divided by; NaN for predictions that were not
            finite.
        counts: number of pairs of every image, where the host knows it: then all slots hold a pair
            and are in the order of the images.
    """

    image_P: Tensor
    query_P: Tensor
    target_P: Tensor
    valid_P: Tensor
    labelled_P: Tensor
    normalizer: Tensor
    counts: tuple[int, ...] | None = None

    def in_layers(self, layers: int, images: int, objects: int) -> Assignment:
        """The same pairs in each of several layers.

        Args:
            layers: how many.
            images, objects: number of those of one layer.
        """
        layer_D1 = torch.arange(layers, device=self.image_P.device)[:, None]
        return Assignment(
            image_P=(self.image_P + layer_D1 * images).flatten(),
            query_P=self.query_P.repeat(layers),
            target_P=(self.target_P + layer_D1 * objects).flatten(),
            valid_P=self.valid_P.repeat(layers),
            labelled_P=self.labelled_P.repeat(layers),
            normalizer=self.normalizer,
            counts=None if self.counts is None else self.counts * layers,
        )

    def pairs_of_layer(self, layer: int, images: int) -> Assignment:
        """The pairs of one layer in the order of its images, without other slots.

        Unless the host knows how many there are it waits for the device to tell.

        Args:
            layer: its index.
            images: number of images of a layer.
        """
        if self.counts is None:
            layer_P = self.image_P.div(images, rounding_mode="floor")
            slot_P = (self.valid_P & (layer_P == layer)).nonzero()[:, 0]
            slot_P = slot_P[self.image_P[slot_P].argsort(stable=True)]
        else:
            before = sum(self.counts[: layer * images])
            own = sum(self.counts[layer * images : (layer + 1) * images])
            slot_P = torch.arange(before, before + own, device=self.image_P.device)
        normalizer = self.normalizer if self.normalizer.dim() == 0 else self.normalizer[layer]
        return Assignment(
            image_P=self.image_P[slot_P],
            query_P=self.query_P[slot_P],
            target_P=self.target_P[slot_P],
            valid_P=self.valid_P[slot_P],
            labelled_P=self.labelled_P[slot_P],
            normalizer=normalizer,
        )
