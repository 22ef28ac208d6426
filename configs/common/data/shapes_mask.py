"""The embedded data set of shapes, see `shapes.py`, with masks: those of the visible parts."""

from .masks import add_masks
from .shapes import dataloader, dataset

add_masks(dataloader, maskless="error", recompute_boxes=False)
