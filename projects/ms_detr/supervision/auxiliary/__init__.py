"""Auxiliary heads of collaborative training (Co-DETR): dense supervision of the encoder."""

from .adapter import CoarserLevel, MultiScaleAdapter, PyramidOfOneLevel
from .atss import ATSSHead
from .branch import BranchDetector, auxiliary_heads
from .faster_rcnn import FasterRCNNHead
from .fcos import FCOSHead
from .gfl import GFLHead
from .head import BACKGROUND, UNUSED, AuxiliaryHead, AuxiliaryOutput, Candidates
from .maps import AuxiliaryMaps
from .paa import PAAHead
from .retinanet import RetinaNetHead

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
    "FCOSHead",
    "FasterRCNNHead",
    "GFLHead",
    "MultiScaleAdapter",
    "PAAHead",
    "PyramidOfOneLevel",
    "RetinaNetHead",
    "auxiliary_heads",
]
