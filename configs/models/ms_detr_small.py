"""A small MS-DETR (c) on Deformable-DETR++ for training from scratch on a CPU: 4.4 M parameters."""

from ..common.backbones.resnet import small_resnet
from .ms_detr_pp import model

model.backbone = small_resnet([32, 64, 128, 256])
model.neck.in_channels = {"res3": 64, "res4": 128, "res5": 256}
model.neck.embed_dim = 128
model.encoder.num_layers = 2
model.encoder.feedforward_dim = 256
model.encoder.num_heads = 4
model.decoder.num_layers = 3
model.decoder.layer.num_heads = 4
model.queries.num_queries = 60
# One score per token is enough: it says "object".
model.queries.proposals.num_outputs = 1
