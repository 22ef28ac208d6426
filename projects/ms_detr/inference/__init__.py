"""A trained detector, made ready for use: the same detections, sooner."""

from .detector import BFloat16Detector, PreparedDetector
from .prepare import prepare_for_inference

__all__ = ["BFloat16Detector", "PreparedDetector", "prepare_for_inference"]
