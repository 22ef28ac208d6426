"""Groups of queries that are decoded together, and who may look at whom.

Training methods add queries of their own to the detector's primary ones.  All go through the
decoder in one pass; only self-attention tells them apart, by the rule stated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PRIMARY = "primary"


@dataclass(frozen=True)
class QueryGroup:
    """Neighbouring queries of one purpose.

    A query sees its own block, and all queries of the groups in ``sees``.

    Attributes:
        name: "primary", or the name of the supervision that brought the group.
        size: number of queries.
        blocks: equal, consecutive parts that do not see each other; divides ``size``.
        sees: names of other groups whose queries this group sees.
    """

    name: str
    size: int
    blocks: int = 1
    sees: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.size % self.blocks:
            raise ValueError(
                f"query group {self.name!r} of {self.size} queries cannot be {self.blocks} equal "
                f"blocks; make the number of queries a multiple of the number of blocks"
            )


def slices(groups: Sequence[QueryGroup]) -> Iterator[tuple[QueryGroup, slice]]:
    """Every group with its place among all queries."""
    first = 0
    for group in groups:
        yield group, slice(first, first + group.size)
        first += group.size


def find(groups: Sequence[QueryGroup], name: str) -> slice:
    """Place of the group of that name among all queries.

    Raises:
        ValueError: there is none.
    """
    for group, place in slices(groups):
        if group.name == name:
            return place
    raise ValueError(
        f"there is no query group {name!r}; there are: {', '.join(g.name for g in groups)}"
    )


def own_block(group: QueryGroup, device: torch.device | str = "cpu") -> Tensor:
    """(size, size) bool: True for pairs of queries of the same block."""
    block_N = torch.arange(group.blocks, device=device).repeat_interleave(
        group.size // group.blocks
    )
    return block_N[:, None] == block_N
