"""Auxiliary heads of collaborative training (Co-DETR): dense supervision of the encoder."""

from .adapter import CoarserLevel, MultiScaleAdapter, PyramidOfOneLevel
from .branch import BranchDetector, auxiliary_heads
from .head import BACKGROUND, UNUSED, AuxiliaryHead, AuxiliaryOutput, Candidates
from .maps import AuxiliaryMaps

__all__ = [
    "BACKGROUND",
    "UNUSED",
    "AuxiliaryHead",
    "AuxiliaryMaps",
    "AuxiliaryOutput",
    "BranchDetector",
    "Candidates",
    "CoarserLevel",
    "MultiScaleAdapter",
    "PyramidOfOneLevel",
    "auxiliary_heads",
]
