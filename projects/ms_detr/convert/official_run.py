"""The command with which the official code evaluates a converted model, if it can build it."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .converter import Converted
from .families import get_family
from .layout import Layout
from .rows import OFFICIAL_COCO_CLASSES
from .settings import Settings, flag

RESNET_DEPTHS: dict[tuple[int, ...], int] = {
    (3, 4, 6, 3): 50,
    (3, 4, 23, 3): 101,
    (3, 8, 36, 3): 152,
}
# What the official parsers take if nothing is given; all families agree.
_DEFAULTS: dict[str, Any] = {
    "--backbone": "resnet50",
    "--enc_layers": 6,
    "--dec_layers": 6,
    "--hidden_dim": 256,
    "--dim_feedforward": 1024,
    "--num_feature_levels": 4,
    "--nheads": 8,
    "--enc_n_points": 4,
    "--dec_n_points": 4,
    "--num_queries": 300,
    "--num_queries_one2one": 300,
    "--num_queries_one2many": 0,
    "--topk_eval": 100,
    "--topk": 100,
    "--position_embedding_scale": 2 * math.pi,
}
# Channels of the features of a proposed box; the number is written in the official code.
_PROPOSAL_CHANNELS = 512


@dataclass(frozen=True)
class OfficialRun:
    """How the official code evaluates a model.

    Attributes:
        command: None if the official code cannot build the model.
        folder: of the official code, in which the command runs; "" is its root.
        obstacles: why there is no command, one phrase each.
        assumptions: what is taken for granted because nothing says it, one sentence each.
    """

    command: str | None
    folder: str
    obstacles: tuple[str, ...]
    assumptions: tuple[str, ...]


def official_run(converted: Converted, settings: Settings, checkpoint: str) -> OfficialRun:
    """How to evaluate a model that was converted to official names.

    Args:
        converted: result of :func:`~ms_detr.convert.to_official`.
        settings: what is known of the model beyond its weights.
        checkpoint: path of the official checkpoint.
    """
    obstacles = tuple(_obstacles(converted, settings))
    assumptions = tuple(_assumptions(converted, settings))
    if obstacles:
        return OfficialRun(None, "", obstacles, assumptions)
    words = ["python", "main.py", "--eval", "--resume", os.path.abspath(checkpoint)]
    for name, value in _options(converted, settings).items():
        if value is True:
            words.append(name)
        elif value not in (None, False, _DEFAULTS.get(name)):
            words += [name, str(value)]
    folder = "impl_a" if converted.layout.own_classes else ""
    return OfficialRun(shlex.join(words), folder, (), assumptions)


def _options(converted: Converted, settings: Settings) -> dict[str, Any]:
    """Options of the official ``main.py``: True is a switch, None is unknown."""
    layout, state = converted.layout, converted.state
    family = get_family(converted.extras["family"])
    options: dict[str, Any] = {
        "--with_box_refine": layout.refined,
        "--two_stage": layout.two_stage,
        "--mixed_selection": layout.two_stage and layout.learned_queries,
        "--backbone": f"resnet{RESNET_DEPTHS.get(layout.backbone.blocks)}",
        "--enc_layers": layout.encoder_layers,
        "--dec_layers": layout.decoder_layers,
        "--hidden_dim": state["transformer.level_embed"].shape[1],
        "--dim_feedforward": max(_feed_forwards(state)),
        "--num_feature_levels": layout.maps + layout.extra_levels,
        "--nheads": settings.encoder_heads,
        "--enc_n_points": settings.encoder_points,
        "--dec_n_points": settings.decoder_points,
    }
    trained_with = converted.extras.get("args") or {}
    options["--dilation"] = flag(trained_with, "dilation")
    options["--position_embedding_scale"] = trained_with.get("position_embedding_scale")
    if family.mixed_selection and not layout.own_classes:
        options["--look_forward_twice"] = bool(settings.look_forward_twice)
    if family.mixed_supervision:
        mixed = layout.auxiliary or layout.own_classes or bool(settings.cross_first)
        options["--use_ms_detr"] = mixed
        options["--use_aux_ffn"] = layout.auxiliary
        options["--nms_iou_threshold"] = settings.nms_iou_threshold
        options["--topk_eval"] = settings.num_detections
    queries, training = settings.num_queries, 0
    if layout.learned_queries:
        training = len(converted.extras.get("rest", {}).get("query_embed.weight", ()))
        queries = len(state["query_embed.weight"]) - training
    options["--num_queries_one2one" if family.hybrid else "--num_queries"] = queries
    if family.hybrid:
        options["--num_queries_one2many"] = training
        options["--topk"] = settings.num_detections
    return options


def _obstacles(converted: Converted, settings: Settings) -> Iterator[str]:
    """Why the official code cannot build the model."""
    layout, state = converted.layout, converted.state
    family = get_family(converted.extras["family"])
    if family.mixed_supervision and not layout.two_stage:
        other = "" if layout.auxiliary or settings.cross_first else "; use --to deformable-detr"
        yield f"one-stage models do not run in either tree of {family.name}{other}"
    if layout.own_classes and layout.learned_queries and layout.two_stage:
        yield "impl_a/, which has implementation (a), has no mixed query selection"
    classes = len(state["class_embed.0.weight"])
    if classes != OFFICIAL_COCO_CLASSES:
        yield f"it has {classes} class outputs, and a model for COCO {OFFICIAL_COCO_CLASSES}"
    if not _is_resnet_of_torchvision(layout, state):
        yield (
            "its backbone is none of ResNet-50, -101 and -152 with bottleneck blocks, the usual "
            "channels and frozen norms"
        )
    if not _has_official_levels(layout, state):
        yield (
            "its levels are not those made of the maps of strides 8, 16 and 32 and of levels "
            "below, nor the one of stride 32"
        )
    widths = _feed_forwards(state)
    if len(widths) > 1:
        yield f"its feed-forwards have {sorted(widths)} channels, and one option is for all"
    embed_dim = state["transformer.level_embed"].shape[1]
    if layout.two_stage and 2 * embed_dim != _PROPOSAL_CHANNELS:
        yield f"two-stage models have {_PROPOSAL_CHANNELS // 2} channels, not {embed_dim}"
    elif embed_dim % 32:
        yield f"its {embed_dim} channels cannot be normalised in 32 groups"
    if settings.encoder_heads != settings.decoder_heads:
        yield (
            f"encoder and decoder have {settings.encoder_heads} and {settings.decoder_heads} "
            "attention heads, and one option is for both"
        )
    if settings.nms_iou_threshold is not None and not family.mixed_supervision:
        yield f"{family.name} has no option for non-maximum suppression"
    if settings.num_detections not in (None, 100) and not family.mixed_selection:
        yield f"{family.name} always gives 100 detections, not {settings.num_detections}"
    yield from settings.foreign
    for part, heads, points, found in _attentions(converted, settings):
        if (heads or 8) * (points or 4) != found:
            known = "is not known" if None in (heads, points) else f"is {heads} x {points}"
            yield (
                f"the {part} has {found} heads x sampling points, but how they divide {known}; "
                "--config-file with the config of its training says it"
            )


def _assumptions(converted: Converted, settings: Settings) -> Iterator[str]:
    """What nothing says, and the command or the very conversion takes for granted."""
    layout = converted.layout
    family = get_family(converted.extras["family"])
    if settings.cross_first is None:
        kind, other = "implementation (c), cross-attention first", "(d), self-attention first"
        if layout.own_classes:
            kind, other = "implementation (a), self-attention first", "(b), cross-attention first"
        elif not layout.auxiliary:
            kind, other = "a model with self-attention first", "one with cross-attention first"
            if family.mixed_supervision:
                other += ", which needs --use_ms_detr if it is (c) without its feed-forward"
        yield (
            f"the order of the two attentions is not in the weights. This is taken for {kind}; if "
            f"it is {other}, the official code computes another model of these weights. The option "
            "model.decoder.layer._target_ (SelfCrossLayer or CrossSelfLayer) of the config of its "
            "training says it: give that config with --config-file"
        )
    unknown = []
    if any(None in (heads, points) for _, heads, points, _ in _attentions(converted, settings)):
        unknown.append("8 heads with 4 sampling points (--nheads, --enc_n_points, --dec_n_points)")
    if settings.num_queries is None and not layout.learned_queries:
        option = "--num_queries_one2one" if family.hybrid else "--num_queries"
        unknown.append(f"300 queries ({option})")
    if unknown:
        yield (
            f"not in the weights either: {' and '.join(unknown)} are taken for granted; the config "
            "of its training, given with --config-file, says it"
        )


def _attentions(
    converted: Converted, settings: Settings
) -> Iterator[tuple[str, int | None, int | None, int]]:
    """(part, heads, points, heads x points by the weights) of encoder and decoder."""
    levels = converted.layout.maps + converted.layout.extra_levels
    for part, attention, heads, points in (
        ("encoder", "self_attn", settings.encoder_heads, settings.encoder_points),
        ("decoder", "cross_attn", settings.decoder_heads, settings.decoder_points),
    ):
        key = f"transformer.{part}.layers.0.{attention}.attention_weights.bias"
        if key in converted.state:
            yield part, heads, points, len(converted.state[key]) // levels


def _feed_forwards(state: Mapping[str, Tensor]) -> set[int]:
    keys = ("encoder.layers.0.linear1", "decoder.layers.0.linear1", "decoder.layers.0.linear3")
    biases = [state.get(f"transformer.{key}.bias") for key in keys]
    return {len(bias) for bias in biases if bias is not None}


def _is_resnet_of_torchvision(layout: Layout, state: Mapping[str, Tensor]) -> bool:
    resnet, body = layout.backbone, "backbone.0.body"
    if resnet.blocks not in RESNET_DEPTHS or resnet.convolutions != 3 or resnet.counts_batches:
        return False
    wanted = {f"{body}.conv1": (64, 3, 7, 7)}
    for stage, blocks in enumerate(resnet.blocks):
        width = 64 * 2**stage
        for index in range(blocks):
            block = f"{body}.layer{stage + 1}.{index}"
            wanted[f"{block}.conv2"] = (width, width, 3, 3)
            wanted[f"{block}.conv3"] = (4 * width, width, 1, 1)
    first_blocks = {(stage, 0) for stage in range(len(resnet.blocks))}
    return resnet.shortcuts == first_blocks and all(
        tuple(state[f"{key}.weight"].shape) == shape for key, shape in wanted.items()
    )


def _has_official_levels(layout: Layout, state: Mapping[str, Tensor]) -> bool:
    channels = [state[f"input_proj.{i}.0.weight"].shape[1] for i in range(layout.maps)]
    one_level = channels == [2048] and not layout.extra_levels
    return one_level or channels == [512, 1024, 2048]
