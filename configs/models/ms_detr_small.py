"""A small MS-DETR (c) on Deformable-DETR++ for training from scratch on a CPU: 1.4 M parameters.

Levels begin at stride 4, because small images have small objects.
"""

from detectron2.config import LazyCall as L

from ms_detr.heads import ClippedDetections

from ..common.backbones.resnet import small_resnet
from .ms_detr_pp import model

model.backbone = small_resnet([64, 96, 128], num_blocks=1)
model.neck.in_channels = {"res2": 64, "res3": 96, "res4": 128}
model.neck.embed_dim = 128
model.neck.num_levels = 3
model.encoder.num_layers = 1
model.encoder.feedforward_dim = 256
model.encoder.num_heads = 4
model.decoder.num_layers = 2
model.decoder.layer.num_heads = 4
model.queries.num_queries = 40
# One score per token is enough: it says "object".
model.queries.proposals.num_outputs = 1
# In short trainings classes are learned last; twice the weight of the published recipe helps.
model.supervisions.one_to_one.terms["class"].weight = 2.0
# Boxes that end at the image's border score higher than the published ones, which may go beyond.
model.postprocess = L(ClippedDetections)(detections=model.postprocess)
