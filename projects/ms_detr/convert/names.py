"""The table of names: which official key is which of ours, for a given kind of model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .layout import Layout

_WEIGHT_BIAS = ("weight", "bias")
_NORM_OF_BACKBONE = ("weight", "bias", "running_mean", "running_var")
_DEFORMABLE_ATTENTION = tuple(
    f"{part}.{leaf}"
    for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    for leaf in _WEIGHT_BIAS
)
_SELF_ATTENTION = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
_BOX_HEAD = tuple(f"layers.{depth}.{leaf}" for depth in range(3) for leaf in _WEIGHT_BIAS)


class Rows(Enum):
    """What the rows of a tensor stand for, where the two sides may have different numbers."""

    ALL = "the same on both sides"
    CLASSES = "one per class"
    OBJECT = "the first says object, the others are silent"
    QUERIES = "one per query"


@dataclass(frozen=True)
class Pair:
    """One tensor and its names.

    Attributes:
        theirs: official keys under which it is registered; the first is its own, the others are
            the same tensor once more.
        ours: our key.
        leaf: the end of both keys, which is the same.
        rows: what its rows are.
    """

    theirs: tuple[str, ...]
    ours: str
    leaf: str
    rows: Rows

    @property
    def modules(self) -> tuple[str, str]:
        """Its module on both sides: official, ours."""
        end = -len(self.leaf) - 1
        return self.theirs[0][:end], self.ours[:end]


def name_pairs(layout: Layout) -> list[Pair]:
    """Every tensor of a model of this kind, with its names on both sides."""
    return [
        *_backbone(layout),
        *_neck(layout),
        *_encoder(layout),
        *_queries(layout),
        *_decoder(layout),
        *_heads(layout),
        *_mixed(layout),
    ]


def _pairs(
    theirs: str | tuple[str, ...],
    ours: str,
    leaves: tuple[str, ...] = _WEIGHT_BIAS,
    rows: Rows = Rows.ALL,
) -> Iterator[Pair]:
    """Pairs of all leaves of a module."""
    modules = (theirs,) if isinstance(theirs, str) else theirs
    for leaf in leaves:
        names = tuple(f"{module}.{leaf}" for module in modules)
        yield Pair(names, f"{ours}.{leaf}", leaf, rows)


def _backbone(layout: Layout) -> Iterator[Pair]:
    resnet = layout.backbone
    norm = _NORM_OF_BACKBONE + (("num_batches_tracked",) if resnet.counts_batches else ())
    body = "backbone.0.body"

    def convolution(theirs: str, their_norm: str, ours: str) -> Iterator[Pair]:
        yield from _pairs(theirs, ours, ("weight",))
        yield from _pairs(their_norm, f"{ours}.norm", norm)

    yield from convolution(f"{body}.conv1", f"{body}.bn1", "backbone.stem.conv1")
    for stage, blocks in enumerate(resnet.blocks):
        for index in range(blocks):
            theirs = f"{body}.layer{stage + 1}.{index}"
            ours = f"backbone.res{stage + 2}.{index}"
            for number in range(1, resnet.convolutions + 1):
                names = (f"{theirs}.conv{number}", f"{theirs}.bn{number}", f"{ours}.conv{number}")
                yield from convolution(*names)
            if (stage, index) in resnet.shortcuts:
                shortcut = f"{theirs}.downsample"
                yield from convolution(f"{shortcut}.0", f"{shortcut}.1", f"{ours}.shortcut")


def _neck(layout: Layout) -> Iterator[Pair]:
    ours = [f"neck.projections.{index}" for index in range(layout.maps)]
    ours += [f"neck.extra_levels.{index}" for index in range(layout.extra_levels)]
    for level, module in enumerate(ours):
        for part in range(2):
            yield from _pairs(f"input_proj.{level}.{part}", f"{module}.{part}")


def _encoder(layout: Layout) -> Iterator[Pair]:
    yield from _pairs("transformer", "encoder", ("level_embed",))
    for layer in range(layout.encoder_layers):
        theirs, ours = f"transformer.encoder.layers.{layer}", f"encoder.layers.{layer}"
        names = (f"{theirs}.self_attn", f"{ours}.attention")
        yield from _pairs(*names, _DEFORMABLE_ATTENTION)
        yield from _pairs(f"{theirs}.norm1", f"{ours}.norm")
        for leaf in ("linear1", "linear2"):
            yield from _pairs(f"{theirs}.{leaf}", f"{ours}.feed_forward.{leaf}")
        yield from _pairs(f"{theirs}.norm2", f"{ours}.feed_forward.norm")


def _queries(layout: Layout) -> Iterator[Pair]:
    if layout.two_stage:
        yield from _pairs("transformer.enc_output", "queries.proposals.projection")
        yield from _pairs("transformer.enc_output_norm", "queries.proposals.norm")
        yield from _pairs("transformer.pos_trans", "queries.projection")
        yield from _pairs("transformer.pos_trans_norm", "queries.norm")
    else:
        names = ("transformer.reference_points", "queries.reference_points")
        yield from _pairs(*names)
    if layout.learned_queries or not layout.two_stage:
        ours = "queries.content" if layout.two_stage else "queries.embedding"
        yield from _pairs("query_embed", ours, ("weight",), Rows.QUERIES)


def _decoder(layout: Layout) -> Iterator[Pair]:
    for layer in range(layout.decoder_layers):
        theirs, ours = f"transformer.decoder.layers.{layer}", f"decoder.layers.{layer}"
        names = (f"{theirs}.cross_attn", f"{ours}.cross_attention")
        yield from _pairs(*names, _DEFORMABLE_ATTENTION)
        yield from _pairs(f"{theirs}.norm1", f"{ours}.cross_norm")
        names = (f"{theirs}.self_attn", f"{ours}.self_attention")
        yield from _pairs(*names, _SELF_ATTENTION)
        yield from _pairs(f"{theirs}.norm2", f"{ours}.self_norm")
        for leaf in ("linear1", "linear2"):
            yield from _pairs(f"{theirs}.{leaf}", f"{ours}.feed_forward.{leaf}")
        yield from _pairs(f"{theirs}.norm3", f"{ours}.feed_forward.norm")


def _heads(layout: Layout) -> Iterator[Pair]:
    for index in range(layout.num_heads):
        classes, boxes = _registrations(layout, index)
        ours = f"heads.class_heads.{index}"
        yield from _pairs(classes, ours, rows=Rows.CLASSES)
        yield from _pairs(boxes, f"heads.box_heads.{index}", _BOX_HEAD)
    if layout.two_stage:
        classes, boxes = _registrations(layout, layout.decoder_layers)
        ours = "queries.proposals.class_head"
        yield from _pairs(classes, ours, rows=Rows.OBJECT)
        yield from _pairs(boxes, "queries.proposals.box_head", _BOX_HEAD)


def _registrations(layout: Layout, index: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modules under which the official model registers its class and box head ``index``."""
    if not layout.refined:
        layers = range(layout.decoder_layers)
        return (
            tuple(f"class_embed.{layer}" for layer in layers),
            tuple(f"bbox_embed.{layer}" for layer in layers),
        )
    classes, boxes = [f"class_embed.{index}"], [f"bbox_embed.{index}"]
    boxes.append(f"transformer.decoder.bbox_embed.{index}")
    if layout.two_stage:
        classes.append(f"transformer.decoder.class_embed.{index}")
    if layout.own_classes and index < layout.decoder_layers:
        boxes.append(f"bbox_embed_o2m.{index}")
    return tuple(classes), tuple(boxes)


def _mixed(layout: Layout) -> Iterator[Pair]:
    for layer in range(layout.decoder_layers):
        theirs = f"transformer.decoder.layers.{layer}"
        ours = f"supervisions.mixed.branch.layers.{layer}"
        if layout.auxiliary:
            yield from _pairs(f"{theirs}.linear3", f"{ours}.linear1")
            yield from _pairs(f"{theirs}.linear4", f"{ours}.linear2")
            yield from _pairs(f"{theirs}.norm4", f"{ours}.norm")
        if layout.own_classes:
            ours = f"supervisions.mixed.class_heads.{layer}"
            yield from _pairs(f"class_embed_o2m.{layer}", ours, rows=Rows.CLASSES)
