"""What tools/benchmark_step.py compares: models, what is done to them, goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectron2.layers import Conv2d
from step_official import bfloat16, checkpointed, official_form
from torch import nn

from ms_detr.backbone import FoldedResNet
from ms_detr.layers import (
    Dropout,
    FeedForward,
    MultiScaleDeformableAttention,
    QuerySelfAttention,
)


def our_form(detector: nn.Module) -> None:  # noqa: ARG001
    """Leave a detector as it is."""


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        file: below ``configs``, without ".py".
        time, memory: goals for it / the base of its comparison; None: only told.
        overrides: of the config.
        form: what is done to the detector before it is trained.
    """

    file: str
    time: float | None = None
    memory: float | None = None
    overrides: tuple[str, ...] = ()
    form: Callable[[nn.Module], None] = our_form


@dataclass(frozen=True)
class Comparison:
    """Models at one size, and the one that the others are compared with.

    Attributes:
        base: name of the latter.
        models: by the name that figures give them.
        size: height and width of the images.
    """

    base: str
    models: dict[str, Model]
    size: tuple[int, int]


_small = ("model.queries.num_queries=300",)
_methods = {
    "one-to-one": Model("baselines/deformable_detr_pp_r50_300q_12ep"),
    "MS-DETR": Model("ms_detr/ms_detr_pp_r50_300q_12ep", time=1.03, memory=1.02),
    "MS-DETR without feed-forward": Model(
        "variants/ms_detr_pp_c_no_feed_forward_r50_300q_12ep", memory=1.01
    ),
    "Group DETR": Model("comparators/group_deformable_detr_pp_r50_300q_12ep"),
    "H-DETR": Model("comparators/h_deformable_detr_pp_r50_300q_12ep"),
    "DN-DETR": Model("comparators/dn_deformable_detr_pp_r50_300q_12ep"),
    "DINO": Model("comparators/dino_4scale_r50_900q_12ep", overrides=_small),
}
_recipe = "ms_detr/ms_detr_r50_300q_12ep"
_official = ("optimizer.fused=null",)


def _without(*kinds: type[nn.Module]) -> Model:
    """Ours with some kinds of parts in their official form."""

    def form(detector: nn.Module) -> None:
        official_form(detector, *kinds)

    return Model(_recipe, form=form)


COMPARISONS = {
    "official": Comparison(
        "official form",
        {
            "official form": Model(_recipe, overrides=_official, form=official_form),
            # Time: the official form takes at least 1.5 times as long.
            "ours": Model(_recipe, time=1 / 1.5, memory=0.80),
        },
        (256, 320),
    ),
    "levers": Comparison(
        "ours",
        {
            "ours": Model(_recipe),
            "official operator": _without(MultiScaleDeformableAttention),
            "official dropout": _without(Dropout),
            "official feed-forward": _without(FeedForward),
            "official self-attention": _without(QuerySelfAttention),
            "official backbone": _without(FoldedResNet, Conv2d),
            "unfused AdamW": Model(_recipe, overrides=_official),
            "checkpointed": Model(_recipe, form=checkpointed),
            "bfloat16": Model(_recipe, form=bfloat16),
        },
        (256, 320),
    ),
    "masks": Comparison(
        "boxes",
        {
            "boxes": Model("models/ms_detr"),
            "masks": Model("models/ms_detr_mask", time=1.35, memory=1.30),
        },
        (256, 320),
    ),
    "methods": Comparison("one-to-one", _methods, (512, 672)),
}
_quick_methods = {
    "one-to-one": Model("models/ms_detr_small", overrides=("~model.supervisions.mixed",)),
    "MS-DETR": Model("models/ms_detr_small"),
}
QUICK = {
    "levers": Comparison(
        "ours",
        {
            "ours": Model("models/ms_detr_small"),
            "checkpointed": Model("models/ms_detr_small", form=checkpointed),
        },
        (256, 320),
    ),
    "official": Comparison(
        "official form",
        {
            "official form": Model(
                "models/ms_detr_small", overrides=("model.encoder.dropout=0.1",), form=official_form
            ),
            "ours": Model("models/ms_detr_small", overrides=("model.encoder.dropout=0.1",)),
        },
        (256, 320),
    ),
    "masks": Comparison(
        "boxes",
        {"boxes": Model("models/ms_detr_small"), "masks": Model("models/ms_detr_mask_small")},
        (256, 320),
    ),
    "methods": Comparison("one-to-one", _quick_methods, (256, 320)),
}
