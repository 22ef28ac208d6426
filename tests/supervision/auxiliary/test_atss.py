"""The head of ATSS: losses beside a slow form, deltas, scores."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from supervision.auxiliary.dense_cases import (
    CHANNELS,
    NUM_CLASSES,
    OBJECTS,
    SIZES,
    STRIDES,
    maps_for,
    targets_of,
)
from supervision.auxiliary.dense_references import deltas_to_box, giou_loss, positives
from torchvision.ops import sigmoid_focal_loss

from ms_detr.supervision.auxiliary import UNUSED, ATSSHead


def case(**weights):
    torch.manual_seed(1)
    head = ATSSHead(num_classes=NUM_CLASSES, strides=STRIDES, embed_dim=CHANNELS, **weights)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pyramid = maps_for(SIZES)
    return head, pyramid, targets_of(pyramid, OBJECTS, dtype=torch.float32)


def slow_losses(head, pyramid, targets, object_BA):
    """The losses as the papers write them, positive by positive."""
    output, anchors = head.tower(pyramid.maps), head.grid(pyramid).boxes_A4
    true = pyramid.boxes_of(targets)
    one_hot = torch.zeros_like(output.logits_BAK)
    pairs = positives(object_BA)
    of_boxes = of_centers = centers = 0.0
    for image, candidate, number in pairs:
        one_hot[image, candidate, targets.labels_G[number]] = 1
        x, y = ((anchors[candidate, :2] + anchors[candidate, 2:]) / 2).tolist()
        x0, y0, x1, y1 = true[number].tolist()
        sides = [(x - x0, x1 - x), (y - y0, y1 - y)]
        central = math.sqrt(math.prod(min(pair) / max(pair) for pair in sides))
        box = deltas_to_box(output.boxes_BAD[image, candidate], anchors[candidate])
        of_boxes += central * giou_loss(box, true[number])
        score = output.quality_BA[image, candidate].sigmoid()
        of_centers += F.binary_cross_entropy(score, torch.tensor(central))
        centers += central
    used = object_BA != UNUSED
    of_class = sigmoid_focal_loss(output.logits_BAK[used], one_hot[used], reduction="sum")
    return {
        "class": of_class / len(pairs),
        "giou": of_boxes / centers,
        "centerness": of_centers / len(pairs),
    }


def test_losses_and_gradients_are_those_of_the_slow_form():
    head, pyramid, targets = case(class_weight=1.5, box_weight=2.5, centerness_weight=0.5)
    output = head(pyramid, targets)
    expected = slow_losses(head, pyramid, targets, output.candidates.object_BA)
    weights = {"class": 1.5, "giou": 2.5, "centerness": 0.5}
    assert len(positives(output.candidates.object_BA)) > 10
    assert output.losses.keys() == weights.keys()
    parameters = list(head.parameters())
    for name, weight in weights.items():
        slow = weight * expected[name]
        torch.testing.assert_close(output.losses[name], slow, rtol=1e-4, atol=1e-5)
        both = [
            torch.autograd.grad(x, parameters, allow_unused=True, retain_graph=True)
            for x in (output.losses[name], slow)
        ]
        for found, wanted in zip(*both):
            if wanted is not None:
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_weights_of_the_released_configs():
    head = ATSSHead(num_classes=80, strides=(8, 16, 32, 64, 128))
    weights = [head.class_weight, head.box_weight, head.quality_weight]
    assert [weight * 2 * 6 for weight in weights] == [12, 24, 12]
    assert head.assigner.top_k == 9
    assert len(head.tower.class_stack) == len(head.tower.box_stack) == 1
    assert [anchors.tolist() for anchors in head.anchors.cell_anchors] == [
        [[-4.0 * stride, -4.0 * stride, 4.0 * stride, 4.0 * stride]]
        for stride in (8, 16, 32, 64, 128)
    ]


def test_boxes_are_deltas_to_anchors():
    head, pyramid, _ = case()
    grid = head.grid(pyramid)
    candidates = torch.tensor([0, 30, 150])
    raw = torch.randn(3, 4)
    expected = [deltas_to_box(row, grid.boxes_A4[a]) for row, a in zip(raw, candidates)]
    torch.testing.assert_close(head.decode(raw, grid, candidates), torch.stack(expected))


def test_scores_are_products_with_centerness():
    head, pyramid, _ = case()
    output, grid = head.tower(pyramid.maps), head.grid(pyramid)
    expected = output.logits_BAK.sigmoid() * output.quality_BA.sigmoid()[..., None]
    found = head.predict(pyramid).logits_BNK.sigmoid()
    torch.testing.assert_close(found[grid.on_image_BA], expected[grid.on_image_BA])
