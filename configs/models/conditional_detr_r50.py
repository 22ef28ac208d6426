"""Conditional DETR, ResNet-50, one map of stride 32, as its code was released.

Sizes are stated once, as in `deformable_detr.py`: width at the neck, feed-forward and dropout at
the encoder, layers at the decoder, classes at the heads.
"""

from detectron2.config import LazyCall as L

from ms_detr.decoder import (
    ConditionalPosition,
    ConditionalSelfCrossLayer,
    Decoder,
    FixedReference,
)
from ms_detr.encoder import DenseEncoder, SingleLevelNeck
from ms_detr.heads import NormalizedPredictionHeads, TopKDetections
from ms_detr.layers import CornerSinePosition
from ms_detr.meta_arch import MSDETR
from ms_detr.queries import ConditionalQueries
from ms_detr.supervision import SupervisionSet

from ..common.backbones.resnet import imagenet_mean, imagenet_std, resnet50, resnet50_channels
from ..common.supervision.one_to_one import one_to_one

model = L(MSDETR)(
    backbone=resnet50,
    neck=L(SingleLevelNeck)(in_channels={"res5": resnet50_channels["res5"]}, embed_dim=256),
    encoder=L(DenseEncoder)(
        position=L(CornerSinePosition)(embed_dim="${...neck.embed_dim}", temperature=10000.0),
        num_layers=6,
        embed_dim="${..neck.embed_dim}",
        feedforward_dim=2048,
        dropout=0.1,
        num_heads=8,
        activation=None,
    ),
    queries=L(ConditionalQueries)(num_queries=300, embed_dim="${..neck.embed_dim}"),
    decoder=L(Decoder)(
        layer=L(ConditionalSelfCrossLayer)(
            embed_dim="${...neck.embed_dim}",
            feedforward_dim="${...encoder.feedforward_dim}",
            dropout="${...encoder.dropout}",
            num_heads=8,
            activation="${...encoder.activation}",
        ),
        num_layers=6,
        refinement=L(FixedReference)(),
        position=L(ConditionalPosition)(embed_dim="${...neck.embed_dim}", temperature=10000.0),
    ),
    heads=L(NormalizedPredictionHeads)(
        embed_dim="${..neck.embed_dim}", num_classes=80, initial_size_logit=0.0
    ),
    postprocess=L(TopKDetections)(num_detections=100),
    supervisions=L(SupervisionSet)(one_to_one=one_to_one),
    pixel_mean=imagenet_mean,
    pixel_std=imagenet_std,
)
model.backbone.out_features = ["res5"]
