"""Building blocks shared by encoder and decoder."""

from .chunked_feed_forward import chunked_feed_forward
from .conditional_attention import ConditionalCrossAttention, ConditionalSelfAttention
from .deformable_attention import MultiScaleDeformableAttention
from .dropout import Dropout
from .feed_forward import FeedForward
from .initialization import reset_transformer_parameters
from .mlp import MLP
from .position import CornerSinePosition, SinePosition, reference_features, sine_features
from .self_attention import QuerySelfAttention, grouped_attention

__all__ = [
    "MLP",
    "ConditionalCrossAttention",
    "ConditionalSelfAttention",
    "CornerSinePosition",
    "Dropout",
    "FeedForward",
    "MultiScaleDeformableAttention",
    "QuerySelfAttention",
    "SinePosition",
    "chunked_feed_forward",
    "grouped_attention",
    "reference_features",
    "reset_transformer_parameters",
    "sine_features",
]
