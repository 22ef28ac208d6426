"""Which query answers which object."""

from .all_pairs import AllPairsTopKAssigner
from .assigner import Assigner, HostAssigner, Steps, run_together
from .best_object import BestObjectTopKAssigner
from .blocks import BlockwiseAssigner, RepeatingAssigner
from .costs import FocalCost, GIoUCost, L1Cost, MatchCost, MatchCosts
from .hungarian import HungarianAssigner
from .mask_costs import DiceCost, ImageMasks, MaskCost, MaskMatchCost
from .merge import AppendMissing, Merge, OverrideByOneToMany
from .released import ReleasedTopKAssigner, seeded_generator
from .top_k import Slots, TopKAssigner

__all__ = [
    "AllPairsTopKAssigner",
    "AppendMissing",
    "Assigner",
    "BestObjectTopKAssigner",
    "BlockwiseAssigner",
    "DiceCost",
    "FocalCost",
    "GIoUCost",
    "HostAssigner",
    "HungarianAssigner",
    "ImageMasks",
    "L1Cost",
    "MaskCost",
    "MaskMatchCost",
    "MatchCost",
    "MatchCosts",
    "Merge",
    "OverrideByOneToMany",
    "ReleasedTopKAssigner",
    "RepeatingAssigner",
    "Slots",
    "Steps",
    "TopKAssigner",
    "run_together",
    "seeded_generator",
]
