"""The common part of heads that predict from every cell."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...arguments import require_number
from ...overlap import generalized_iou, planes_of
from ...structures import LayerPredictions, Targets
from .anchors import AnchorGrid
from .head import BACKGROUND, UNUSED, AuxiliaryHead, AuxiliaryOutput, Candidates
from .losses import Pairs, focal_loss, shared_normalizer
from .maps import AuxiliaryMaps
from .tower import DenseOutput, DenseTower


class DenseHead(AuxiliaryHead):
    """Candidates in every cell, each assigned to an object, to background, or to nothing.

    The usual losses: focal loss of classes, generalised IoU of boxes, each divided by the number of
    positives of all processes.

    Args:
        tower: predicts.
        num_classes: classes of the detector.
        class_weight, box_weight: factors of the losses.
    """

    def __init__(
        self, *, tower: DenseTower, num_classes: int, class_weight: float, box_weight: float
    ):
        super().__init__(num_classes, tower.embed_dim)
        name = type(self).__name__
        require_number(f"class_weight of {name}", class_weight, 0)
        require_number(f"box_weight of {name}", box_weight, 0)
        self.tower = tower
        self.class_weight, self.box_weight = class_weight, box_weight

    @abstractmethod
    def grid(self, pyramid: AuxiliaryMaps) -> AnchorGrid:
        """The candidates."""

    @abstractmethod
    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        """Who is to find which object of one image.

        Args:
            grid: the candidates on the image; those on the padding of the batch are left out, so
                that they take nobody's place.
            boxes_G4: objects of the image, in pixels, as corners; there is at least one.

        Returns:
            (A,) int64: index into ``boxes_G4``, ``BACKGROUND`` or ``UNUSED``.
        """

    @abstractmethod
    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        """Boxes (P, 4) in pixels, as corners, of what the tower says about some candidates."""

    def scores(self, output: DenseOutput) -> Tensor:
        """Scores (B, A, K) of detections, in [0, 1]."""
        return output.logits_BAK.sigmoid()

    def query_boxes(self, grid: AnchorGrid) -> Tensor:
        """Boxes (A, 4) that queries start from: the anchors."""
        return grid.boxes_A4

    def losses(
        self,
        output: DenseOutput,
        grid: AnchorGrid,
        object_BA: Tensor,
        targets: Targets,
        boxes_G4: Tensor,
    ) -> dict[str, Tensor]:
        """Weighted losses by term.

        Args:
            output: of the tower.
            grid: the candidates.
            object_BA: who is to find what.
            targets: objects of the batch.
            boxes_G4: their boxes, in pixels, as corners.
        """
        pairs = Pairs.of(object_BA)
        number = shared_normalizer(output.logits_BAK.new_tensor(float(len(pairs.object_P))))
        of_class = focal_loss(output.logits_BAK, object_BA, pairs, targets)
        return {
            "class": self.class_weight * of_class / number,
            "giou": self.box_weight
            * self.giou_losses(output, grid, pairs, boxes_G4).sum()
            / number,
        }

    def giou_losses(
        self, output: DenseOutput, grid: AnchorGrid, pairs: Pairs, boxes_G4: Tensor
    ) -> Tensor:
        """1 - generalised IoU (P,) of the positives."""
        raw_PD = output.boxes_BAD[pairs.image_P, pairs.candidate_P]
        predicted = planes_of(self.decode(raw_PD, grid, pairs.candidate_P))
        return 1 - generalized_iou(predicted, planes_of(boxes_G4[pairs.object_P]))

    def forward(self, pyramid: AuxiliaryMaps, targets: Targets) -> AuxiliaryOutput:
        grid, output = self.grid(pyramid), self.tower(pyramid.maps)
        boxes_G4 = pyramid.boxes_of(targets)
        object_BA = self.assigned(output, grid, targets, boxes_G4)
        return AuxiliaryOutput(
            losses=self.losses(output, grid, object_BA, targets, boxes_G4),
            candidates=Candidates(
                boxes_BA4=self.query_boxes(grid).expand(len(object_BA), -1, -1),
                object_BA=object_BA,
                tokens_BTC=pyramid.tokens_BSC,
                token_A=grid.token_A,
            ),
        )

    @torch.no_grad()
    def assigned(
        self,
        output: DenseOutput,  # noqa: ARG002
        grid: AnchorGrid,
        targets: Targets,
        boxes_G4: Tensor,
    ) -> Tensor:
        """Who is to find what (B, A), by image; candidates on padding are unused."""
        object_BA = torch.full_like(grid.on_image_BA, UNUSED, dtype=torch.int64)
        object_BA = object_BA.masked_fill(grid.on_image_BA, BACKGROUND)
        first = 0
        for image, count in enumerate(targets.counts):
            if count:
                own, place_X = grid.of_image(image)
                object_X = self.assign(own, boxes_G4[first : first + count])
                object_BA[image, place_X] = object_X.add(first).where(object_X >= 0, object_X)
            first += count
        return object_BA

    def predict(self, pyramid: AuxiliaryMaps) -> LayerPredictions:
        grid, output = self.grid(pyramid), self.tower(pyramid.maps)
        every_A = torch.arange(len(grid.token_A), device=grid.token_A.device)
        boxes = [self.decode(raw_AD, grid, every_A) for raw_AD in output.boxes_BAD]
        scores_BAK = self.scores(output).masked_fill(~grid.on_image_BA[..., None], 0.0)
        return LayerPredictions(scores_BAK.logit(), pyramid.fractions(torch.stack(boxes)))


class QualityHead(DenseHead):
    """A dense head that also says how good a candidate is; good ones count more.

    The box loss is weighted by quality, and divided by the sum of these weights; quality itself is
    taught by binary cross-entropy.  Scores are the product of class and quality.

    Args:
        quality_name: of the loss.
        quality_weight: factor of the loss.
        others: see :class:`DenseHead`; the tower has an output for quality.
    """

    def __init__(self, *, quality_name: str, quality_weight: float, **others: Any):
        super().__init__(**others)
        require_number(f"{quality_name}_weight of {type(self).__name__}", quality_weight, 0)
        self.quality_name, self.quality_weight = quality_name, quality_weight

    @abstractmethod
    def quality(
        self, output: DenseOutput, grid: AnchorGrid, pairs: Pairs, boxes_G4: Tensor
    ) -> Tensor:
        """How good the positives are (P,), in [0, 1]; nothing is learned through it."""

    def scores(self, output: DenseOutput) -> Tensor:
        quality_BA = cast(Tensor, output.quality_BA).sigmoid()
        return output.logits_BAK.sigmoid() * quality_BA[..., None]

    def losses(
        self,
        output: DenseOutput,
        grid: AnchorGrid,
        object_BA: Tensor,
        targets: Targets,
        boxes_G4: Tensor,
    ) -> dict[str, Tensor]:
        pairs = Pairs.of(object_BA)
        number = shared_normalizer(output.logits_BAK.new_tensor(float(len(pairs.object_P))))
        quality_P = self.quality(output, grid, pairs, boxes_G4)
        of_boxes_P = self.giou_losses(output, grid, pairs, boxes_G4) * quality_P
        of_class = focal_loss(output.logits_BAK, object_BA, pairs, targets)
        logits_BA = cast(Tensor, output.quality_BA)
        logits_P = logits_BA[pairs.image_P, pairs.candidate_P].to(quality_P.dtype)
        of_quality = F.binary_cross_entropy_with_logits(logits_P, quality_P, reduction="sum")
        return {
            "class": self.class_weight * of_class / number,
            "giou": self.box_weight * of_boxes_P.sum() / shared_normalizer(quality_P.sum()),
            self.quality_name: self.quality_weight * of_quality / number,
        }


def centerness(points_P2: Tensor, boxes_P4: Tensor) -> Tensor:
    """How central points lie in their boxes, in [0, 1] (FCOS, equation 3); 0 outside."""
    before_P2 = points_P2 - boxes_P4[:, :2]
    behind_P2 = boxes_P4[:, 2:] - points_P2
    near_P2, far_P2 = torch.minimum(before_P2, behind_P2), torch.maximum(before_P2, behind_P2)
    return (near_P2.relu() / far_P2).prod(1).sqrt()


class CenternessHead(QualityHead):
    """A dense head whose good candidates are the central ones.

    Args:
        centerness_weight: factor of the loss.
        others: see :class:`DenseHead`.
    """

    def __init__(self, *, centerness_weight: float, **others: Any):
        super().__init__(quality_name="centerness", quality_weight=centerness_weight, **others)

    def quality(
        self,
        output: DenseOutput,  # noqa: ARG002
        grid: AnchorGrid,
        pairs: Pairs,
        boxes_G4: Tensor,
    ) -> Tensor:
        anchors_P4 = grid.boxes_A4[pairs.candidate_P]
        points_P2 = (anchors_P4[:, :2] + anchors_P4[:, 2:]) / 2
        return centerness(points_P2, boxes_G4[pairs.object_P])
