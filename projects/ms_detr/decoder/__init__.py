"""The decoder: layers, the stack, and how boxes are refined from layer to layer."""

from .decoder import Decoder
from .layers import CrossSelfLayer, DecoderLayer, SelfCrossLayer
from .refine import DetachedRefinement, FixedReference, LookForwardTwice, Refinement

__all__ = [
    "CrossSelfLayer",
    "Decoder",
    "DecoderLayer",
    "DetachedRefinement",
    "FixedReference",
    "LookForwardTwice",
    "Refinement",
    "SelfCrossLayer",
]
