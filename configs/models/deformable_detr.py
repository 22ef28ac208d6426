"""Two-stage Deformable-DETR with iterative box refinement, ResNet-50, COCO's 80 classes.

Sizes are stated once: width and levels at the neck, feed-forward and dropout at the encoder,
layers at the decoder, classes at the heads; the other parts refer to them.
"""

from detectron2.config import LazyCall as L

from ms_detr.decoder import Decoder, DetachedRefinement, SelfCrossLayer
from ms_detr.encoder import ChannelMapper, DeformableEncoder
from ms_detr.heads import PredictionHeads, TopKDetections
from ms_detr.meta_arch import MSDETR
from ms_detr.queries import EncoderProposals, TwoStageQueries
from ms_detr.supervision import SupervisionSet

from ..common.backbones.resnet import imagenet_mean, imagenet_std, resnet50, resnet50_channels
from ..common.supervision.one_to_one import one_to_one, proposals

model = L(MSDETR)(
    backbone=resnet50,
    neck=L(ChannelMapper)(
        in_channels=resnet50_channels, embed_dim=256, num_levels=4, num_groups=32
    ),
    encoder=L(DeformableEncoder)(
        num_layers=6,
        embed_dim="${..neck.embed_dim}",
        feedforward_dim=2048,
        dropout=0.1,
        num_heads=8,
        num_levels="${..neck.num_levels}",
        num_points=4,
    ),
    queries=L(TwoStageQueries)(
        proposals=L(EncoderProposals)(
            embed_dim="${...neck.embed_dim}",
            num_outputs="${...heads.num_classes}",
        ),
        num_queries=300,
        embed_dim="${..neck.embed_dim}",
    ),
    decoder=L(Decoder)(
        layer=L(SelfCrossLayer)(
            embed_dim="${...neck.embed_dim}",
            feedforward_dim="${...encoder.feedforward_dim}",
            dropout="${...encoder.dropout}",
            num_heads=8,
            num_levels="${...neck.num_levels}",
            num_points=4,
        ),
        num_layers=6,
        refinement=L(DetachedRefinement)(),
    ),
    heads=L(PredictionHeads)(
        embed_dim="${..neck.embed_dim}",
        num_classes=80,
        num_layers="${..decoder.num_layers}",
        initial_size_logit=0.0,
    ),
    postprocess=L(TopKDetections)(num_detections=100),
    supervisions=L(SupervisionSet)(one_to_one=one_to_one, proposals=proposals),
    pixel_mean=imagenet_mean,
    pixel_std=imagenet_std,
)
