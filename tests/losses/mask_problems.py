"""Predicted and true masks to teach and to match, for several tests."""

from __future__ import annotations

import torch
from detectron2.structures import BitMasks, Boxes, Instances

from ms_detr.structures import Assignment, LayerPredictions, Targets
from ms_detr.structures.masks import BatchMasks, QueryMasks


def dot_product(pixels, states_PC, image_P, boxes_P4):
    return torch.einsum("pc,pchw->phw", states_PC, pixels[image_P])


def problem(counts=(2, 3), sizes=((40, 48), (32, 24)), *, cells=(10, 12), queries=6):
    """Predictions with random maps of stride 4, and targets with random masks."""
    torch.manual_seed(0)
    images = []
    for (height, width), count in zip(sizes, counts):
        found = Instances((height, width), gt_boxes=Boxes(torch.ones(count, 4)))
        found.gt_classes = torch.zeros(count, dtype=torch.int64)
        found.gt_masks = BitMasks(torch.rand(count, height, width) > 0.5)
        images.append(found)
    extent = torch.tensor([[w / 4 / cells[1], h / 4 / cells[0]] for h, w in sizes])
    states = torch.randn(len(sizes), queries, 4, requires_grad=True)
    shape = (len(sizes), queries)
    batch = BatchMasks(dot_product, torch.randn(len(sizes), 4, *cells), extent)
    masks = QueryMasks(batch, states, torch.full((*shape, 4), 0.5))
    predictions = LayerPredictions(torch.zeros(*shape, 2), torch.zeros(*shape, 4), masks)
    return predictions, Targets.from_instances(images, with_masks=True)


def pairs(*rows, valid=None, normalizer=1.0) -> Assignment:
    """An assignment of (image, query, object) rows."""
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).T
    valid = torch.ones(len(rows), dtype=torch.bool) if valid is None else torch.tensor(valid)
    return Assignment(*columns, valid, valid, torch.tensor(normalizer))
