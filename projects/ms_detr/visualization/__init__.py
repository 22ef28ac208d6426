"""Pictures: detections, ground truth, training curves, class counts, a profile of a step."""

from .classes import save_class_histogram
from .curves import read_metrics, save_training_curves
from .detections import Marks, draw_detections
from .grid import Comparison, save_comparison_grid
from .step import save_step_profile

__all__ = [
    "Comparison",
    "Marks",
    "draw_detections",
    "read_metrics",
    "save_class_histogram",
    "save_comparison_grid",
    "save_step_profile",
    "save_training_curves",
]
