"""Pictures: detections, ground truth beside predictions, training curves, a profile of a step."""

from .curves import read_metrics, save_training_curves
from .detections import Marks, draw_detections
from .grid import Comparison, save_comparison_grid
from .step import save_step_profile

__all__ = [
    "Comparison",
    "Marks",
    "draw_detections",
    "read_metrics",
    "save_comparison_grid",
    "save_step_profile",
    "save_training_curves",
]
