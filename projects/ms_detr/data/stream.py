"""The endless stream of training images, as a function of a seed: any batch of it can be the first.

An order says which images an epoch has, in which sequence. Epoch follows epoch; a place in the
whole is a *position*, 0, 1, 2, and so on. Positions are gathered into batches of all processes
together, and each process takes its share. So what an update learns from does not depend on the
number of processes, and skipping to a batch costs no more than making permutations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ..arguments import require_whole
from ..seeding import Purpose, generator

__all__ = ["BatchStream", "IndexOrder", "RepeatedIndices", "ShuffledIndices"]


class IndexOrder(Protocol):
    """The indices of every epoch, a pure function of seed and epoch."""

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        """Indices of one epoch in their order, (at least 1,) int64; both arguments >= 0."""
        ...


class ShuffledIndices:
    """Every index once an epoch, in an order of its own.

    Args:
        size: how many indices there are, at least 1.
    """

    def __init__(self, size: int) -> None:
        require_whole("size of ShuffledIndices", size)
        self.size = size

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        return generator(Purpose.ORDER, seed, epoch).permutation(self.size)


class RepeatedIndices:
    """Every index as often as its factor says, on average over epochs (LVIS, appendix B.2).

    A factor of 2.25 is 2 in three epochs of four and 3 in the fourth: what is behind the point is
    rounded up or down by chance, anew in every epoch.

    Args:
        factors: of every index, at least 1 and finite.

    Source:
        Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", 2019.
    """

    def __init__(self, factors: Sequence[float] | np.ndarray) -> None:
        values = np.asarray(factors, dtype=np.float64)
        if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 1)).all():
            raise ValueError(
                f"repeat factors must be finite numbers of at least 1, one per image, "
                f"got {values.shape} from {values.min(initial=np.inf)}"
            )
        self._whole = np.floor(values)
        self._rest = values - self._whole

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        random = generator(Purpose.ORDER, seed, epoch)
        times = self._whole + (random.random(len(self._rest)) < self._rest)
        return random.permutation(np.repeat(np.arange(len(times)), times.astype(np.int64)))


class BatchStream:
    """The batches of one process, without end: lists of (position, index).

    A batch of all processes is complete when its group (wide images, tall images) has gathered
    ``total_batch_size`` positions; what an epoch leaves over waits for the next. Process ``rank``
    takes the ``rank``-th share of it.

    Args:
        order: which indices, in which sequence.
        groups: number of the group of every index, (size,); a batch holds one group only.
        total_batch_size: images of a batch of all processes, a multiple of ``num_processes``.
        seed: of the order, at least 0.
        start: how many batches are skipped.
        rank, num_processes: whose share it is.
    """

    def __init__(
        self,
        order: IndexOrder,
        groups: np.ndarray,
        *,
        total_batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        require_whole("total_batch_size", total_batch_size)
        require_whole("seed", seed, 0)
        require_whole("start", start, 0)
        if total_batch_size % num_processes:
            raise ValueError(
                f"total_batch_size={total_batch_size} cannot be divided among {num_processes} "
                f"processes; set it to a multiple of {num_processes}"
            )
        self._order, self._groups = order, groups
        self._size, self._seed, self._start = total_batch_size, seed, start
        share = total_batch_size // num_processes
        self._share = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch_B2 in self._batches():
            yield [(position, index) for position, index in batch_B2[self._share].tolist()]

    def _batches(self) -> Iterator[np.ndarray]:
        """Batches of all processes, (total_batch_size, 2), from ``start`` on."""
        waiting = {int(group): np.empty((0, 2), np.int64) for group in np.unique(self._groups)}
        position, skip = 0, self._start
        for epoch in itertools.count():
            index_N = self._order.epoch(self._seed, epoch)
            position_N = np.arange(position, position + len(index_N))
            position += len(index_N)
            batches_MB2 = self._gather(np.stack([position_N, index_N], 1), waiting)
            yield from batches_MB2[skip:]
            skip = max(0, skip - len(batches_MB2))

    def _gather(self, rows_N2: np.ndarray, waiting: dict[int, np.ndarray]) -> np.ndarray:
        """The batches that an epoch completes, in the order in which it completes them.

        Args:
            rows_N2: (position, index) of the epoch.
            waiting: what earlier epochs left over, by group; replaced by what is left now.
        """
        group_N = self._groups[rows_N2[:, 1]]
        complete = []
        for group, left_K2 in waiting.items():
            gathered_K2 = np.concatenate([left_K2, rows_N2[group_N == group]])
            whole = len(gathered_K2) - len(gathered_K2) % self._size
            complete.append(gathered_K2[:whole].reshape(-1, self._size, 2))
            waiting[group] = gathered_K2[whole:]
        batches_MB2 = np.concatenate(complete)
        return batches_MB2[np.argsort(batches_MB2[:, -1, 0])]
