"""Deformable-DETR++ (H-DETR, 4.1): mixed query selection, look forward twice, no dropout."""

from ms_detr.decoder import LookForwardTwice
from ms_detr.queries import MixedSelectionQueries

from .deformable_detr import model

model.queries._target_ = MixedSelectionQueries
model.decoder.refinement._target_ = LookForwardTwice
model.encoder.dropout = 0.0
