"""Masks for any model: a mask head, and losses for the masks of one-to-one pairs.

``with_masks(model)`` changes a model's config in place. The losses weigh as in Mask DINO. On top:
``model.supervisions.mixed.masks = mask_losses`` teaches the masks of one-to-many pairs as well,
``.masks._target_ = EveryLayerMaskLosses`` those of all layers, and
``model.supervisions.one_to_one.assigner.costs.update(mask_costs)`` gives masks a price in matching.
"""

from detectron2.config import LazyCall as L

from ms_detr.assigners import DiceCost, MaskCost
from ms_detr.heads import AttentionMaskHead, LocalizedMaskHead
from ms_detr.losses import MaskCrossEntropy, MaskDice, MaskLosses, UncertainPoints

# The map of stride 4 of any ResNet with bottlenecks. Without the box as a prior:
# model.mask_head._target_ = QueryPixelMaskHead.
query_pixel = L(LocalizedMaskHead)(
    in_channels={"res2": 256},
    embed_dim="${..neck.embed_dim}",
    mask_dim=256,
    num_levels=3,
    num_groups="${..neck.num_groups}",
)

# As DETR has it, for comparison: model.mask_head = attention; with one level, level=0.
attention = L(AttentionMaskHead)(
    in_channels={"res4": 1024, "res3": 512, "res2": 256},
    embed_dim="${..neck.embed_dim}",
    level=2,
    num_heads=8,
    num_groups=8,
)

mask_losses = L(MaskLosses)(
    points=L(UncertainPoints)(num_points=12544, oversample=3.0, importance=0.75),
    mask=L(MaskCrossEntropy)(weight=5.0),
    dice=L(MaskDice)(weight=5.0),
)

mask_costs = {
    "mask": L(MaskCost)(weight=5.0, num_points=12544),
    "dice": L(DiceCost)(weight=5.0, num_points=12544),
}


def with_masks(model) -> None:
    """Give a model's config a mask head and its losses, in place."""
    features = model.backbone.out_features
    model.backbone.out_features = [*query_pixel.in_channels, *(f for f in features if f != "res2")]
    model.mask_head = query_pixel
    if "num_levels" not in model.neck:  # a detector of one map
        model.mask_head.update(num_levels=1, num_groups=32)
    model.supervisions.one_to_one.masks = mask_losses
