"""Loss terms of a supervision."""

from .box import GIoULoss, L1Loss
from .classification import FocalLoss
from .term import LossTerm, LossTerms

__all__ = ["FocalLoss", "GIoULoss", "L1Loss", "LossTerm", "LossTerms"]
