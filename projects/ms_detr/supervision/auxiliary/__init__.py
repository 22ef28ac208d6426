"""Auxiliary heads of collaborative training (Co-DETR): dense supervision of the encoder."""

from .adapter import CoarserLevel, MultiScaleAdapter, PyramidOfOneLevel
from .atss import ATSSHead
from .branch import BranchDetector, auxiliary_heads
from .faster_rcnn import FasterRCNNHead
from .gfl import GFLHead
from .head import BACKGROUND, UNUSED, AuxiliaryHead, AuxiliaryOutput, Candidates
from .maps import AuxiliaryMaps
from .paa import PAAHead

__all__ = [
    "BACKGROUND",
    "UNUSED",
    "ATSSHead",
    "AuxiliaryHead",
    "AuxiliaryMaps",
    "AuxiliaryOutput",
    "BranchDetector",
    "Candidates",
    "CoarserLevel",
    "FasterRCNNHead",
    "GFLHead",
    "MultiScaleAdapter",
    "PAAHead",
    "PyramidOfOneLevel",
    "auxiliary_heads",
]
