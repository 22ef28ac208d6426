"""State dicts of the official code to ours and back; no model is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError, KeysError
from .families import get_family
from .layout import Layout, Side
from .names import Pair, Rows, name_pairs
from .rows import (
    SILENT,
    RowSelection,
    class_rows,
    count_trained_rows,
    first_rows,
    official_class_count,
)

CLASSES = ("coco", "keep")
_MENDS = {
    Side.OFFICIAL: "convert detectors of the (MS-)Deformable-DETR family with a ResNet; other "
    "backbones (Swin, ViT) and mask heads are not supported",
    Side.OURS: "the official code has no place for what is left over, such as box heads of the "
    "one-to-many supervision's own; it needs what is missing",
}
# Counters that a FLOP counter once left in some published files; the official code skips them.
_COUNTERS = ("total_ops", "total_params")


@dataclass(frozen=True)
class Converted:
    """A converted state dict.

    Attributes:
        state: tensors by the names of the other side.
        layout: the kind of model.
        pairs: the names of every tensor, on both sides.
        extras: what ours has no place for, as plain dicts and tensors: ``family``, ``classes``,
            ``refined``, ``rest`` (rows that ours lacks, by official key) and ``aside`` (tensors
            that belong to no part of the model, by official key).
        notes: what a user should know, one sentence each.
    """

    state: dict[str, Tensor]
    layout: Layout
    pairs: tuple[Pair, ...]
    extras: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def to_ours(
    official: Mapping[str, Tensor],
    *,
    family: str = "ms-detr",
    classes: str = "coco",
    num_queries: int | None = None,
) -> Converted:
    """Convert an official state dict to ours.

    Args:
        official: the state dict, with every registered duplicate.
        family: "ms-detr", "deformable-detr" or "h-detr".
        classes: "coco" turns the 91 outputs of a class head, one per COCO category id, into the 80
            contiguous classes; "keep" leaves them.  Heads of another width are kept anyway.
        num_queries: learned queries that are deployed, the first ones; None for all.  The rest
            (the one-to-many queries of H-DETR) goes to the extras.

    Raises:
        KeysError: keys are left over or missing.
        CheckpointError: registered duplicates differ, numbers are not finite, or the model is not
            of this family.
    """
    _check_choice(classes)
    aside = {key: value for key, value in official.items() if key.endswith(_COUNTERS)}
    official = {key: value for key, value in official.items() if key not in aside}
    _check_tensors(official)
    layout = Layout.read(official, Side.OFFICIAL)
    get_family(family).check(layout)
    pairs = name_pairs(layout)
    _check_keys(official, [key for pair in pairs for key in pair.theirs], Side.OFFICIAL)
    _check_duplicates(official, pairs)
    selections = _select(official, layout, classes, num_queries)
    state, rest = {}, {}
    for pair in pairs:
        theirs = official[pair.theirs[0]]
        selection = selections.get(pair.rows)
        if selection is None:
            state[pair.ours] = theirs
            continue
        if len(theirs) != selection.total:
            raise CheckpointError(
                f"{pair.theirs[0]} has {len(theirs)} rows, but others of its kind "
                f"{selection.total}; class heads of one model have one width"
            )
        state[pair.ours], left = selection.split(theirs)
        if left is not None:
            rest[pair.theirs[0]] = left
    extras = {
        "family": family,
        "classes": classes,
        "refined": layout.refined,
        "rest": rest,
        "aside": aside,
    }
    notes = [_class_note(selections, classes)]
    copies = sum(len(pair.theirs) - 1 for pair in pairs)
    notes.append(f"{copies} keys name a tensor that another key names too; all are equal to it")
    return Converted(state, layout, tuple(pairs), extras, tuple(notes))


def to_official(
    ours: Mapping[str, Tensor],
    extras: Mapping[str, Any] | None = None,
    *,
    family: str | None = None,
    classes: str | None = None,
) -> Converted:
    """Convert our state dict to an official one.

    Args:
        ours: the state dict.
        extras: of :func:`to_ours`, for a model that was converted; None for one trained here.
        family: as :func:`to_ours`; None: that of the extras, else "ms-detr".
        classes: as :func:`to_ours`; None: that of the extras, else "coco".

    Raises:
        KeysError: keys are left over or missing.
        CheckpointError: numbers are not finite, the extras do not fit, or the family has no such
            model.
    """
    extras = dict(extras or {})
    family = family or extras.get("family", "ms-detr")
    classes = classes or extras.get("classes", "coco")
    _check_choice(classes)
    _check_tensors(ours)
    layout = Layout.read(ours, Side.OURS, extras.get("refined"))
    get_family(family).check(layout)
    pairs = name_pairs(layout)
    _check_keys(ours, [pair.ours for pair in pairs], Side.OURS)
    rest = dict(extras.get("rest", {}))
    selections = _select_official(ours, rest, classes)
    state, filled = {}, False
    for pair in pairs:
        tensor, key = ours[pair.ours], pair.theirs[0]
        if pair.rows in selections:
            filled |= key not in rest and bool(selections[pair.rows].others)
            tensor = selections[pair.rows].join(tensor, rest.pop(key, None), key)
        state.update(dict.fromkeys(pair.theirs, tensor))
    if rest:
        raise CheckpointError(
            f"rows were set aside for {sorted(rest)}, which this model lacks; convert without them"
        )
    state.update(extras.get("aside", {}))
    notes = [_class_note(selections, classes)]
    if filled:
        notes.append(
            f"class outputs that this model lacks are filled with weight 0 and bias {SILENT:g}, "
            "so that they never score"
        )
    if layout.backbone.convolutions != 3 or layout.backbone.counts_batches:
        notes.append(
            "the official code has no such backbone: its ResNets have bottleneck blocks and frozen "
            "norms; the names are those that it would have"
        )
    return Converted(state, layout, tuple(pairs), {**extras, "family": family}, tuple(notes))


def check_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a state dict that is not the other, bit by bit.

    Raises:
        CheckpointError: names or values differ; all are listed.
    """
    differing = sorted(found.keys() ^ wanted.keys())
    differing += [
        key
        for key in wanted.keys() & found.keys()
        if found[key].dtype != wanted[key].dtype or not torch.equal(found[key], wanted[key])
    ]
    if differing:
        raise CheckpointError(f"converted back, these tensors are not what they were: {differing}")


