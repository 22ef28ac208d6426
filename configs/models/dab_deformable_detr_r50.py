"""DAB-Deformable-DETR, ResNet-50, four levels, as its code was released: learned anchors."""

from detectron2.config import LazyCall as L

from ms_detr.decoder import ScaledReferencePosition
from ms_detr.queries import ContentAnchorQueries

from .deformable_detr_one_stage import model

model.encoder.dropout = 0.0
model.queries = L(ContentAnchorQueries)(num_queries=300, embed_dim="${..neck.embed_dim}")
model.decoder.position = L(ScaledReferencePosition)(
    embed_dim="${...neck.embed_dim}", temperature=10000.0
)
model.postprocess.num_detections = 300
model.supervisions.one_to_one.terms["class"].weight = 1.0
