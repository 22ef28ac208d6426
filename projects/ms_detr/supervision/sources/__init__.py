"""Where the extra queries of a training method come from."""

from .box_embedding import BoxEmbedding, FeatureEmbedding, PositionedBoxEmbedding
from .collaborative import CollaborativeQueries
from .denoising import (
    ContrastiveNoisedBoxes,
    Denoising,
    NoisedBoxes,
    ReleasedContrastiveNoisedBoxes,
)
from .next_proposals import NextMixedProposals, NextProposals
from .own import OwnEmbeddings, OwnQueries
from .selection import FilledPositives, PositivesOnly, Selection
from .source import ExtraQueries, QuerySource, SourceContext, joined

__all__ = [
    "BoxEmbedding",
    "CollaborativeQueries",
    "ContrastiveNoisedBoxes",
    "Denoising",
    "ExtraQueries",
    "FeatureEmbedding",
    "FilledPositives",
    "NextMixedProposals",
    "NextProposals",
    "NoisedBoxes",
    "OwnEmbeddings",
    "OwnQueries",
    "PositionedBoxEmbedding",
    "PositivesOnly",
    "QuerySource",
    "ReleasedContrastiveNoisedBoxes",
    "Selection",
    "SourceContext",
    "joined",
]
