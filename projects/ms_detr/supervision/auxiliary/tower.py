"""What the one-stage heads have in common: convolutions over all levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ...arguments import require_groups, require_whole

_PRIOR = 0.01  # score of everything before the first step (RetinaNet, 4.1)


@dataclass(frozen=True)
class DenseOutput:
    """Raw outputs for every candidate of all levels: level, row, column, then anchor of the cell.

    Attributes:
        logits_BAK: class logits.
        boxes_BAD: what boxes are decoded from.
        quality_BA: logits of centerness or overlap; None if the tower has no such output.
    """

    logits_BAK: Tensor
    boxes_BAD: Tensor
    quality_BA: Tensor | None


class DenseTower(nn.Module):
    """Stacked convolutions for classes and for boxes, and their predictors, shared by all levels.

    Args:
        num_classes: logits of a candidate.
        box_outputs: D, numbers that a box is decoded from.
        has_quality: whether there is one more logit, predicted beside the boxes.
        per_cell: candidates of a cell.
        num_levels: levels; each has a learned factor for its boxes.
        embed_dim: channels.
        num_convs: 3x3 convolutions before each predictor; Co-DETR uses one, the heads' papers four.
        num_groups: groups of the normalisation.

    Raises:
        ValueError: the channels do not part into the groups, or what counts something does not.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        box_outputs: int,
        has_quality: bool,
        per_cell: int,
        num_levels: int,
        embed_dim: int = 256,
        num_convs: int = 1,
        num_groups: int = 32,
    ):
        super().__init__()
        require_whole("num_classes of an auxiliary head", num_classes)
        require_whole("num_convs of an auxiliary head", num_convs, 0)
        require_groups("an auxiliary head", embed_dim, num_groups)

        def stack() -> nn.Sequential:
            return nn.Sequential(
                *(
                    nn.Sequential(
                        nn.Conv2d(embed_dim, embed_dim, 3, padding=1, bias=False),
                        nn.GroupNorm(num_groups, embed_dim),
                        nn.ReLU(),
                    )
                    for _ in range(num_convs)
                )
            )

        def predictor(outputs: int) -> nn.Conv2d:
            return nn.Conv2d(embed_dim, per_cell * outputs, 3, padding=1)

        self.class_stack, self.box_stack = stack(), stack()
        self.classes, self.boxes = predictor(num_classes), predictor(box_outputs)
        self.quality = predictor(1) if has_quality else None
        self.scales = nn.Parameter(torch.ones(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(cast(Tensor, self.classes.bias), -math.log((1 - _PRIOR) / _PRIOR))
        self.per_cell, self.embed_dim = per_cell, embed_dim

    def forward(self, maps: Sequence[Tensor]) -> DenseOutput:
        """Predict from maps (B, C, Hl, Wl) of all levels."""
        logits, boxes, quality = [], [], []
        for level, features in enumerate(maps):
            of_class, of_box = self.class_stack(features), self.box_stack(features)
            logits.append(self._rows(self.classes(of_class)))
            boxes.append(self._rows(self.boxes(of_box)) * self.scales[level])
            if self.quality is not None:
                quality.append(self._rows(self.quality(of_box)))
        return DenseOutput(
            torch.cat(logits, 1),
            torch.cat(boxes, 1),
            torch.cat(quality, 1)[..., 0] if quality else None,
        )

    def _rows(self, output_BXHW: Tensor) -> Tensor:
        """Maps of (anchor, number) channels as rows (B, H * W * anchors, numbers)."""
        rows = output_BXHW.flatten(2).transpose(1, 2)
        # Losses are not for half precision.
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        return rows.unflatten(2, (self.per_cell, -1)).flatten(1, 2)
