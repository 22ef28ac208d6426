"""Loss terms of a supervision."""

from .box import GIoULoss, L1Loss
from .classification import FocalLoss
from .mask import MaskCrossEntropy, MaskDice, MaskTerm
from .mask_losses import EveryLayerMaskLosses, MaskLosses
from .points import MaskSamples, UncertainPoints
from .quality import QualityFocalLoss
from .term import LossTerm, LossTerms

__all__ = [
    "EveryLayerMaskLosses",
    "FocalLoss",
    "GIoULoss",
    "L1Loss",
    "LossTerm",
    "LossTerms",
    "MaskCrossEntropy",
    "MaskDice",
    "MaskLosses",
    "MaskSamples",
    "MaskTerm",
    "QualityFocalLoss",
    "UncertainPoints",
]
