"""One-to-one supervision of the decoder, and supervision of the encoder's proposals."""

from detectron2.config import LazyCall as L

from ms_detr.assigners import FocalCost, GIoUCost, HungarianAssigner, L1Cost, MatchCosts
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, LossTerms
from ms_detr.supervision import ProposalSupervision, Supervision


def hungarian():
    """Hungarian assignment by classes and boxes."""
    return L(HungarianAssigner)(
        costs=L(MatchCosts)(
            **{
                "class": L(FocalCost)(weight=2.0),
                "l1": L(L1Cost)(weight=5.0),
                "giou": L(GIoUCost)(weight=2.0),
            }
        )
    )


def anchor_hungarian():
    """Hungarian assignment by boxes: anchors say nothing about classes."""
    return L(HungarianAssigner)(
        costs=L(MatchCosts)(l1=L(L1Cost)(weight=5.0), giou=L(GIoUCost)(weight=2.0))
    )


def detection_terms():
    """Loss terms of classes and boxes."""
    return L(LossTerms)(
        **{
            "class": L(FocalLoss)(weight=2.0, alpha=0.25, gamma=2.0),
            "l1": L(L1Loss)(weight=5.0),
            "giou": L(GIoULoss)(weight=2.0),
        }
    )


one_to_one = L(Supervision)(tap="output", assigner=hungarian(), terms=detection_terms())

proposals = L(ProposalSupervision)(assigner=anchor_hungarian(), terms=detection_terms())
