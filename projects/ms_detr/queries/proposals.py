"""The first stage of a two-stage Deformable DETR: every encoder token proposes a box."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..heads.boxes import apply_delta
from ..heads.prediction import box_head, class_head
from ..structures import FeaturePyramid, Proposals


class EncoderProposals(nn.Module):
    """Scores and boxes of all encoder tokens (Deformable DETR, A.4.3).

    The anchor of a token sits on its cell and is 0.05 * 2^level of the image wide and high.

    Args:
        embed_dim: channels of the memory.
        num_outputs: columns of the scores.  Only the first is used for ranking and taught; the
            published models have as many as classes, the others learn to be silent.
        anchor_size: width and height of the anchors on the finest level, share of the image.
    """

    def __init__(self, *, embed_dim: int = 256, num_outputs: int = 1, anchor_size: float = 0.05):
        super().__init__()
        self.anchor_size = anchor_size
        self.projection = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.class_head = class_head(embed_dim, num_outputs)
        self.box_head = box_head(embed_dim)
        nn.init.xavier_uniform_(self.projection.weight)

    def fresh(self) -> EncoderProposals:
        """Another one of the same size, with initial weights of its own."""
        return EncoderProposals(
            embed_dim=self.projection.in_features,
            num_outputs=self.class_head.out_features,
            anchor_size=self.anchor_size,
        )

    def forward(self, memory: FeaturePyramid) -> Proposals:
        anchors, valid = self.anchors(memory)
        features = self.features(memory.tokens_BSC.masked_fill(~valid[..., None], 0.0))
        return Proposals(
            logits_BSK=self.class_head(features).to(anchors.dtype),
            boxes_BS4=self.boxes(features, anchors, valid),
            anchors_BS4=_where(valid, anchors),
            valid_BS=valid,
        )

    def features(self, tokens: Tensor) -> Tensor:
        """What both heads read, (..., C), of tokens (..., C)."""
        return self.norm(self.projection(tokens))

    def boxes(self, features: Tensor, anchors: Tensor, valid: Tensor) -> Tensor:
        """Proposed boxes (..., 4) around anchors; (1, 1, 1, 1) where there is none."""
        return _where(valid, apply_delta(self.box_head(features).to(anchors.dtype), anchors))

    def anchors(self, memory: FeaturePyramid) -> tuple[Tensor, Tensor]:
        """Anchors (B, S, 4), and (B, S) which may propose: on image, all of it in (0.01, 0.99)."""
        centers_BS2 = memory.centers_BS2()
        sizes = [
            centers_BS2.new_full((h * w, 2), self.anchor_size * 2**level)
            for level, (h, w) in enumerate(memory.shapes)
        ]
        anchors = torch.cat([centers_BS2, torch.cat(sizes).expand_as(centers_BS2)], -1)
        inside = ((anchors > 0.01) & (anchors < 0.99)).all(-1)
        return anchors, inside & ~memory.padding_BS


def _where(valid: Tensor, boxes: Tensor) -> Tensor:
    """The boxes, (1, 1, 1, 1) where they are not valid."""
    return torch.where(valid[..., None], boxes, torch.ones_like(boxes))
