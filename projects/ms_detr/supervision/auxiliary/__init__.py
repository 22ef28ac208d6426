"""Auxiliary heads of collaborative training (Co-DETR): dense supervision of the encoder."""

from .atss import ATSSHead
from .fcos import FCOSHead
from .gfl import GFLHead
from .head import BACKGROUND, UNUSED, AuxiliaryHead, AuxiliaryOutput, Candidates
from .maps import AuxiliaryMaps
from .retinanet import RetinaNetHead

__all__ = [
    "BACKGROUND",
    "UNUSED",
    "ATSSHead",
    "AuxiliaryHead",
    "AuxiliaryMaps",
    "AuxiliaryOutput",
    "Candidates",
    "FCOSHead",
    "GFLHead",
    "RetinaNetHead",
]
