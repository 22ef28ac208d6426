"""Random assignment problems, and the assigners said once more with Python's own lists."""

import torch
from torchvision.ops import box_convert, box_iou

from ms_detr.structures import LayerPredictions, Targets


def problem(queries, counts, classes=3, seed=0, dtype=torch.float32, copies=0, spread=0.1):
    """Queries scattered around the objects; ``copies`` of each tie, where given."""
    generator = torch.Generator().manual_seed(seed)
    images, objects = len(counts), sum(counts)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    true = torch.cat([uniform(objects, 2) * 0.5 + 0.25, uniform(objects, 2) * 0.25 + 0.25], 1)
    boxes = torch.cat([uniform(images, queries, 2) * 0.5 + 0.25, uniform(images, queries, 2)], 2)
    boxes[..., 2:] = boxes[..., 2:] * 0.25 + 0.25
    labels = torch.randint(0, classes, (objects,), generator=generator)
    logits = uniform(images, queries, classes) * 4 - 2
    if copies:
        original = torch.arange(objects) // 2
        true, labels = true[original], labels[original]
    first = 0
    for image, count in enumerate(counts):
        if count:
            near = torch.randint(0, count, (queries // 2,), generator=generator) + first
            boxes[image, : queries // 2] = true[near] * (1 + spread * uniform(queries // 2, 4))
        first += count
    if copies:
        original = torch.randperm(queries, generator=generator) // copies
        boxes, logits = boxes[:, original], logits[:, original]
    number = torch.tensor(float(max(objects, 1)), dtype=dtype)
    return LayerPredictions(logits, boxes), Targets(labels, true, tuple(counts), number)


def reference_scores(predictions, targets, alpha):
    """(G, N), image by image."""
    found, first = [], 0
    for image, count in enumerate(targets.counts):
        own = slice(first, first + count)
        true = box_convert(targets.boxes_G4[own], "cxcywh", "xyxy")
        iou = box_iou(true, box_convert(predictions.boxes_BN4[image], "cxcywh", "xyxy"))
        probability = predictions.logits_BNK[image][:, targets.labels_G[own]].sigmoid().T
        found.append((1 - alpha) * iou + alpha * probability)
        first += count
    return torch.cat(found)


def best_first(row):
    return sorted(range(len(row)), key=lambda query: (-row[query], query))


def favourites_of(rows):
    return [
        min(range(len(column)), key=lambda index: (-column[index], index)) for column in zip(*rows)
    ]


def all_pairs(rows, k, threshold):
    return [
        (index, query)
        for index, row in enumerate(rows)
        for query in best_first(row)[:k]
        if row[query] > threshold
    ]


def best_object(rows, k, threshold):
    pairs, favourites = [], favourites_of(rows)
    for index, row in enumerate(rows):
        own = [q for q in best_first(row) if favourites[q] == index]
        pairs += [(index, q) for q in own if row[q] >= threshold][:k]
    return pairs


def released(rows, k, threshold, fraction=0.25):
    if not rows:
        return []
    queries = range(len(rows[0]))
    best = [max(row[q] for row in rows) for q in queries]
    positive = {q for q in queries if best[q] >= threshold} | {best_first(row)[0] for row in rows}
    limit = max(1, int(fraction * len(best)))
    kept = sorted(positive, key=lambda q: (-best[q], q))[:limit]
    every = favourites_of(rows)
    favourites = [every[q] for q in kept]
    return [
        (index, query)
        for index, row in enumerate(rows)
        for query in best_first(row)[: min(k, favourites.count(index))]
    ]


RULES = {
    "AllPairsTopKAssigner": all_pairs,
    "BestObjectTopKAssigner": best_object,
    "ReleasedTopKAssigner": released,
}


def expected(name, score_GN, targets, k=6, threshold=0.4):
    """(image, query, object) of all pairs by object and falling score, and those with the label."""
    pairs, owners, first = [], set(), 0
    for image, count in enumerate(targets.counts):
        rows = score_GN[first : first + count].tolist()
        found = RULES[name](rows, k, threshold)
        pairs += [(image, query, index + first) for index, query in found]
        for query in {query for _, query in found}:
            index = min((i for i, q in found if q == query), key=lambda i: (-rows[i][query], i))
            owners.add((image, query, index + first))
        first += count
    return pairs, owners


def pairs_of(assignment):
    """The same of an :class:`Assignment`."""
    rows = torch.stack([assignment.image_P, assignment.query_P, assignment.target_P], 1)
    pairs = [tuple(row) for row in rows[assignment.valid_P].tolist()]
    return pairs, {tuple(row) for row in rows[assignment.labelled_P].tolist()}
