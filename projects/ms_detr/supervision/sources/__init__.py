"""Where the extra queries of a training method come from."""

from .denoising import (
    ContrastiveNoisedBoxes,
    Denoising,
    NoisedBoxes,
    ReleasedContrastiveNoisedBoxes,
)
from .next_proposals import NextMixedProposals, NextProposals
from .own import OwnEmbeddings, OwnQueries
from .source import ExtraQueries, QuerySource, SourceContext, joined

__all__ = [
    "ContrastiveNoisedBoxes",
    "Denoising",
    "ExtraQueries",
    "NextMixedProposals",
    "NextProposals",
    "NoisedBoxes",
    "OwnEmbeddings",
    "OwnQueries",
    "QuerySource",
    "ReleasedContrastiveNoisedBoxes",
    "SourceContext",
    "joined",
]
