"""Points at which masks are compared (PointRend, section 3.1; Mask2Former, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_number
from ..structures.masks import sample_logits


@dataclass(frozen=True)
class MaskSamples:
    """Predicted and true masks of pairs at the same points.

    Attributes:
        logits_PR: predicted.
        truth_PR: true, in [0, 1].
        normalizer: (), what losses are divided by.
    """

    logits_PR: Tensor
    truth_PR: Tensor
    normalizer: Tensor


class UncertainPoints:
    """Random points of the image, most of them where a mask is undecided.

    ``oversample`` times as many points as wanted are drawn; of these the share ``importance`` is
    kept with the logits nearest to zero, and the rest is drawn anew. Every pair has points of its
    own. detectron2's function for it draws from a whole map; these are fractions of the image, so
    that none falls on padding.

    Args:
        num_points: points of every pair.
        oversample: at least 1.
        importance: share of points that are chosen, in [0, 1].
    """

    def __init__(
        self, *, num_points: int = 12544, oversample: float = 3.0, importance: float = 0.75
    ):
        if not isinstance(num_points, int) or isinstance(num_points, bool) or num_points < 1:
            raise ValueError(f"num_points must be a whole number of at least 1, got {num_points!r}")
        require_number("oversample", oversample, 1)
        require_number("importance", importance, 0, 1)
        self.num_points, self.oversample, self.importance = num_points, oversample, importance

    @torch.no_grad()
    def __call__(self, logits_Phw: Tensor, extent_P2: Tensor) -> Tensor:
        """Points (P, R, 2) as (x, y), fractions of the image; drawn with torch's generator.

        Args:
            logits_Phw: predicted masks on the padded image.
            extent_P2: share (x, y) of the maps that is image.
        """
        chosen = int(self.importance * self.num_points)
        pairs, candidates = len(logits_Phw), int(self.num_points * self.oversample)
        drawn_PR2 = logits_Phw.new_empty(pairs, candidates, 2).uniform_()
        logits_PR = sample_logits(logits_Phw[:, None], drawn_PR2, extent_P2)[:, 0]
        index_PR = (-logits_PR.abs()).topk(chosen, dim=1)[1]
        uncertain_PR2 = drawn_PR2.gather(1, index_PR[..., None].expand(-1, -1, 2))
        rest_PR2 = logits_Phw.new_empty(pairs, self.num_points - chosen, 2).uniform_()
        return torch.cat([uncertain_PR2, rest_PR2], 1)
