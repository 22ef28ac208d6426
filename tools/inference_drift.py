"""How far two detectors' predictions are apart, and weights for which that says something."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou

_LOOKED_AT = 100  # best (query, class) pairs of an image
_SAME = 0.5  # intersection over union of a pair that both have


def trained_like(detector: nn.Module, seed: int = 0) -> nn.Module:
    """Give a detector random weights where a fresh one has zeros or equal numbers.

    A fresh detector samples at fixed places, weighs all alike and leaves boxes where they are;
    errors in any of that would go unseen.  Norms get statistics too.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor, scale: float) -> Tensor:
        return scale * torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            sampling = name.endswith(("sampling_offsets.weight", "attention_weights.weight"))
            # The last layer of a box head starts at zero.
            if sampling or (parameter.dim() == 2 and not parameter.any()):
                parameter.copy_(noise(parameter, 0.5 / parameter.shape[1] ** 0.5))
            elif parameter.dim() == 1:
                parameter.add_(noise(parameter, 0.1))
            elif "class_head" in name:
                parameter.mul_(2)
        for name, buffer in detector.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(noise(buffer, 0.1))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return detector


@dataclass(frozen=True)
class Drift:
    """Differences of the 100 best (query, class) pairs of an image, matched by class and overlap.

    Attributes:
        score, median_score: of scores in [0, 1].
        box, median_box: of the coordinates of boxes, largest of four, as fractions of the image.
        lost: pairs without one of the same class that overlaps by more than half.
    """

    score: float
    median_score: float
    box: float
    median_box: float
    lost: int


def drift(outputs: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Drift:
    """Drift of predictions (logits, boxes) of the first image from those that are wanted."""
    found = _best(*outputs, 2 * _LOOKED_AT)
    scores, boxes = [], []
    looked_for = _best(*wanted, _LOOKED_AT)
    for score, label, box in zip(*looked_for):
        place = (found[1] == label).nonzero().flatten()
        overlap = box_iou(_corners(box[None]), _corners(found[2][place]))[0]
        near = place[overlap > _SAME]
        if len(near):
            # Of queries that found the same, the one with the same box and score is meant.
            distance = (found[2][near] - box).abs().amax(1) + (found[0][near] - score).abs()
            match = near[distance.argmin()]
            scores.append((found[0][match] - score).abs())
            boxes.append((found[2][match] - box).abs().max())
    lost = len(looked_for[0]) - len(scores)
    if not scores:
        return Drift(1.0, 1.0, 1.0, 1.0, lost)
    score, box = torch.stack(scores), torch.stack(boxes)
    return Drift(
        score.max().item(), score.median().item(), box.max().item(), box.median().item(), lost
    )


def _best(logits: Tensor, boxes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, classes and boxes of the best pairs of the first image."""
    scores_P = logits[0].float().sigmoid().flatten()
    scores, pairs = scores_P.topk(min(count, len(scores_P)))
    classes = logits.shape[-1]
    return scores, pairs % classes, boxes[0].float()[pairs // classes]


def _corners(boxes: Tensor) -> Tensor:
    return box_convert(boxes, "cxcywh", "xyxy")
