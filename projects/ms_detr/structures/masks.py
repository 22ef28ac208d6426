"""Frozen values that masks travel in: those of the objects, and those that queries predict.

Shape letters as in :mod:`ms_detr.structures`; h, w are those of a mask map, R is a point of a mask.
Points are (x, y), fractions in [0, 1] of the image *without* its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor


@dataclass(frozen=True)
class ObjectMasks:
    """True masks of all objects of a batch, one byte a pixel, each in the size of its image.

    Images differ in size, so the pixels of all masks stand in one row; nothing is padded, and no
    copy in floating point is made.

    Attributes:
        pixels: bool, the pixels of all masks, row by row.
        first_G: index of the first pixel of every object.
        size_G2: (width, height) of its image.
    """

    pixels: Tensor
    first_G: Tensor
    size_G2: Tensor

    @classmethod
    def from_instances(cls, instances: Sequence[Instances]) -> ObjectMasks:
        """Collect ``gt_masks`` of detectron2 Instances: BitMasks, or PolygonMasks, which are drawn.

        Raises:
            ValueError: objects without masks, or masks of another size than the image.
        """
        masks, sizes = [], []
        for index, image in enumerate(instances):
            if len(image) == 0:  # detectron2 gives them no field
                continue
            drawn = _bit_masks(image, index)
            masks.append(drawn.reshape(-1))
            sizes += [[drawn.shape[2], drawn.shape[1]]] * len(drawn)
        # Empty batches need a device too.
        device = instances[0].gt_classes.device
        size_G2 = torch.tensor(sizes, dtype=torch.int64, device=device).reshape(-1, 2)
        area_G = size_G2.prod(1)
        pixels = torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool, device=device)
        return cls(pixels, area_G.cumsum(0) - area_G, size_G2)

    def select(self, object_P: Tensor) -> ObjectMasks:
        """The masks of these objects, in this order; pixels are shared."""
        return ObjectMasks(self.pixels, self.first_G[object_P], self.size_G2[object_P])

    def repeated(self, times: int) -> ObjectMasks:
        """All masks, several times; pixels are shared."""
        return ObjectMasks(self.pixels, self.first_G.repeat(times), self.size_G2.repeat(times, 1))

    def sample(self, target_P: Tensor, points_PR2: Tensor) -> Tensor:
        """Bilinear values (P, R) in [0, 1] of the masks of ``target_P`` at points.

        What detectron2's ``point_sample`` gives for the masks in floating point; like there, all
        outside of the image is background.
        """
        size_P12 = self.size_G2[target_P][:, None]
        # Written as grid_sample has it, so that numbers are rounded alike.
        place = ((2 * points_PR2 - 1 + 1) * size_P12 - 1) / 2
        corner = place.floor()
        share = place - corner
        x, y = corner.long().unbind(-1)
        values = torch.zeros_like(share[..., 0])
        for dx, share_x in ((0, 1 - share[..., 0]), (1, share[..., 0])):
            for dy, share_y in ((0, 1 - share[..., 1]), (1, share[..., 1])):
                values += share_x * share_y * self._at(target_P, x + dx, y + dy)
        return values

    def _at(self, target_P: Tensor, x_PR: Tensor, y_PR: Tensor) -> Tensor:
        """Values (P, R) of pixels, False outside of the image."""
        width_P1, height_P1 = self.size_G2[target_P, None].unbind(-1)
        inside = (x_PR >= 0) & (x_PR < width_P1) & (y_PR >= 0) & (y_PR < height_P1)
        index = self.first_G[target_P, None] + y_PR * width_P1 + x_PR
        return self.pixels[index.where(inside, self.first_G[target_P, None])] & inside


def _bit_masks(image: Instances, index: int) -> Tensor:
    """Masks (G, H, W) of one image, bool."""
    height, width = image.image_size
    if not image.has("gt_masks"):
        raise ValueError(
            f"image {index} of the batch has {len(image)} objects, but no gt_masks; give "
            "dataloader.train.mapper.use_instance_mask=True, and data with segmentations"
        )
    masks = image.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, height, width)
    tensor = masks.tensor.to(image.gt_classes.device)
    if tuple(tensor.shape[1:]) != (height, width):
        raise ValueError(
            f"image {index} of the batch is {height} x {width} pixels, but its gt_masks are "
            f"{tuple(tensor.shape[1:])}; transform both alike"
        )
    return tensor


@dataclass(frozen=True)
class BatchMasks:
    """What the masks of one batch are made of, before anybody asks for one.

    Attributes:
        head: (pixels, states_PC, image_P, boxes_P4) -> logits (P, h, w), a
            :class:`ms_detr.heads.MaskHead`.
        pixels: what the head made of the maps of the batch.
        extent_B2: share (x, y) of the maps that is image, in (0, 1]; the rest is padding.
    """

    head: Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    pixels: Any
    extent_B2: Tensor

    def of_queries(self, states_BNC: Tensor, boxes_BN4: Tensor) -> QueryMasks:
        """The masks that query states predict, given the boxes that they predict."""
        return QueryMasks(self, states_BNC, boxes_BN4)

    def repeated(self, times: int) -> BatchMasks:
        """The same for a batch in which every image is there ``times`` times in a row."""

        def head(pixels: Any, states_PC: Tensor, image_P: Tensor, boxes_P4: Tensor) -> Tensor:
            image_P = image_P.div(times, rounding_mode="floor")
            return self.head(pixels, states_PC, image_P, boxes_P4)

        return BatchMasks(head, self.pixels, self.extent_B2.repeat_interleave(times, 0))

    def in_layers(self, layers: int) -> BatchMasks:
        """The same for the images of several layers: all of the first, then of the next."""
        images = len(self.extent_B2)

        def head(pixels: Any, states_PC: Tensor, image_P: Tensor, boxes_P4: Tensor) -> Tensor:
            return self.head(pixels, states_PC, image_P.remainder(images), boxes_P4)

        return BatchMasks(head, self.pixels, self.extent_B2.repeat(layers, 1))


@dataclass(frozen=True)
class QueryMasks:
    """Masks of the queries that somebody asks for; the others are never computed.

    Attributes:
        batch: what they are made of.
        states_BNC: states of all queries.
        boxes_BN4: their boxes (cx, cy, w, h), fractions of the image.
    """

    batch: BatchMasks
    states_BNC: Tensor
    boxes_BN4: Tensor

    @classmethod
    def joined(cls, layers: Sequence[QueryMasks]) -> QueryMasks:
        """Masks of the queries of several layers."""
        batch = layers[0].batch.in_layers(len(layers))
        states_BNC = torch.cat([layer.states_BNC for layer in layers])
        return cls(batch, states_BNC, torch.cat([layer.boxes_BN4 for layer in layers]))

    def of(self, image_P: Tensor, query_P: Tensor) -> Tensor:
        """Logits (P, h, w) of chosen queries on the padded image, at least in float32.

        Cheapest if queries of one image are neighbours.
        """
        boxes_P4 = self.boxes_BN4[image_P, query_P] * self.extent_of(image_P).repeat(1, 2)
        states_PC = self.states_BNC[image_P, query_P]
        logits = self.batch.head(self.batch.pixels, states_PC, image_P, boxes_P4)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def blocks_as_images(self, blocks: int) -> QueryMasks:
        """The same masks, with equal blocks of the queries as images of a larger batch."""
        states_BNC, boxes_BN4 = (
            x.unflatten(1, (blocks, -1)).flatten(0, 1) for x in (self.states_BNC, self.boxes_BN4)
        )
        return self.batch.repeated(blocks).of_queries(states_BNC, boxes_BN4)

    def extent_of(self, image_P: Tensor) -> Tensor:
        """(P, 2): share (x, y) of the maps of ``image_P`` that is image."""
        return self.batch.extent_B2[image_P]


def sample_logits(logits_PMhw: Tensor, points_PR2: Tensor, extent_P2: Tensor) -> Tensor:
    """Bilinear values (P, M, R) of predicted maps at points of the image.

    Half a cell from the border the outermost cell counts alone: what lies beyond is not image.

    Args:
        logits_PMhw: maps of padded images.
        points_PR2: (x, y) as fractions of the image.
        extent_P2: share (x, y) of the maps that is image.
    """
    height, width = logits_PMhw.shape[-2:]
    size_2 = extent_P2.new_tensor([width, height])
    # A cell with a thousandth of image is a rounding error.
    last_P2 = (extent_P2 * size_2 - 1e-3).ceil() - 0.5
    place_PR2 = (points_PR2 * extent_P2[:, None]).minimum((last_P2 / size_2)[:, None])
    grid = (2 * place_PR2 - 1)[:, :, None].to(logits_PMhw.dtype)
    sampled = F.grid_sample(
        logits_PMhw, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[..., 0]
