"""From query states to predictions, and from predictions to detections."""

from .boxes import apply_delta, inverse_sigmoid
from .postprocess import Postprocess, TopKDetections
from .prediction import PredictionHeads

__all__ = ["Postprocess", "PredictionHeads", "TopKDetections", "apply_delta", "inverse_sigmoid"]
