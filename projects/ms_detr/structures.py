"""Frozen values that travel through the detector, with their shapes.

Shape letters: B image, L level, S memory token (all levels, flattened), C channel, N query,
D decoder layer, K class, G object (all images, flattened), P matched pair; r is 4 (cx, cy, w, h) or
2 (cx, cy).  Coordinates are fractions in [0, 1] of the image *without* its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from torch import Tensor
from torchvision.ops import box_convert

from .masks import BatchMasks, ObjectMasks, QueryMasks


def padding_mask(image_sizes: Sequence[tuple[int, int]], padded: Tensor) -> Tensor:
    """Which pixels of a padded batch are not image.

    Args:
        image_sizes: (height, width) of every image before padding.
        padded: (B, 3, H, W), the batch; padding is at the right and at the bottom.

    Returns:
        (B, H, W) bool, True on padding.
    """
    sizes_B2 = torch.tensor(image_sizes, device=padded.device)
    height, width = padded.shape[-2:]
    below_BH = torch.arange(height, device=padded.device) >= sizes_B2[:, :1]
    right_BW = torch.arange(width, device=padded.device) >= sizes_B2[:, 1:]
    return below_BH[:, :, None] | right_BW[:, None, :]


@dataclass(frozen=True)
class FeaturePyramid:
    """Feature maps of one batch, flattened to tokens, finest level first.

    Attributes:
        tokens_BSC: the features.
        pos_BSC: their position embeddings.
        padding_BS: True on tokens that lie on padding.
        shapes: (height, width) of every level; their products sum to S.
        valid_BL2: (width, height) of the part of each level that is image, in cells.
    """

    tokens_BSC: Tensor
    pos_BSC: Tensor
    padding_BS: Tensor
    shapes: tuple[tuple[int, int], ...]
    valid_BL2: Tensor

    @classmethod
    def from_maps(
        cls,
        maps: Sequence[Tensor],
        padding_BHW: Tensor,
        position: Callable[[int, Tensor, tuple[int, int], torch.dtype], Tensor],
    ) -> FeaturePyramid:
        """Flatten feature maps.

        Args:
            maps: (B, C, Hl, Wl) per level.
            padding_BHW: padding of the images, see :func:`padding_mask`.
            position: position embedding, (level, valid_B2, shape, dtype) -> (B, Hl*Wl, C).
        """
        shapes = tuple((m.shape[2], m.shape[3]) for m in maps)
        dtype = torch.promote_types(maps[0].dtype, torch.float32)
        full = padding_BHW[:, None].to(dtype)
        paddings, positions, valid = [], [], []
        for level, shape in enumerate(shapes):
            # Nearest neighbour decides which cells are image, as in the published code.
            padding = F.interpolate(full, size=shape)[:, 0] > 0.5
            valid_B2 = torch.stack([(~padding[:, 0]).sum(1), (~padding[:, :, 0]).sum(1)], 1)
            paddings.append(padding.flatten(1))
            positions.append(position(level, valid_B2, shape, dtype))
            valid.append(valid_B2)
        return cls(
            tokens_BSC=torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1),
            pos_BSC=torch.cat(positions, 1),
            padding_BS=torch.cat(paddings, 1),
            shapes=shapes,
            valid_BL2=torch.stack(valid, 1),
        )

    def with_tokens(self, tokens_BSC: Tensor) -> FeaturePyramid:
        """The same pyramid with other features."""
        return replace(self, tokens_BSC=tokens_BSC)

    def map(self, level: int) -> Tensor:
        """(B, C, H, W): the features of one level as a map."""
        tokens = self.tokens_BSC.split([h * w for h, w in self.shapes], 1)[level]
        return tokens.transpose(1, 2).unflatten(2, self.shapes[level])

    @property
    def dtype(self) -> torch.dtype:
        """Type of coordinates that belong to these features: at least float32."""
        return torch.promote_types(self.tokens_BSC.dtype, torch.float32)

    @property
    def valid_ratios_BL2(self) -> Tensor:
        """Share (x, y) of each level that is image, in (0, 1]; turns image into map coordinates."""
        size_L2 = torch.tensor([(w, h) for h, w in self.shapes], device=self.valid_BL2.device)
        return self.valid_BL2.to(self.dtype) / size_L2

    def centers_BS2(self) -> Tensor:
        """(B, S, 2): centre (x, y) of every cell, as a fraction of the unpadded image."""
        centers = []
        for level, (height, width) in enumerate(self.shapes):
            valid_B2 = self.valid_BL2[:, level].to(self.dtype)
            x_BW = (torch.arange(width, device=valid_B2.device) + 0.5) / valid_B2[:, :1]
            y_BH = (torch.arange(height, device=valid_B2.device) + 0.5) / valid_B2[:, 1:]
            grid = torch.stack(
                [x_BW[:, None, :].expand(-1, height, -1), y_BH[:, :, None].expand(-1, -1, width)],
                -1,
            )
            centers.append(grid.flatten(1, 2))
        return torch.cat(centers, 1)


@dataclass(frozen=True)
class Targets:
    """Ground truth of one batch, flattened over its images.

    Attributes:
        labels_G: class index of every object, int64.
        boxes_G4: its box (cx, cy, w, h).
        counts: number of objects of every image; objects of one image are neighbours in G.
        num_boxes: (), number of objects, averaged over all processes and at least 1: the
            normaliser of the published losses.
        masks: the masks of the objects; None where nothing is taught masks.
        image_G: image of every object, int64; made from ``counts``.
    """

    labels_G: Tensor
    boxes_G4: Tensor
    counts: tuple[int, ...]
    num_boxes: Tensor
    masks: ObjectMasks | None = None
    image_G: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made here, once a batch, so that assigners have nothing to bring to the device.  From
        # pinned memory the copy is queued like a kernel; from other memory it would be waited for.
        count_B = torch.tensor(self.counts, dtype=torch.int64)
        image_G = torch.arange(len(self.counts)).repeat_interleave(count_B)
        device = self.labels_G.device
        image_G = image_G.pin_memory() if device.type == "cuda" else image_G
        object.__setattr__(self, "image_G", image_G.to(device, non_blocking=True))

    @classmethod
    def from_instances(
        cls,
        instances: Sequence[Instances],
        dtype: torch.dtype = torch.float32,
        *,
        with_masks: bool = False,
    ) -> Targets:
        """Collect ``gt_boxes`` and ``gt_classes`` of detectron2 Instances, one per image.

        Args:
            instances: of every image.
            dtype: of the boxes.
            with_masks: collect ``gt_masks`` as well.
        """
        boxes = []
        for image in instances:
            height, width = image.image_size
            xyxy = image.gt_boxes.tensor.to(dtype)
            boxes.append(box_convert(xyxy / xyxy.new_tensor([width, height] * 2), "xyxy", "cxcywh"))
        labels = torch.cat([image.gt_classes for image in instances])
        num_boxes = torch.full((), len(labels), dtype=dtype, device=labels.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(num_boxes)
            num_boxes = num_boxes / torch.distributed.get_world_size()
        masks = ObjectMasks.from_instances(instances) if with_masks else None
        counts = tuple(map(len, instances))
        return cls(labels, torch.cat(boxes), counts, num_boxes.clamp(min=1), masks)

    def as_objectness(self) -> Targets:
        """The same objects, all of class 0."""
        return replace(self, labels_G=torch.zeros_like(self.labels_G))


@dataclass(frozen=True)
class Queries:
    """What the decoder starts from.

    Attributes:
        content_BNC: content embeddings.
        pos_BNC: position embeddings, added to queries (and keys) in every attention.
        reference_BNr: initial reference boxes (r = 4) or points (r = 2).
    """

    content_BNC: Tensor
    pos_BNC: Tensor
    reference_BNr: Tensor


@dataclass(frozen=True)
class Proposals:
    """A box and its scores for every encoder token, the first stage of a two-stage detector.

    Attributes:
        logits_BSK: scores; the first column says "object".
        boxes_BS4: predicted boxes.
        anchors_BS4: the boxes that the predictions started from; (1, 1, 1, 1) where there is none.
        valid_BS: True where an anchor exists: on image, with all of it in (0.01, 0.99).
    """

    logits_BSK: Tensor
    boxes_BS4: Tensor
    anchors_BS4: Tensor
    valid_BS: Tensor


@dataclass(frozen=True)
class DecoderStates:
    """Query states of every decoder layer at each place where a supervision may read them.

    Attributes:
        taps: name of the place -> one (B, N, C) per layer.  "output" is the end of the layer,
            "internal" the state between its two attentions.
        references: one (B, N, r) per layer, what the layer's boxes are predicted relative to.
        masks: what masks of these states are made of; None without a mask head.
    """

    taps: dict[str, tuple[Tensor, ...]]
    references: tuple[Tensor, ...]
    masks: BatchMasks | None = None

    def masks_of(self, states_BNC: Tensor, boxes_BN4: Tensor) -> QueryMasks | None:
        """The masks that states of these queries predict; None without a mask head."""
        return None if self.masks is None else self.masks.of_queries(states_BNC, boxes_BN4)


TAPS = ("output", "internal")


@dataclass(frozen=True)
class LayerPredictions:
    """Class logits (B, N, K) and boxes (B, N, 4) of one layer, and masks for who asks for them."""

    logits_BNK: Tensor
    boxes_BN4: Tensor
    masks: QueryMasks | None = None


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
