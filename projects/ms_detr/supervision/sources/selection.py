"""Which candidates of an auxiliary head become queries."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...arguments import require_whole
from ..auxiliary import UNUSED


@dataclass(frozen=True)
class Selected:
    """The candidates of every image that become queries, as many in each.

    Attributes:
        candidate_BN: who.
        object_BN: the object each is to answer, ``BACKGROUND``, or ``UNUSED`` for those that fill
            up the batch and are taught nothing.
        counts: how many of every image answer an object; they come first.
    """

    candidate_BN: Tensor
    object_BN: Tensor
    counts: tuple[int, ...]


class Selection:
    """Chooses at random among the positives of an image if there are more than ``most``.

    All images get the same number of queries; never more than there are candidates.

    Args:
        most: queries of an image, at least 1; the released code has 300.
    """

    def __init__(self, *, most: int = 300):
        require_whole(f"most of {type(self).__name__}", most)
        self.most = most

    def __call__(self, object_BA: Tensor) -> Selected:
        """Choose; the host waits once, for the number of positives of every image.

        Args:
            object_BA: see :class:`ms_detr.supervision.auxiliary.Candidates`.
        """
        positive_BA = object_BA >= 0
        positives: list[int] = positive_BA.sum(1).tolist()
        number = min(self.number(max(positives)), self.most, object_BA.shape[1])
        # Positives come before background, and this before what is unused, each in random order.
        rank_BA = positive_BA.float() + (object_BA != UNUSED)
        rank_BA += torch.rand_like(rank_BA) / 2
        candidate_BN = rank_BA.topk(number)[1]
        return Selected(
            candidate_BN=candidate_BN,
            object_BN=self.taught(object_BA.gather(1, candidate_BN)),
            counts=tuple(min(count, number) for count in positives),
        )

    @abstractmethod
    def number(self, positives: int) -> int:
        """Wanted queries of an image, given the largest number of positives of an image."""

    @abstractmethod
    def taught(self, object_BN: Tensor) -> Tensor:
        """What the chosen are taught, given what their head teaches them."""


class PositivesOnly(Selection):
    """Positives become queries, nobody else, as the paper has it (Co-DETR, section 3.3).

    An image with fewer positives than another of the batch is filled up with queries that are
    taught nothing; they are seen by the others of their image, as those of denoising are.

    Args:
        most: queries of an image.
    """

    def number(self, positives: int) -> int:
        return positives

    def taught(self, object_BN: Tensor) -> Tensor:
        return object_BN.masked_fill(object_BN < 0, UNUSED)


class FilledPositives(Selection):
    """Positives and background, as the released code has it.

    Images are filled up with background chosen at random, which is taught to be background; with
    what is taught nothing once there is no more of it.

    Args:
        most: queries of an image.
        least: queries of an image, at least 0 and at most ``most``; fewer if there are fewer
            candidates.
    """

    def __init__(self, *, most: int = 300, least: int = 9):
        super().__init__(most=most)
        require_whole("least of FilledPositives", least, 0)
        if least > most:
            raise ValueError(
                f"least of FilledPositives is {least}, but most is {most}; make it smaller"
            )
        self.least = least

    def number(self, positives: int) -> int:
        return max(positives, self.least)

    def taught(self, object_BN: Tensor) -> Tensor:
        return object_BN
