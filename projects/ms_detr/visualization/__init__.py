"""Pictures: detections, ground truth beside predictions, training curves, class counts."""

from .classes import save_class_histogram
from .curves import read_metrics, save_training_curves
from .detections import Marks, draw_detections
from .grid import Comparison, save_comparison_grid

__all__ = [
    "Comparison",
    "Marks",
    "draw_detections",
    "read_metrics",
    "save_class_histogram",
    "save_comparison_grid",
    "save_training_curves",
]
