"""From backbone maps to the memory that the decoder reads."""

from .deformable import DeformableEncoder, DeformableEncoderLayer
from .dense import DenseEncoder, DenseEncoderLayer, ScaledDenseEncoder
from .neck import ChannelMapper
from .single_level import SingleLevelNeck

__all__ = [
    "ChannelMapper",
    "DeformableEncoder",
    "DeformableEncoderLayer",
    "DenseEncoder",
    "DenseEncoderLayer",
    "ScaledDenseEncoder",
    "SingleLevelNeck",
]
