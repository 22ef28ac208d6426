"""DINO, ResNet-50, four levels: contrastive denoising, 900 queries, heads shared by all layers."""

from copy import deepcopy

from detectron2.config import LazyCall as L

from ms_detr.decoder import ReferencePosition
from ms_detr.heads import NormalizedPredictionHeads
from ms_detr.layers import CornerSinePosition
from ms_detr.queries import DINOQueries
from ms_detr.supervision import ChosenProposalSupervision

from ..common.supervision.denoising import add_contrastive_denoising
from .deformable_detr_pp import model

# Unlike Deformable DETR's, the released positions of cells are those of their corners.
model.encoder.position = L(CornerSinePosition)(embed_dim="${...neck.embed_dim}", temperature=20.0)
model.queries._target_ = DINOQueries
model.queries.num_queries = 900
model.decoder.position = L(ReferencePosition)(embed_dim="${...neck.embed_dim}", temperature=10000.0)
model.heads._target_ = NormalizedPredictionHeads
del model.heads.num_layers
model.postprocess.num_detections = 300
model.supervisions.one_to_one.terms["class"].weight = 1.0
# The first stage is taught like a decoder layer.
model.supervisions.proposals = deepcopy(model.supervisions.one_to_one)
model.supervisions.proposals._target_ = ChosenProposalSupervision
del model.supervisions.proposals.tap
add_contrastive_denoising(model)
