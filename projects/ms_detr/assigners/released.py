"""One-to-many assignment as the code released with MS-DETR finds it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_number
from ..registry import ASSIGNERS
from ..structures import Targets
from .selection import favourites, top_k_first
from .top_k import Slots, TopKAssigner


@ASSIGNERS.register()
class ReleasedTopKAssigner(TopKAssigner):
    """Every object is given its best queries of all, as many as have it as their favourite.

    A query is positive for the object it scores highest with if that score reaches ``threshold``,
    or if it is some object's best query (it keeps its own favourite all the same).  An object with
    c positive queries is then given its min(c, k) best queries out of *all* queries.  So a query
    may be given to two objects.  An object may stay without a query.

    At most a share of the queries is positive.  The released code cuts the others at random; here
    the best scores stay, so that the same predictions always give the same pairs, unless a
    ``generator`` is given.

    Args:
        k, threshold, alpha: see :class:`TopKAssigner`.
        positive_fraction: most positive queries of an image, as a share of the queries, in (0, 1];
            at least one query may always be positive.
        generator: draws the positive queries that stay, all with the same chance; on the CPU, or
            on the device of the predictions.  See :func:`seeded_generator`.  Draws of the CPU reach
            a CUDA device from pinned memory, so that nothing waits.
    """

    def __init__(
        self,
        *,
        k: int = 6,
        threshold: float = 0.4,
        alpha: float = 0.3,
        positive_fraction: float = 0.25,
        generator: torch.Generator | None = None,
    ):
        super().__init__(k=k, threshold=threshold, alpha=alpha)
        require_number("positive_fraction", positive_fraction, 0, 1, above=True)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(
                "generator must be a torch.Generator (seeded_generator(seed=0) makes one) or None, "
                f"got {generator!r}"
            )
        self.positive_fraction, self.generator = positive_fraction, generator

    def select(self, score_GN: Tensor, targets: Targets) -> Slots:
        score_GK, query_GK = top_k_first(score_GN, self.k)
        best_BN, object_BN = favourites(score_GN, targets)
        positive_BN = best_BN >= self.threshold
        forced_G = torch.ones_like(targets.image_G, dtype=torch.bool)
        positive_BN.index_put_((targets.image_G, best_query(score_GN, query_GK)), forced_G)
        positive_BN = self._cut(positive_BN, best_BN)
        wanted_G = score_GN.new_zeros(len(score_GN) + 1, dtype=torch.int64)
        wanted_G.index_add_(0, object_BN.flatten(), positive_BN.flatten().long())
        place_K = torch.arange(query_GK.shape[1], device=query_GK.device)
        return Slots(query_GK, score_GK, place_K < wanted_G[:-1, None])

    def _cut(self, positive_BN: Tensor, best_BN: Tensor) -> Tensor:
        """Positive queries (B, N) that stay."""
        limit = max(1, int(self.positive_fraction * positive_BN.shape[1]))
        priority_BN = best_BN
        if self.generator is not None:
            source = self.generator.device
            draw = torch.rand(
                best_BN.shape,
                generator=self.generator,
                device=source,
                # Equal draws, which would favour low indices, do not occur in practice.
                dtype=torch.float64,
                # From other memory of the host the copy would wait for its turn on the device.
                pin_memory=source.type == "cpu" and best_BN.is_cuda,
            )
            priority_BN = draw.to(best_BN.device, non_blocking=True)
        priority_BN = priority_BN.masked_fill(~positive_BN, -1.0)
        _, kept_BL = top_k_first(priority_BN, limit)
        kept_BN = torch.zeros_like(positive_BN).scatter_(1, kept_BL, True)
        return kept_BN & positive_BN


def best_query(score_GN: Tensor, query_GK: Tensor) -> Tensor:
    """Best query (G,) of every object, given :func:`top_k_first`; of equal ones as published.

    That is the query which ``topk(1)`` finds: the first, but for fewer than 64 queries on a CPU.
    The choice between exact copies of a query can change how many positives an object has.
    """
    if score_GN.shape[1] < 64:
        return score_GN.topk(1, dim=1)[1][:, 0]
    return query_GK[:, 0]


def seeded_generator(seed: int) -> torch.Generator:
    """A generator on the CPU for a lazy config: ``generator=L(seeded_generator)(seed=0)``."""
    return torch.Generator().manual_seed(seed)
