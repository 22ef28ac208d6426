"""Co-DETR's collaborative training: auxiliary heads teach the encoder, their positives the decoder.

Every head is a supervision: ``add_atss(model)`` and so on add one in place, and several at once
``add_collaborative(model, "atss", "faster_rcnn")``. They go with any model here, mixed supervision
and other additions included; call ``mix_*`` first. The first one also adds
``model.supervisions.adapter``, which makes the maps that all of them look at. The queries that a
head brings are taught what the primary queries are taught one-to-one, with the objects that the
head has assigned to them.

The objective of the paper (equation 6) is, summed over the decoder layers,

    one-to-one + lambda1 * (queries of all heads) + lambda2 * (heads themselves)

lambda1 = 1 is the weight of the supervision, ``model.supervisions.atss.weight``. lambda2 = 2 is
that of its source, ``model.supervisions.atss.source.weight``. The loss of a head is the same in all
six layers, so the sum has it lambda2 * 6 = 12 times: that is the factor of all weights of heads in
the released configs. ``source.num_layers`` is this 6; the weights below are those before it.

Which candidates of a head become queries: as in the released code, all positives, up to 300, and
where there are few, background up to 9 queries, or to the largest number of an image of the batch.
As in the text of the paper, positives only: ``model.supervisions.atss.source.selection =
L(PositivesOnly)(most=300)``. Contents are made of boxes and features (equation 4); in the released
Co-DINO of boxes only, so that models with its queries have ``features=None``.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L

from ms_detr.encoder import SingleLevelNeck
from ms_detr.queries import DINOQueries
from ms_detr.supervision.auxiliary import (
    ATSSHead,
    CoarserLevel,
    FasterRCNNHead,
    FCOSHead,
    GFLHead,
    PAAHead,
    PyramidOfOneLevel,
    RetinaNetHead,
)
from ms_detr.supervision.sources import (
    BoxEmbedding,
    CollaborativeQueries,
    FeatureEmbedding,
    FilledPositives,
    PositionedBoxEmbedding,
)

# Seen from model.supervisions.NAME.source.head.
_sizes = {
    "num_classes": "${.....heads.num_classes}",
    "strides": "${....adapter.strides}",
    "embed_dim": "${.....neck.embed_dim}",
}
# One convolution before each predictor, where the papers of the heads have four.
_dense = {**_sizes, "num_convs": 1, "num_groups": "${....adapter.num_groups}"}

heads = {
    "atss": L(ATSSHead)(
        **_dense, top_k=9, scale=8.0, class_weight=1.0, box_weight=2.0, centerness_weight=1.0
    ),
    "faster_rcnn": L(FasterRCNNHead)(
        **_sizes,
        hidden_dim=1024,
        proposals=1000,
        samples=512,
        positive_fraction=0.25,
        proposal_weight=1.0,
        class_weight=1.0,
        box_weight=10.0,
    ),
    "paa": L(PAAHead)(
        **_dense, top_k=9, scale=8.0, class_weight=1.0, box_weight=1.3, overlap_weight=0.5
    ),
    # Table 1 has an overlap of 0.5 for objects and 0.4 for background.
    "retinanet": L(RetinaNetHead)(
        **_dense,
        scales=[4 * 2 ** (third / 3) for third in range(3)],
        ratios=[0.5, 1.0, 2.0],
        class_weight=1.0,
        box_weight=2.0,
    ),
    "fcos": L(FCOSHead)(
        **_dense, radius=1.5, class_weight=1.0, box_weight=2.0, centerness_weight=1.0
    ),
    "gfl": L(GFLHead)(
        **_dense,
        top_k=9,
        scale=8.0,
        bins=16,
        class_weight=1.0,
        box_weight=2.0,
        distribution_weight=0.25,
    ),
}


def add_atss(model) -> None:
    """Add the head that Co-DETR uses if it is to be one, in place."""
    add_collaborative(model, "atss")


def add_faster_rcnn(model) -> None:
    """Add Faster R-CNN, the second head, in place: proposals, and regions of them."""
    add_collaborative(model, "faster_rcnn")


def add_paa(model) -> None:
    """Add PAA, the third head, in place."""
    add_collaborative(model, "paa")


def add_retinanet(model) -> None:
    """Add RetinaNet, in place."""
    add_collaborative(model, "retinanet")


def add_fcos(model) -> None:
    """Add FCOS, the head without anchors, in place."""
    add_collaborative(model, "fcos")


def add_gfl(model) -> None:
    """Add GFL, in place."""
    add_collaborative(model, "gfl")


def add_collaborative(model, *names: str) -> None:
    """Add heads by the names of ``heads``, in place; each is the supervision of its name."""
    unknown = [name for name in names if name not in heads]
    if unknown or not names:
        raise ValueError(
            f"the auxiliary heads are {', '.join(heads)}; got {', '.join(unknown) or 'none'}"
        )
    if "adapter" not in model.supervisions:
        model.supervisions.adapter = _adapter(model.neck)
    for name in names:
        supervision = deepcopy(model.supervisions.one_to_one)
        source = _source(heads[name], model.queries._target_)
        supervision.update(source=source, assigner=None, weight=1.0)
        model.supervisions[name] = supervision


def _source(head, queries: type):
    width = {"embed_dim": "${.....neck.embed_dim}"}
    embedding = PositionedBoxEmbedding if queries.brings_positions else BoxEmbedding
    # The released Co-DINO makes nothing of the features.
    features = None if issubclass(queries, DINOQueries) else L(FeatureEmbedding)(**width)
    return L(CollaborativeQueries)(
        head=head,
        selection=L(FilledPositives)(most=300, least=9),
        boxes=L(embedding)(**width, temperature=10000.0),
        features=features,
        weight=2.0,
        num_layers="${....decoder.num_layers}",
    )


def _adapter(neck):
    """Maps of strides 8 to 128, with levels below 8 those too."""
    width = "${...neck.embed_dim}"
    finest = _stride(next(iter(neck.in_channels)))
    if issubclass(neck._target_, SingleLevelNeck):
        return L(PyramidOfOneLevel)(
            embed_dim=width, strides=[8, 16, 32, 64, 128], memory_stride=finest, num_groups=32
        )
    return L(CoarserLevel)(
        embed_dim=width,
        strides=[finest * 2**level for level in range(neck.num_levels + 1)],
        num_groups="${...neck.num_groups}",
    )


def _stride(name: str) -> int:
    """Pixels from one cell of a ResNet's map to the next."""
    stage = name.removeprefix("res")
    if not stage.isdecimal():
        raise ValueError(
            f"the stride of map {name!r} is not known; give the model an adapter first, e.g. "
            "model.supervisions.adapter = L(CoarserLevel)(strides=[8, 16, 32, 64, 128], ...)"
        )
    return 2 ** int(stage)
