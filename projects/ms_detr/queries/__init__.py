"""What the decoder starts from: learned, or chosen among the encoder's proposals."""

from .anchors import AnchorQueries, ConditionalQueries, ContentAnchorQueries
from .dino import DINOQueries
from .initializer import EmbeddedQueries, QueryInitializer
from .learned import LearnedQueries
from .proposals import EncoderProposals
from .two_stage import MixedSelectionQueries, ProposalQueries, TwoStageQueries, first_rows

__all__ = [
    "AnchorQueries",
    "ConditionalQueries",
    "ContentAnchorQueries",
    "DINOQueries",
    "EmbeddedQueries",
    "EncoderProposals",
    "LearnedQueries",
    "MixedSelectionQueries",
    "ProposalQueries",
    "QueryInitializer",
    "TwoStageQueries",
    "first_rows",
]
