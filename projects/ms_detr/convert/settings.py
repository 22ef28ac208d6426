"""What a model is beyond the names and shapes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig

from ..decoder import CrossSelfLayer, FixedReference, LookForwardTwice, SelfCrossLayer
from ..heads import NMSDetections
from .errors import CheckpointError
from .families import Family, get_family
from .layout import Layout

_ORDERS = {True: "cross-attention first", False: "self-attention first"}
# Fields that make another model of the same weights; the others are choices of an evaluation.
_OF_THE_MODEL = (
    "cross_first", "encoder_heads", "decoder_heads", "encoder_points", "decoder_points",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a model is beyond its weights, as far as it is known; None is unknown.

    Attributes:
        cross_first: in a decoder layer cross-attention comes before self-attention.
        tap: where one-to-many supervision reads a layer: "internal" (between the attentions) or
            "output".
        encoder_heads, decoder_heads: heads of the attentions.
        encoder_points, decoder_points: points that a head samples per level.
        num_queries: queries of an image.
        num_detections: detections of an image.
        nms_iou_threshold: of the suppression among detections, if there is one.
        look_forward_twice: boxes of a layer are taught by the next one, too.
        refined: boxes are refined from layer to layer.
        foreign: parts for which the official code has no option, one phrase each.
    """

    cross_first: bool | None = None
    tap: str | None = None
    encoder_heads: int | None = None
    decoder_heads: int | None = None
    encoder_points: int | None = None
    decoder_points: int | None = None
    num_queries: int | None = None
    num_detections: int | None = None
    nms_iou_threshold: float | None = None
    look_forward_twice: bool | None = None
    refined: bool | None = None
    foreign: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, model: DictConfig) -> Settings:
        """What the ``model`` of a config says.

        Raises:
            CheckpointError: its decoder layer is neither of the two of Deformable-DETR and MS-DETR.
        """
        mixed = _select(model, "supervisions.mixed")
        postprocess = _select(model, "postprocess")
        while postprocess is not None and "detections" in postprocess:
            postprocess = postprocess.detections
        postprocess = postprocess or {}
        suppressed = _target(postprocess) is NMSDetections
        refinement = _target(_select(model, "decoder.refinement"))
        return cls(
            cross_first=_cross_first(_select(model, "decoder.layer")),
            tap=mixed.get("tap", "output") if mixed is not None else None,
            encoder_heads=_select(model, "encoder.num_heads"),
            decoder_heads=_select(model, "decoder.layer.num_heads"),
            encoder_points=_select(model, "encoder.num_points"),
            decoder_points=_select(model, "decoder.layer.num_points"),
            num_queries=_select(model, "queries.num_queries"),
            num_detections=postprocess.get("num_detections"),
            nms_iou_threshold=postprocess.get("iou_threshold") if suppressed else None,
            look_forward_twice=refinement is LookForwardTwice,
            refined=refinement is not FixedReference,
            foreign=tuple(_foreign(model)),
        )

    @classmethod
    def from_options(
        cls, args: Mapping[str, Any] | None, layout: Layout, family: str | None
    ) -> Settings:
        """What an official checkpoint's options and its code base say.

        Args:
            args: the options; None if unknown.
            layout: the kind of model.
            family: the code base it comes from; None: it does not come from any.

        Raises:
            CheckpointError: an option is not of its kind.
        """
        args = args or {}
        heads = whole_number(args, "nheads")
        return cls(
            cross_first=_official_order(args, layout, family),
            encoder_heads=heads,
            decoder_heads=heads,
            encoder_points=whole_number(args, "enc_n_points"),
            decoder_points=whole_number(args, "dec_n_points"),
            num_queries=whole_number(args, "num_queries_one2one")
            or whole_number(args, "num_queries"),
            num_detections=whole_number(args, "topk_eval") or whole_number(args, "topk"),
            nms_iou_threshold=args.get("nms_iou_threshold"),
            look_forward_twice=flag(args, "look_forward_twice"),
        )

    def joined(self, other: Settings) -> Settings:
        """These settings, and the other's where these say nothing.

        Raises:
            CheckpointError: both say what the model is, and not the same.
        """
        mine, theirs = ({f.name: getattr(s, f.name) for f in fields(s)} for s in (self, other))
        for name in _OF_THE_MODEL:
            if None not in (mine[name], theirs[name]) and mine[name] != theirs[name]:
                said = [values[name] for values in (mine, theirs)]
                if name == "cross_first":
                    said = [_ORDERS[value] for value in said]
                raise CheckpointError(
                    f"{name.replace('_', ' ')}: the config has {said[0]}, but the official model "
                    f"has {said[1]}; weights of the one are not those of the other"
                )
        return Settings(**{k: theirs[k] if v in (None, ()) else v for k, v in mine.items()})

    def check_released(self, layout: Layout, family: Family) -> None:
        """Refuse a model that names and shapes allow, but that this code base does not have.

        Raises:
            CheckpointError: with what it is.
        """
        reason = None
        if self.cross_first and layout.own_classes:
            reason = "implementation (b): cross-attention first, own class heads"
        elif self.cross_first is False and (layout.auxiliary or self.tap == "internal"):
            reason = "implementation (d): self-attention first, read between the attentions"
        elif layout.own_classes and self.tap == "internal":
            reason = "one-to-many supervision between the attentions with own class heads"
        elif self.tap == "output" and not layout.own_classes:
            reason = "one-to-many supervision at the end of the layer without own class heads"
        if reason:
            raise CheckpointError(
                f"the model is {reason}; it was never released, and no official code runs it. "
                "Only (a) and (c) were"
            )
        if self.cross_first and not family.mixed_supervision:
            raise CheckpointError(
                f"the model has cross-attention first, which {family.name} does not have; use "
                "ms-detr"
            )


