"""What the decoder starts from: learned, or chosen among the encoder's proposals."""

from .anchors import AnchorQueries, ConditionalQueries, ContentAnchorQueries
from .initializer import QueryInitializer
from .learned import LearnedQueries
from .proposals import EncoderProposals
from .two_stage import MixedSelectionQueries, TwoStageQueries

__all__ = [
    "AnchorQueries",
    "ConditionalQueries",
    "ContentAnchorQueries",
    "EncoderProposals",
    "LearnedQueries",
    "MixedSelectionQueries",
    "QueryInitializer",
    "TwoStageQueries",
]
