"""Anchors of the heads, made by detectron2's generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import Tensor

from ...arguments import require_number, require_whole
from .maps import AuxiliaryMaps


@dataclass(frozen=True)
class AnchorGrid:
    """The candidates of a batch: level, row, column, then anchor of the cell.

    Attributes:
        boxes_A4: anchors in pixels, as corners.
        token_A: index of the cell among those of all levels.
        counts: number of anchors of every level.
        on_image_BA: False for anchors of cells that show padding only.
    """

    boxes_A4: Tensor
    token_A: Tensor
    counts: tuple[int, ...]
    on_image_BA: Tensor

    def of_image(self, image: int) -> tuple[AnchorGrid, Tensor]:
        """The candidates that one image has without the padding of the batch.

        Returns:
            the grid of these candidates only, and which of all candidates they are.
        """
        on_image_A = self.on_image_BA[image]
        place_X = on_image_A.nonzero()[:, 0]
        counts = torch.stack([level_A.sum() for level_A in on_image_A.split(self.counts)])
        own = AnchorGrid(
            boxes_A4=self.boxes_A4[place_X],
            token_A=self.token_A[place_X],
            counts=tuple(counts.tolist()),
            on_image_BA=on_image_A[None, place_X],
        )
        return own, place_X


def anchor_generator(
    strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float]
) -> DefaultAnchorGenerator:
    """Anchors of side scale * stride in every cell, with their centre in the cell's corner.

    That is where the released code has them.

    Args:
        strides: pixels from one cell to the next, per level.
        scales: sides of the anchors, in strides.
        ratios: heights / widths.

    Raises:
        ValueError: strides are no whole numbers, or something is not positive.
    """
    for stride in strides:
        require_whole("strides of an auxiliary head", stride)
    for scale in scales:
        require_number("scale of an auxiliary head's anchors", scale, 0, above=True)
    for ratio in ratios:
        require_number("ratio of an auxiliary head's anchors", ratio, 0, above=True)
    return DefaultAnchorGenerator(
        sizes=[[scale * stride for scale in scales] for stride in strides],
        aspect_ratios=[list(ratios)],
        strides=list(strides),
        offset=0.0,
    )


def anchor_grid(generator: DefaultAnchorGenerator, pyramid: AuxiliaryMaps) -> AnchorGrid:
    """The anchors of all levels.

    Raises:
        ValueError: the maps have other strides than the generator.
    """
    if tuple(generator.strides) != tuple(pyramid.strides):
        raise ValueError(
            f"an auxiliary head has anchors for strides {list(generator.strides)}, but its maps "
            f"have {list(pyramid.strides)}; set strides of the head to those of the maps"
        )
    levels = [boxes.tensor for boxes in generator(list(pyramid.maps))]
    per_cell = generator.num_anchors[0]
    cells = torch.arange(len(pyramid.centers_S2), device=levels[0].device)
    token_A = cells.repeat_interleave(per_cell)
    return AnchorGrid(
        boxes_A4=torch.cat(levels).to(pyramid.dtype),
        token_A=token_A,
        counts=tuple(map(len, levels)),
        on_image_BA=pyramid.on_image_BS[:, token_A],
    )
