"""Suppression that lowers scores instead of dropping boxes (Soft-NMS, Bodla et al., section 3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..arguments import require_number, require_whole
from ..overlap import intersection_over_union, planes_of
from ..structures import LayerPredictions
from .postprocess import Postprocess, ScoredPairs, best_pairs, instances_of


class RescoredDetections(Postprocess):
    """The best pairs after every kept one has lowered the scores of its class around it.

    Again and again the best pair is kept, and others of its class lose a share of their score that
    depends on their overlap with it.  What remains comes in the order of the lowered scores.

    Args:
        num_detections: detections per image, at most.
        num_candidates: best (query, class) pairs of an image that are looked at; None: as many as
            there are to be detections, as in the released Co-DINO.
        min_score: what is lowered to less is dropped, in (0, 1].
    """

    def __init__(self, num_detections: int, num_candidates: int | None, min_score: float):
        name = type(self).__name__
        require_whole(f"num_detections of {name}", num_detections)
        if num_candidates is None:
            num_candidates = num_detections
        require_whole(f"num_candidates of {name}", num_candidates)
        require_number(f"min_score of {name}", min_score, 0, 1, above=True)
        if num_candidates < num_detections:
            raise ValueError(
                f"num_candidates of {name} is {num_candidates}, but {num_detections} detections "
                f"are wanted; give at least as many candidates as num_detections"
            )
        self.num_detections, self.num_candidates = num_detections, num_candidates
        self.min_score = min_score

    @abstractmethod
    def kept_share(self, overlap_M: Tensor) -> Tensor:
        """Shares (M,) of their scores, in [0, 1], that pairs keep.

        Args:
            overlap_M: IoU with a better pair; NaN if both boxes have no area.
        """

    def __call__(
        self, predictions: LayerPredictions, output_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        pairs = best_pairs(predictions, output_sizes, self.num_candidates)
        return [
            instances_of(predictions, image, size, self._rescored(found))
            for image, (size, found) in enumerate(zip(output_sizes, pairs))
        ]

    def _rescored(self, found: ScoredPairs) -> ScoredPairs:
        """The kept pairs with their lowered scores."""
        # On the host: every round needs the result of the one before.
        corners_4M = planes_of(found.boxes_M4.double().cpu())
        rest_M, labels_M = found.scores_M.double().cpu(), found.labels_M.cpu()
        kept, scores = [], []
        while len(kept) < min(self.num_detections, len(rest_M)):
            best = int(rest_M.argmax())
            score = float(rest_M[best])
            if score < self.min_score:
                break
            kept.append(best)
            scores.append(score)
            overlap_M = intersection_over_union(corners_4M[:, best, None], corners_4M)
            share_M = self.kept_share(overlap_M).masked_fill(labels_M != labels_M[best], 1.0)
            rest_M = rest_M * share_M
            rest_M[best] = -1.0  # below every limit, also after further rounds
        chosen = torch.tensor(kept, dtype=torch.int64).to(found.labels_M.device)
        return ScoredPairs(
            boxes_M4=found.boxes_M4[chosen],
            scores_M=found.scores_M.new_tensor(scores),
            labels_M=found.labels_M[chosen],
            query_M=found.query_M[chosen],
        )


class SoftNMSDetections(RescoredDetections):
    """Soft-NMS with linear decay: an overlap of ``iou_threshold`` or more costs its share.

    The score of a pair is multiplied by 1 - IoU.  The released Co-DINO has it with the defaults
    below, of boxes that were cut to the image before; here ``ClippedDetections`` around it cuts
    them afterwards.  On the command line:
    ``model.postprocess._target_=ms_detr.heads.SoftNMSDetections
    model.postprocess.num_detections=300``.

    Args:
        num_detections: see :class:`RescoredDetections`.
        iou_threshold: in [0, 1].
        num_candidates, min_score: see :class:`RescoredDetections`.
    """

    def __init__(
        self,
        num_detections: int = 300,
        iou_threshold: float = 0.8,
        *,
        num_candidates: int | None = None,
        min_score: float = 1e-3,
    ):
        super().__init__(num_detections, num_candidates, min_score)
        require_number("iou_threshold of SoftNMSDetections", iou_threshold, 0, 1)
        self.iou_threshold = iou_threshold

    def kept_share(self, overlap_M: Tensor) -> Tensor:
        return torch.where(overlap_M >= self.iou_threshold, 1 - overlap_M, 1.0)


class GaussianSoftNMSDetections(RescoredDetections):
    """Soft-NMS with Gaussian decay: scores are multiplied by exp(-IoU ** 2 / sigma).

    Args:
        num_detections: see :class:`RescoredDetections`.
        sigma: the smaller, the more an overlap costs; above 0.
        num_candidates, min_score: see :class:`RescoredDetections`.
    """

    def __init__(
        self,
        num_detections: int = 300,
        sigma: float = 0.5,
        *,
        num_candidates: int | None = None,
        min_score: float = 1e-3,
    ):
        super().__init__(num_detections, num_candidates, min_score)
        require_number("sigma of GaussianSoftNMSDetections", sigma, 0, above=True)
        self.sigma = sigma

    def kept_share(self, overlap_M: Tensor) -> Tensor:
        return torch.where(overlap_M > 0, (-(overlap_M**2) / self.sigma).exp(), 1.0)
