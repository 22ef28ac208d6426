"""Building blocks shared by encoder and decoder."""

from .deformable_attention import MultiScaleDeformableAttention
from .feed_forward import FeedForward
from .initialization import reset_transformer_parameters
from .mlp import MLP
from .position import SinePosition, sine_features
from .self_attention import QuerySelfAttention, grouped_attention

__all__ = [
    "MLP",
    "FeedForward",
    "MultiScaleDeformableAttention",
    "QuerySelfAttention",
    "SinePosition",
    "grouped_attention",
    "reset_transformer_parameters",
    "sine_features",
]
