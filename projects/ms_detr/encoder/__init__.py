"""From backbone maps to the memory that the decoder reads."""

from .deformable import DeformableEncoder, DeformableEncoderLayer
from .neck import ChannelMapper

__all__ = ["ChannelMapper", "DeformableEncoder", "DeformableEncoderLayer"]
