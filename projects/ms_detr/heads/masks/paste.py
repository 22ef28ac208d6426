"""From mask logits to masks in the size of the output."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures.masks import QueryMasks, sample_logits

# Pixels of all masks that are pasted at once; in float32 they take 64 MB.
_PIXELS = 2**24


def paste_masks(
    masks: QueryMasks, image: int, query_M: Tensor, output_size: tuple[int, int]
) -> Tensor:
    """Masks of an image's detections, True where the probability is above a half.

    Done for a few queries at a time, so that memory is that of the result and a bounded rest. A
    query that was detected as several classes has its mask computed once.

    Args:
        masks: of all queries.
        image: index in the batch.
        query_M: query of every detection.
        output_size: (height, width) of the result.

    Returns:
        (M, height, width) bool.
    """
    height, width = output_size
    queries, detection_M = query_M.unique(return_inverse=True)
    at_once = max(1, _PIXELS // (height * width))
    pasted = [
        _paste(masks, torch.full_like(chunk, image), chunk, output_size)
        for chunk in queries.split(at_once)
    ]
    return torch.cat(pasted)[detection_M]


def _paste(masks: QueryMasks, image_P: Tensor, query_P: Tensor, size: tuple[int, int]) -> Tensor:
    logits_Phw = masks.of(image_P, query_P)
    if not len(query_P):
        return torch.zeros((0, *size), dtype=torch.bool, device=query_P.device)
    y, x = (
        (torch.arange(length, device=logits_Phw.device, dtype=logits_Phw.dtype) + 0.5) / length
        for length in size
    )
    points_1R2 = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)[None]
    # All queries are channels of one image: they share the points.
    values = sample_logits(logits_Phw[None], points_1R2, masks.extent_of(image_P[:1]))
    return (values[0] > 0).unflatten(1, size)
