"""Which query answers which object."""

from .assigner import Assigner
from .costs import FocalCost, GIoUCost, L1Cost, MatchCost, MatchCosts
from .hungarian import HungarianAssigner
from .top_k import ReleasedTopKAssigner

__all__ = [
    "Assigner",
    "FocalCost",
    "GIoUCost",
    "HungarianAssigner",
    "L1Cost",
    "MatchCost",
    "MatchCosts",
    "ReleasedTopKAssigner",
]