def _select(
    official: Mapping[str, Tensor], layout: Layout, classes: str, num_queries: int | None
) -> dict[Rows, RowSelection]:
    """Which official rows ours keeps, by what the rows are."""
    selections = {Rows.CLASSES: class_rows(len(official["class_embed.0.weight"]), classes)}
    if layout.two_stage:
        last = f"class_embed.{layout.decoder_layers}"
        trained = count_trained_rows(official[f"{last}.weight"], official[f"{last}.bias"])
        kept = min(len(selections[Rows.CLASSES].kept), trained)
        selections[Rows.OBJECT] = first_rows(kept, len(official[f"{last}.weight"]))
    if "query_embed.weight" in official:
        total = len(official["query_embed.weight"])
        kept = total if num_queries is None else num_queries
        if not 1 <= kept <= total:
            raise CheckpointError(
                f"{kept} queries cannot be deployed: query_embed.weight has {total} rows"
            )
        selections[Rows.QUERIES] = first_rows(kept, total)
    return selections


def _select_official(
    ours: Mapping[str, Tensor], rest: Mapping[str, Tensor], classes: str
) -> dict[Rows, RowSelection]:
    """Where our rows go in the official tensors, by what the rows are."""
    own = len(ours["heads.class_heads.0.weight"])
    total = official_class_count(own, classes)
    selections = {Rows.CLASSES: class_rows(total, classes)}
    outputs = ours.get("queries.proposals.class_head.weight")
    if outputs is not None:
        if len(outputs) > total:
            raise CheckpointError(
                f"queries.proposals.class_head has {len(outputs)} outputs, but the official first "
                f"stage has as many as there are classes: {total}"
            )
        selections[Rows.OBJECT] = first_rows(len(outputs), total)
    for key in ("queries.content.weight", "queries.embedding.weight"):
        if key in ours:
            more = len(rest.get("query_embed.weight", ()))
            selections[Rows.QUERIES] = first_rows(len(ours[key]), len(ours[key]) + more)
    return selections


def _check_choice(classes: str) -> None:
    if classes not in CLASSES:
        raise CheckpointError(f"classes must be one of {CLASSES}, not {classes!r}")


def _check_tensors(state: Mapping[str, Any]) -> None:
    """Everything in a state dict is a tensor with finite numbers."""
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"not a state dict: no tensors under {sorted(others)[:10]}")
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{len(broken)} tensors hold NaN or infinite numbers, such as {sorted(broken)[:5]}; "
            "the training diverged, use an earlier checkpoint"
        )


def _check_keys(state: Mapping[str, Tensor], wanted: list[str], side: Side) -> None:
    left_over, missing = set(state) - set(wanted), set(wanted) - set(state)
    if left_over or missing:
        raise KeysError(left_over, missing, state, _MENDS[side])


def _check_duplicates(official: Mapping[str, Tensor], pairs: list[Pair]) -> None:
    """Keys that name one tensor in the official model hold one value."""
    for pair in pairs:
        first = official[pair.theirs[0]]
        for key in pair.theirs[1:]:
            copy = official[key]
            if copy.shape != first.shape or copy.dtype != first.dtype:
                raise CheckpointError(
                    f"{key} {tuple(copy.shape)} {copy.dtype} must be the same tensor as "
                    f"{pair.theirs[0]} {tuple(first.shape)} {first.dtype}, as in the official model"
                )
            if not torch.equal(copy, first):
                largest = (copy.double() - first.double()).abs().max().item()
                raise CheckpointError(
                    f"{key} must be the same tensor as {pair.theirs[0]}, as in the official "
                    f"model, but differs from it by up to {largest:.6g}"
                )


def _class_note(selections: Mapping[Rows, RowSelection], classes: str) -> str:
    heads = selections[Rows.CLASSES]
    if len(heads.kept) < heads.total:
        return (
            f"class heads: {heads.total} official outputs, one per COCO category id, "
            f"are {len(heads.kept)} contiguous classes here"
        )
    reason = ", for they are not the 91 of COCO" if classes == "coco" else ""
    return f"class heads: all {heads.total} outputs are kept as they are{reason}"
