"""MS-DETR's one-to-many supervision of the primary queries, implementation (c)."""

from detectron2.config import LazyCall as L

from ms_detr.assigners import ReleasedTopKAssigner
from ms_detr.decoder import CrossSelfLayer
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, LossTerms
from ms_detr.supervision import LayerwiseFeedForward, Supervision

mixed = L(Supervision)(
    tap="internal",
    branch=L(LayerwiseFeedForward)(
        num_layers="${....decoder.num_layers}",
        embed_dim="${....neck.embed_dim}",
        feedforward_dim="${....encoder.feedforward_dim}",
        dropout="${....encoder.dropout}",
    ),
    assigner=L(ReleasedTopKAssigner)(k=6, threshold=0.4, alpha=0.3, positive_fraction=0.25),
    terms=L(LossTerms)(
        **{
            "class": L(FocalLoss)(weight=2.0, alpha=0.25, gamma=2.0),
            "l1": L(L1Loss)(weight=5.0),
            "giou": L(GIoULoss)(weight=2.0),
        }
    ),
)


def mix(model) -> None:
    """Make a Deformable-DETR config an MS-DETR one, implementation (c), in place.

    Cross-attention comes first in the layer and its result is taught one-to-many; the class term of
    one-to-one supervision gets weight 1, as in every training script of the authors.
    """
    model.decoder.layer._target_ = CrossSelfLayer
    model.supervisions.one_to_one.terms["class"].weight = 1.0
    model.supervisions.mixed = mixed
