"""The one-to-many assigners written as loops over images and objects.

Nothing of the package's assigners is used: these loops say the same thing in another way.
tools/benchmark_assigners.py measures how much time they take, tests compare the pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

Pairs = list[tuple[Tensor, Tensor, Tensor]]
"""Per image: query, object within the image, score, one entry per pair."""


def score_rows(logits_NK: Tensor, boxes_N4: Tensor, labels: Tensor, boxes: Tensor, alpha: float):
    """Scores (N,) of every object of one image."""
    predicted = box_convert(boxes_N4, "cxcywh", "xyxy")
    true = box_convert(boxes, "cxcywh", "xyxy")
    rows = []
    for index in range(len(labels)):
        iou_N = box_iou(true[index : index + 1], predicted)[0]
        rows.append((1 - alpha) * iou_N + alpha * logits_NK[:, labels[index]].sigmoid())
    return rows


def all_pairs(rows: list[Tensor], k: int, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1, for one image."""
    queries, objects, scores = [], [], []
    for index, row in enumerate(rows):
        score, query = row.topk(min(k, len(row)))
        above = score > threshold
        queries.append(query[above])
        scores.append(score[above])
        objects.append(torch.full_like(queries[-1], index))
    return torch.cat(queries), torch.cat(objects), torch.cat(scores)


def best_object(rows: list[Tensor], k: int, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The supplement's text, for one image."""
    best, favourite = torch.stack(rows).max(0)
    queries, objects, scores = [], [], []
    for index in range(len(rows)):
        own = ((favourite == index) & (best >= threshold)).nonzero()[:, 0]
        score, place = best[own].topk(min(k, len(own)))
        queries.append(own[place])
        scores.append(score)
        objects.append(torch.full_like(queries[-1], index))
    return torch.cat(queries), torch.cat(objects), torch.cat(scores)


def released(rows: list[Tensor], k: int, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The released code with its cut of positives made by score, for one image."""
    best, favourite = torch.stack(rows).max(0)
    positive = best >= threshold
    for row in rows:
        positive[row.argmax()] = True
    limit = max(1, int(0.25 * len(best)))
    if positive.sum() > limit:
        ranked = torch.where(positive, best, -1.0).topk(limit)[1]
        positive = torch.zeros_like(positive)
        positive[ranked] = True
    queries, objects, scores = [], [], []
    for index, row in enumerate(rows):
        count = int((favourite[positive] == index).sum())
        score, query = row.topk(min(count, k, len(row)))
        queries.append(query)
        scores.append(score)
        objects.append(torch.full_like(query, index))
    return torch.cat(queries), torch.cat(objects), torch.cat(scores)


RULES = {
    "AllPairsTopKAssigner": all_pairs,
    "BestObjectTopKAssigner": best_object,
    "ReleasedTopKAssigner": released,
}


@torch.no_grad()
def assign(
    rule: str,
    logits_BNK: Tensor,
    boxes_BN4: Tensor,
    labels_G: Tensor,
    boxes_G4: Tensor,
    counts: tuple[int, ...],
    *,
    k: int = 6,
    threshold: float = 0.4,
    alpha: float = 0.3,
) -> Pairs:
    """Pairs of every image.

    Args:
        rule: name of the assigner's class, a key of :data:`RULES`.
        logits_BNK, boxes_BN4: predictions of one layer.
        labels_G, boxes_G4, counts: objects, and how many of them each image has.
        k, threshold, alpha: see the assigners.
    """
    found, first = [], 0
    for image, count in enumerate(counts):
        own = slice(first, first + count)
        rows = score_rows(logits_BNK[image], boxes_BN4[image], labels_G[own], boxes_G4[own], alpha)
        if rows:
            found.append(RULES[rule](rows, k, threshold))
        else:
            nothing = labels_G.new_zeros(0)
            found.append((nothing, nothing, boxes_BN4.new_zeros(0)))
        first += count
    return found
