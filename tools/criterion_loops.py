"""Matching and losses written as loops over layers and images, in the manner of the published code.

Nothing of the package's assigners, costs and losses is used but their settings: these loops say the
same thing in another way.  Every layer has a matrix of prices of all images with all objects, which
goes to the host; one-to-many pairs are found image by image.  tools/benchmark_criterion.py measures
how much time they take, tests compare the losses.  Losses of masks are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import assigner_loops
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

from ms_detr.structures import LayerPredictions, Targets

Pairs = list[tuple[Tensor, Tensor, Tensor]]
"""Per image: query, object within the batch, score; the best pair of a query teaches its class."""


@dataclass(frozen=True)
class Taught:
    """One layer: what is predicted, the boxes that are matched, the objects."""

    predictions: LayerPredictions
    matched: LayerPredictions
    targets: Targets


def criterion(supervisions: Any, outputs: Mapping[str, Any], targets: Targets) -> dict[str, Tensor]:
    """What a SupervisionSet returns, given the same."""
    taught, found = {}, {}
    for name, supervision in supervisions.named():
        of_group = outputs[supervisions.group_of(name)]
        taught[name] = taught_layers(supervision, of_group, targets)
        found[name] = [
            (known_pairs(of_group.known, targets), of_group.known.normalizer)
            if supervision.assigner is None
            else assign(supervision.assigner, layer.matched, layer.targets)
            for layer in taught[name]
        ]
    losses = {}
    for name, supervision in supervisions.named():
        for index, layer in enumerate(taught[name]):
            pairs, normalizer = found[name][index]
            if supervision.merge is not None:
                pairs = merged(supervision.merge, pairs, found[supervision.merge.source][index][0])
            for term, value in layer_losses(supervision, layer, pairs).items():
                losses[f"{name}/{index}/{term}"] = supervision.weight * value / normalizer
    return losses


def taught_layers(supervision: Any, outputs: Any, targets: Targets) -> list[Taught]:
    """What is taught, layer by layer."""
    kind, proposals = type(supervision).__name__, outputs.proposals
    if kind == "Supervision":
        return [Taught(layer, layer, targets) for layer in supervision.predict(outputs)]
    logits, blocks = proposals.logits_BSK, proposals.blocks
    if kind == "ChosenProposalSupervision":
        chosen = [rows.tolist() for rows in proposals.chosen_BN]
        logits, boxes = (
            torch.stack([values[image, rows] for image, rows in enumerate(chosen)])
            for values in (logits, proposals.boxes_BS4)
        )
        layer = LayerPredictions(logits, boxes, blocks=blocks)
        return [Taught(layer, layer, targets)]
    objects = replace(targets, labels_G=torch.zeros_like(targets.labels_G))
    predicted = LayerPredictions(logits, proposals.boxes_BS4, blocks=blocks)
    anchors = LayerPredictions(logits, proposals.anchors_BS4, blocks=blocks)
    predicts = kind == "PredictedProposalSupervision"
    return [Taught(predicted, predicted if predicts else anchors, objects)]


@torch.no_grad()
def assign(assigner: Any, layer: LayerPredictions, targets: Targets) -> tuple[Pairs, Tensor]:
    """Pairs of one layer, and what its losses are divided by."""
    kind = type(assigner).__name__
    if kind == "BlockwiseAssigner":
        return assign_blocks(assigner, layer, targets)
    if kind == "RepeatingAssigner":
        return assign_repeated(assigner, layer, targets)
    if kind == "HungarianAssigner":
        return hungarian(assigner.costs.costs, layer, targets), targets.num_boxes
    settings = {"k": assigner.k, "threshold": assigner.threshold, "alpha": assigner.alpha}
    truth = (targets.labels_G, targets.boxes_G4, targets.counts)
    found = assigner_loops.assign(kind, layer.logits_BNK, layer.boxes_BN4, *truth, **settings)
    firsts = first_objects(targets)
    return [(q, g + first, s) for (q, g, s), first in zip(found, firsts)], targets.num_boxes


def assign_blocks(assigner: Any, layer: LayerPredictions, targets: Targets) -> tuple[Pairs, Tensor]:
    """Every block by itself."""
    size = layer.boxes_BN4.shape[1] // layer.blocks
    parts = []
    for block in range(layer.blocks):
        own = slice(block * size, (block + 1) * size)
        alone = LayerPredictions(layer.logits_BNK[:, own], layer.boxes_BN4[:, own])
        pairs, normalizer = assign(assigner.assigner, alone, targets)
        parts.append([(query + block * size, target, score) for query, target, score in pairs])
    return [tuple(map(torch.cat, zip(*image))) for image in zip(*parts)], normalizer * layer.blocks


def assign_repeated(
    assigner: Any, layer: LayerPredictions, targets: Targets
) -> tuple[Pairs, Tensor]:
    """Every object several times."""
    times = assigner.repeats
    rows = torch.arange(sum(targets.counts)).split(targets.counts)
    origin = torch.cat([row.repeat(times) for row in rows])
    repeated = Targets(
        targets.labels_G[origin],
        targets.boxes_G4[origin],
        tuple(times * count for count in targets.counts),
        targets.num_boxes * times,
    )
    pairs, normalizer = assign(assigner.assigner, layer, repeated)
    return [(query, origin[target], score) for query, target, score in pairs], normalizer


def hungarian(costs: Mapping[str, Any], layer: LayerPredictions, targets: Targets) -> Pairs:
    """The cheapest pairs of every image, of a matrix of all images with all objects."""
    images, queries = layer.boxes_BN4.shape[:2]
    logits, boxes = layer.logits_BNK.flatten(0, 1), layer.boxes_BN4.flatten(0, 1)
    prices = sum(
        cost.weight * price(cost, logits, boxes, targets.labels_G, targets.boxes_G4)
        for cost in costs.values()
    )
    prices, found = prices.view(images, queries, -1).cpu(), []
    parts = prices.split(targets.counts, -1)
    for image, (part, first) in enumerate(zip(parts, first_objects(targets))):
        query, target = map(torch.from_numpy, linear_sum_assignment(part[image]))
        found.append((query, target + first, torch.zeros(len(query), dtype=boxes.dtype)))
    return found


def price(cost: Any, logits: Tensor, boxes: Tensor, labels: Tensor, objects: Tensor) -> Tensor:
    """Price of every query with every object."""
    kind = type(cost).__name__
    if kind == "L1Cost":
        return torch.cdist(boxes, objects, p=1)
    if kind == "GIoUCost":
        corners = (box_convert(b, "cxcywh", "xyxy") for b in (boxes, objects))
        return -generalized_box_iou(*corners)
    p = logits.sigmoid()
    negative = (1 - cost.alpha) * p**cost.gamma * -(1 - p + 1e-8).log()
    positive = cost.alpha * (1 - p) ** cost.gamma * -(p + 1e-8).log()
    return positive[:, labels] - negative[:, labels]


def known_pairs(known: Any, targets: Targets) -> Pairs:
    """The pairs that a source knows."""
    found = []
    for image in range(len(targets.counts)):
        own = known.valid_P & (known.image_P == image)
        target = known.target_P[own]
        found.append((known.query_P[own], target, targets.boxes_G4.new_zeros(len(target))))
    return found


def merged(merge: Any, many: Pairs, one: Pairs) -> Pairs:
    """One-to-one pairs among the one-to-many pairs of the same layer."""
    result = []
    for (query, target, score), (single, single_target, _) in zip(many, one):
        rows = list(zip(query.tolist(), target.tolist(), score.tolist()))
        others = list(zip(single.tolist(), single_target.tolist()))
        if type(merge).__name__ == "AppendMissing":
            given = {row[:2] for row in rows}
            rows += [(*pair, -1.0) for pair in others if pair not in given]
        else:
            # The highest score last; of equal ones the first object.
            best = {row[0]: row for row in sorted(rows, key=lambda row: (row[2], -row[1]))}
            best = {q: (q, g, 0.0) for q, g in others} | best
            rows = list(best.values())
        columns = list(zip(*rows)) or [(), (), ()]
        result.append(
            (
                torch.tensor(columns[0], dtype=torch.int64),
                torch.tensor(columns[1], dtype=torch.int64),
                torch.tensor(columns[2], dtype=score.dtype),
            )
        )
    return result


def layer_losses(supervision: Any, layer: Taught, pairs: Pairs) -> dict[str, Tensor]:
    """Weighted sums of one layer by term."""
    predictions, targets = layer.predictions, layer.targets
    images = [torch.full_like(query, image) for image, (query, _, _) in enumerate(pairs)]
    image, query, target, score = (
        torch.cat(parts) for parts in (images, *(list(part) for part in zip(*pairs)))
    )
    predicted, true = predictions.boxes_BN4[image, query], targets.boxes_G4[target]
    losses = {}
    for name, term in supervision.terms:
        kind = type(term).__name__
        if kind == "L1Loss":
            loss = F.l1_loss(predicted, true, reduction="none").sum()
        elif kind == "GIoULoss":
            corners = (box_convert(b, "cxcywh", "xyxy") for b in (predicted, true))
            loss = (1 - torch.diag(generalized_box_iou(*corners))).sum()
        else:
            logits = predictions.logits_BNK
            # The best pair of a query is written last.
            order = score.argsort(descending=True, stable=True).flip(0)
            classes = torch.full(logits.shape[:2], logits.shape[2], device=logits.device)
            classes[image[order], query[order]] = targets.labels_G[target[order]]
            truth = torch.zeros(*logits.shape[:2], logits.shape[2] + 1, dtype=logits.dtype)
            truth = truth.to(logits.device).scatter_(2, classes[..., None], 1)[..., :-1]
            loss = sigmoid_focal_loss(logits, truth, term.alpha, term.gamma)
            if predictions.counted_BN is not None:
                loss = loss[predictions.counted_BN]
            loss = loss.sum()
        losses[name] = term.weight * loss
    return losses


def first_objects(targets: Targets) -> list[int]:
    """Index of the first object of every image."""
    return [sum(targets.counts[:image]) for image in range(len(targets.counts))]
