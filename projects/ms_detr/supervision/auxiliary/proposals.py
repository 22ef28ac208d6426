"""The region proposal network of Faster R-CNN, as Co-DETR's released config has it."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator.rpn import RPN, StandardRPNHead
from torch import Tensor

from .anchors import anchor_generator

_SCALES = [4 * 2 ** (third / 3) for third in range(3)]
_RATIOS = [0.5, 1.0, 2.0]
_SAMPLES, _POSITIVES = 256, 0.5
# Of a level, for every proposal that is wanted: what suppression looks at in training.  With 1000
# proposals these are the released 4000; the time it takes grows with the square.
_BEFORE_NMS = 4


def proposal_network(strides: Sequence[int], embed_dim: int, proposals: int, weight: float) -> RPN:
    """An RPN on maps called "0", "1", ...

    Args:
        strides: pixels from one cell to the next, per level.
        embed_dim: channels of the maps.
        proposals: of an image, at most, after non-maximum suppression, which looks at four times as
            many of every level in training, at as many to predict.
        weight: factor of both losses.
    """
    return RPN(
        in_features=[str(level) for level in range(len(strides))],
        head=_RPNHead(in_channels=embed_dim, num_anchors=len(_SCALES) * len(_RATIOS)),
        anchor_generator=anchor_generator(strides, _SCALES, _RATIOS),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=_SAMPLES,
        positive_fraction=_POSITIVES,
        pre_nms_topk=(_BEFORE_NMS * proposals, proposals),
        post_nms_topk=(proposals, proposals),
        nms_thresh=0.7,
        loss_weight=float(weight),
    )


class _RPNHead(StandardRPNHead):
    """With outputs in float32, as detectron2 has boxes; their suppression wants scores alike."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(features)
        return [x.float() for x in logits], [x.float() for x in deltas]
