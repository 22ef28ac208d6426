"""From query states to predictions, and from predictions to detections."""

from .boxes import apply_delta, inverse_sigmoid
from .normalized import NormalizedPredictionHeads
from .postprocess import ClippedDetections, NMSDetections, Postprocess, TopKDetections
from .prediction import BoxHeads, ClassHeads, PredictionHeads, SharedPredictionHeads

__all__ = [
    "BoxHeads",
    "ClassHeads",
    "ClippedDetections",
    "NMSDetections",
    "NormalizedPredictionHeads",
    "Postprocess",
    "PredictionHeads",
    "SharedPredictionHeads",
    "TopKDetections",
    "apply_delta",
    "inverse_sigmoid",
]