def whole_number(args: Mapping[str, Any], name: str) -> int | None:
    """An option that is a number of things; None if it is not given.

    Raises:
        CheckpointError: it is something else.
    """
    value = args.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise CheckpointError(
            f"the checkpoint's options (args) have {name}={value!r}, which is not a whole number "
            "from 0 on; correct it there, or save the state dict without args"
        )
    return value


def flag(args: Mapping[str, Any], name: str) -> bool | None:
    """An option that is on or off; None if it is not given.

    Raises:
        CheckpointError: it is something else.
    """
    value = args.get(name)
    if value not in (None, False, True):
        raise CheckpointError(
            f"the checkpoint's options (args) have {name}={value!r}, which is neither True nor "
            "False; correct it there, or save the state dict without args"
        )
    return value if value is None else bool(value)


def _official_order(args: Mapping[str, Any], layout: Layout, family: str | None) -> bool | None:
    mixed = flag(args, "use_ms_detr")
    if family is None:
        return mixed
    if layout.own_classes or not get_family(family).mixed_supervision:
        return False
    return True if layout.auxiliary else mixed


def _cross_first(layer: DictConfig | None) -> bool | None:
    target = _target(layer)
    if target in (CrossSelfLayer, SelfCrossLayer):
        return target is CrossSelfLayer
    if target is None:
        return None
    raise CheckpointError(
        f"model.decoder.layer is a {getattr(target, '__qualname__', target)}; the official "
        "code has only what SelfCrossLayer and CrossSelfLayer compute"
    )


def _foreign(model: DictConfig) -> list[str]:
    """Parts of a config for which the official code has no option, though the names are its own."""
    wanted = {
        "neck.num_groups": (32, "groups of the neck's normalisation"),
        "pixel_mean": ([123.675, 116.28, 103.53], "the mean of pixels"),
        "pixel_std": ([58.395, 57.12, 57.375], "the deviation of pixels"),
    }
    found = []
    stages = _select(model, "backbone.stages")
    stages = stages if isinstance(stages, ListConfig) else [stages]
    if any(_select(stage, "stride_in_1x1") for stage in stages):
        found.append("the stride of a block in its 1x1 convolution (stride_in_1x1)")
    for key, (official, what) in wanted.items():
        value = _select(model, key)
        if value is not None and value != official:
            found.append(f"{what} (model.{key}={value}, there {official})")
    return found


def _select(node: Any, key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    for part in key.split("."):
        node = node.get(part) if isinstance(node, DictConfig) else None
    return node


def _target(node: Any) -> Any:
    """What a lazy call calls."""
    target = node.get("_target_") if isinstance(node, (dict, DictConfig)) else None
    return locate(target) if isinstance(target, str) else target
