"""MS-DETR's one-to-many supervision of the primary queries, in its four implementations.

Figure 4 of the paper: the order of the two attentions in the layer, and whether the one-to-many
predictions are read at the end of the layer or between its attentions.

    mix_a: self, cross; read at the end          mix_b: cross, self; read at the end
    mix_d: self, cross; read between             mix_c: cross, self; read between

(a) and (b) read the same state as one-to-one supervision, so they need a class head of their own;
(c) and (d) share both heads and pass the state through an additional feed-forward. (b) and (d) were
never released; their heads and feed-forward are those of (a) and (c).

Either choice can be changed. In a config file that imports them from here:
``model.supervisions.mixed.branch = feed_forward`` or None, ``.class_heads = own_class_heads`` or
None, ``.box_heads = own_box_heads`` or None. The command line does not know these names; there a
part is null, or a lazy call written out: docs/assigners.md has lines to copy.
"""

from detectron2.config import LazyCall as L

from ms_detr.assigners import ReleasedTopKAssigner
from ms_detr.decoder import (
    ConditionalCrossSelfLayer,
    ConditionalSelfCrossLayer,
    CrossSelfLayer,
    SelfCrossLayer,
)
from ms_detr.heads import BoxHeads, ClassHeads
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, LossTerms
from ms_detr.supervision import LayerwiseFeedForward, Supervision

mixed = L(Supervision)(
    tap="output",
    branch=None,
    class_heads=None,
    box_heads=None,
    assigner=L(ReleasedTopKAssigner)(k=6, threshold=0.4, alpha=0.3, positive_fraction=0.25),
    merge=None,
    terms=L(LossTerms)(
        **{
            "class": L(FocalLoss)(weight=2.0, alpha=0.25, gamma=2.0),
            "l1": L(L1Loss)(weight=5.0),
            "giou": L(GIoULoss)(weight=2.0),
        }
    ),
)

feed_forward = L(LayerwiseFeedForward)(
    num_layers="${....decoder.num_layers}",
    embed_dim="${....neck.embed_dim}",
    feedforward_dim="${....encoder.feedforward_dim}",
    dropout="${....encoder.dropout}",
)

own_class_heads = L(ClassHeads)(
    embed_dim="${....neck.embed_dim}",
    num_classes="${....heads.num_classes}",
    num_layers="${....decoder.num_layers}",
)

own_box_heads = L(BoxHeads)(
    embed_dim="${....neck.embed_dim}",
    num_layers="${....decoder.num_layers}",
    initial_size_logit="${....heads.initial_size_logit}",
)

# The same attentions in both orders: self, cross and cross, self.
orders = [
    (SelfCrossLayer, CrossSelfLayer),
    (ConditionalSelfCrossLayer, ConditionalCrossSelfLayer),
]
SELF_CROSS, CROSS_SELF = 0, 1


def mix_a(model) -> None:
    """Make the config of a baseline MS-DETR (a), in place."""
    _mix(model, SELF_CROSS, "output")
    model.supervisions.mixed.class_heads = own_class_heads


def mix_b(model) -> None:
    """Make the config of a baseline MS-DETR (b), in place."""
    _mix(model, CROSS_SELF, "output")
    model.supervisions.mixed.class_heads = own_class_heads


def mix_c(model) -> None:
    """Make the config of a baseline MS-DETR (c), in place: the one with published results."""
    _mix(model, CROSS_SELF, "internal")
    model.supervisions.mixed.branch = feed_forward


def mix_d(model) -> None:
    """Make the config of a baseline MS-DETR (d), in place."""
    _mix(model, SELF_CROSS, "internal")
    model.supervisions.mixed.branch = feed_forward


def _mix(model, order, tap) -> None:
    layer = model.decoder.layer
    layer._target_ = next(pair for pair in orders if layer._target_ in pair)[order]
    # One-to-one supervision weighs its class term 1 in every training script of the authors.
    model.supervisions.one_to_one.terms["class"].weight = 1.0
    model.supervisions.mixed = mixed
    model.supervisions.mixed.tap = tap
