"""Two-stage queries that compute boxes of the chosen tokens only."""

from __future__ import annotations

from torch import Tensor

from ..queries import QueryInitializer
from ..queries.two_stage import ProposalQueries, best_tokens
from ..structures import FeaturePyramid, Queries
from .chunks import by_chunks


class ChosenProposalQueries(QueryInitializer):
    """:class:`ms_detr.queries.ProposalQueries` for detection.

    Every token gets scores, a few thousand tokens at a time; a box is only made for those whose
    scores are among the best.  There are no proposals of all tokens afterwards.

    Args:
        queries: whose parts are used.
    """

    def __init__(self, queries: ProposalQueries):
        super().__init__()
        self.queries = queries
        self.starts_from_boxes = queries.starts_from_boxes

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, None]:
        first_stage = self.queries.proposals
        anchors_BS4, valid_BS = first_stage.anchors(memory)
        # Unlike in training, tokens without an anchor may keep their features: nobody asks for
        # their scores, and their boxes are those of no anchor whatever the features are.
        (scores_R,) = by_chunks(self._scores, memory.tokens_BSC.flatten(0, 1))
        chosen_BN = best_tokens(scores_R.view(valid_BS.shape), valid_BS, self.queries.num_queries)
        tokens_BNC = _rows(memory.tokens_BSC, chosen_BN)
        valid_BN = valid_BS.gather(1, chosen_BN)
        boxes_BN4 = first_stage.boxes(
            first_stage.features(tokens_BNC), _rows(anchors_BS4, chosen_BN), valid_BN
        )
        return self.queries.started_from(boxes_BN4), None

    def around(self, reference_BN4: Tensor) -> Queries:
        return self.queries.around(reference_BN4)

    def _scores(self, tokens_RC: Tensor) -> tuple[Tensor]:
        first_stage = self.queries.proposals
        logits_RK = first_stage.class_head(first_stage.features(tokens_RC))
        return (self.queries.scores(logits_RK),)


def _rows(of_tokens_BSX: Tensor, token_BN: Tensor) -> Tensor:
    """(B, N, X): what belongs to chosen tokens."""
    return of_tokens_BSX.gather(1, token_BN[..., None].expand(-1, -1, of_tokens_BSX.shape[-1]))
