"""One-to-one supervision of the decoder, and supervision of the encoder's proposals."""

from detectron2.config import LazyCall as L

from ms_detr.assigners import FocalCost, GIoUCost, HungarianAssigner, L1Cost, MatchCosts
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, LossTerms
from ms_detr.supervision import ProposalSupervision, Supervision

one_to_one = L(Supervision)(
    tap="output",
    assigner=L(HungarianAssigner)(
        costs=L(MatchCosts)(
            **{
                "class": L(FocalCost)(weight=2.0),
                "l1": L(L1Cost)(weight=5.0),
                "giou": L(GIoUCost)(weight=2.0),
            }
        )
    ),
    terms=L(LossTerms)(
        **{
            "class": L(FocalLoss)(weight=2.0, alpha=0.25, gamma=2.0),
            "l1": L(L1Loss)(weight=5.0),
            "giou": L(GIoULoss)(weight=2.0),
        }
    ),
)

# Anchors say nothing about classes, so the class has no part in the price.
proposals = L(ProposalSupervision)(
    assigner=L(HungarianAssigner)(
        costs=L(MatchCosts)(l1=L(L1Cost)(weight=5.0), giou=L(GIoUCost)(weight=2.0))
    ),
    terms=L(LossTerms)(
        **{
            "class": L(FocalLoss)(weight=2.0, alpha=0.25, gamma=2.0),
            "l1": L(L1Loss)(weight=5.0),
            "giou": L(GIoULoss)(weight=2.0),
        }
    ),
)
