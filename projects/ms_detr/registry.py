"""Registries of the components a config may name.

A lazy config names classes directly; the registries list what there is, for tests, tools and docs.
The meta-architecture stands in detectron2's own registry.
"""

from detectron2.modeling import META_ARCH_REGISTRY
from fvcore.common.registry import Registry

AUXILIARY_HEADS = Registry("AUXILIARY_HEADS")
AUXILIARY_HEADS.__doc__ = (
    "Heads that teach the encoder: see :class:`ms_detr.supervision.auxiliary.AuxiliaryHead`."
)

ASSIGNERS = Registry("ASSIGNERS")
ASSIGNERS.__doc__ = (
    "Decide which query answers which object: see :class:`ms_detr.assigners.Assigner`."
)

MATCH_COSTS = Registry("MATCH_COSTS")
MATCH_COSTS.__doc__ = "Price of answering an object with a query, used by the Hungarian assigner."

MERGES = Registry("MERGES")
MERGES.__doc__ = "Add one-to-one pairs to one-to-many pairs: see :class:`ms_detr.assigners.Merge`."

LOSSES = Registry("LOSSES")
LOSSES.__doc__ = "Loss terms of a supervision: see :class:`ms_detr.losses.LossTerm`."

SOURCES = Registry("SOURCES")
SOURCES.__doc__ = (
    "Queries of a supervision's own: see :class:`ms_detr.supervision.sources.QuerySource`."
)

__all__ = [
    "ASSIGNERS",
    "AUXILIARY_HEADS",
    "LOSSES",
    "MATCH_COSTS",
    "MERGES",
    "META_ARCH_REGISTRY",
    "SOURCES",
]
