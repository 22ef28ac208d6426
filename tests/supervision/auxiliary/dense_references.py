"""Losses of dense heads, positive by positive, with what torchvision offers."""

from __future__ import annotations

import torch
from torchvision.ops import generalized_box_iou_loss


def positives(object_BA):
    """(image, candidate, object) of all positives."""
    return [
        (image, candidate, number)
        for image, row in enumerate(object_BA.tolist())
        for candidate, number in enumerate(row)
        if number >= 0
    ]


def giou_loss(predicted_4, true_4):
    """1 - generalised IoU of two boxes as corners."""
    return generalized_box_iou_loss(predicted_4[None], true_4[None])[0]


def deltas_to_box(raw_4, anchor_4):
    """R-CNN's transform with weights 10, 10, 5, 5."""
    width, height = anchor_4[2] - anchor_4[0], anchor_4[3] - anchor_4[1]
    x = (anchor_4[0] + anchor_4[2]) / 2 + raw_4[0] / 10 * width
    y = (anchor_4[1] + anchor_4[3]) / 2 + raw_4[1] / 10 * height
    w, h = width * (raw_4[2] / 5).exp(), height * (raw_4[3] / 5).exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
