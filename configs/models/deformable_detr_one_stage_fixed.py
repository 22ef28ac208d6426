"""One-stage Deformable-DETR as it began: fixed reference points, heads shared by all layers."""

from ms_detr.decoder import FixedReference
from ms_detr.heads import SharedPredictionHeads

from .deformable_detr_one_stage import model

model.decoder.refinement._target_ = FixedReference
model.heads._target_ = SharedPredictionHeads
del model.heads.num_layers
