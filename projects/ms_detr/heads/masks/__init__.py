"""Masks of queries: two heads behind one interface, and pasting into the image."""

from .attention import AttentionMaskHead
from .head import MaskHead
from .localized import BoxPrior, LocalizedMaskHead
from .paste import paste_masks
from .query_pixel import PixelDecoder, QueryPixelMaskHead

__all__ = [
    "AttentionMaskHead",
    "BoxPrior",
    "LocalizedMaskHead",
    "MaskHead",
    "PixelDecoder",
    "QueryPixelMaskHead",
    "paste_masks",
]
