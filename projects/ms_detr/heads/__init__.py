"""From query states to predictions, and from predictions to detections."""

from .boxes import apply_delta, inverse_sigmoid
from .masks import AttentionMaskHead, LocalizedMaskHead, MaskHead, QueryPixelMaskHead, paste_masks
from .normalized import NormalizedPredictionHeads
from .postprocess import ClippedDetections, NMSDetections, Postprocess, TopKDetections
from .prediction import BoxHeads, ClassHeads, PredictionHeads, SharedPredictionHeads
from .soft_nms import GaussianSoftNMSDetections, RescoredDetections, SoftNMSDetections

__all__ = [
    "AttentionMaskHead",
    "BoxHeads",
    "ClassHeads",
    "ClippedDetections",
    "GaussianSoftNMSDetections",
    "LocalizedMaskHead",
    "MaskHead",
    "NMSDetections",
    "NormalizedPredictionHeads",
    "Postprocess",
    "PredictionHeads",
    "QueryPixelMaskHead",
    "RescoredDetections",
    "SharedPredictionHeads",
    "SoftNMSDetections",
    "TopKDetections",
    "apply_delta",
    "inverse_sigmoid",
    "paste_masks",
]
