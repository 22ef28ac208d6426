"""Frozen values that travel through the detector, with their shapes.

Shape letters: B image, L level, S memory token (all levels, flattened), C channel, N query,
D decoder layer, K class, G object (all images, flattened), P matched pair; r is 4 (cx, cy, w, h) or
2 (cx, cy).  Coordinates are fractions in [0, 1] of the image *without* its padding.
"""

from .masks import BatchMasks, ObjectMasks, QueryMasks, sample_logits
from .predictions import TAPS, Assignment, DecoderStates, LayerPredictions
from .pyramid import FeaturePyramid, padding_mask
from .queries import Proposals, Queries
from .query_groups import PRIMARY, QueryGroup
from .targets import Targets, count_boxes, send

__all__ = [
    "PRIMARY",
    "TAPS",
    "Assignment",
    "BatchMasks",
    "DecoderStates",
    "FeaturePyramid",
    "LayerPredictions",
    "ObjectMasks",
    "Proposals",
    "Queries",
    "QueryGroup",
    "QueryMasks",
    "Targets",
    "count_boxes",
    "padding_mask",
    "sample_logits",
    "send",
]
