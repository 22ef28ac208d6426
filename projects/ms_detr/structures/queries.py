"""What the decoder starts from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .query_groups import QueryGroup


@dataclass(frozen=True)
class Queries:
    """What the decoder starts from.

    Attributes:
        content_BNC: content embeddings.
        pos_BNC: position embeddings, added to queries (and keys) in every attention; None: the
            decoder makes them from the references.
        reference_BNr: initial reference boxes (r = 4) or points (r = 2).
        groups: whom they belong to, in their order; none: all are one group.
    """

    content_BNC: Tensor
    pos_BNC: Tensor | None
    reference_BNr: Tensor
    groups: tuple[QueryGroup, ...] = ()


@dataclass(frozen=True)
class Proposals:
    """A box and its scores for every encoder token, the first stage of a two-stage detector.

    Attributes:
        logits_BSK: scores; the first column says "object".
        boxes_BS4: predicted boxes.
        anchors_BS4: the boxes that the predictions started from; (1, 1, 1, 1) where there is none.
        valid_BS: True where an anchor exists: on image, with all of it in (0.01, 0.99).
        blocks: how often every token has proposed, first all of them once, then again.
        chosen_BN: the proposals that became queries, as indices into S.
    """

    logits_BSK: Tensor
    boxes_BS4: Tensor
    anchors_BS4: Tensor
    valid_BS: Tensor
    blocks: int = 1
    chosen_BN: Tensor | None = None
