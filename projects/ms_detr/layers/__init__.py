"""Building blocks shared by encoder and decoder."""

from .deformable_attention import MultiScaleDeformableAttention
from .feed_forward import FeedForward
from .initialization import reset_transformer_parameters
from .mlp import MLP
from .position import SinePosition, sine_features

__all__ = [
    "MLP",
    "FeedForward",
    "MultiScaleDeformableAttention",
    "SinePosition",
    "reset_transformer_parameters",
    "sine_features",
]
