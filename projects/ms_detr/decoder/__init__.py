"""The decoder: layers, the stack, and how boxes are refined from layer to layer."""

from .conditional import ConditionalCrossSelfLayer, ConditionalSelfCrossLayer
from .conditional_position import (
    AnchorPosition,
    ConditionalPlaces,
    ConditionalPosition,
    ModulatedAnchorPosition,
)
from .decoder import Decoder
from .layers import CrossSelfLayer, DecoderLayer, SelfCrossLayer
from .position import GivenPosition, QueryPosition, ReferencePosition, ScaledReferencePosition
from .refine import DetachedRefinement, FixedReference, LookForwardTwice, Refinement

__all__ = [
    "AnchorPosition",
    "ConditionalCrossSelfLayer",
    "ConditionalPlaces",
    "ConditionalPosition",
    "ConditionalSelfCrossLayer",
    "CrossSelfLayer",
    "Decoder",
    "DecoderLayer",
    "DetachedRefinement",
    "FixedReference",
    "GivenPosition",
    "LookForwardTwice",
    "ModulatedAnchorPosition",
    "QueryPosition",
    "ReferencePosition",
    "Refinement",
    "ScaledReferencePosition",
    "SelfCrossLayer",
]
