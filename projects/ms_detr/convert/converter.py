"""State dicts of the official code to ours and back; no model is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .checks import check_duplicates, check_keys, check_tensors
from .errors import CheckpointError
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
from .shapes import check_shapes

CLASSES = ("coco", "keep")
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
        CheckpointError: registered duplicates differ, shapes do not belong together, numbers are
            not finite, a number of queries is given for a model without learned queries, or the
            model is not of this family.
    """
    _check_choice(classes)
    aside = {key: value for key, value in official.items() if key.endswith(_COUNTERS)}
    official = {key: value for key, value in official.items() if key not in aside}
    check_tensors(official)
    layout = Layout.read(official, Side.OFFICIAL)
    get_family(family).check(layout)
    pairs = name_pairs(layout)
    check_keys(official, [key for pair in pairs for key in pair.theirs], Side.OFFICIAL)
    check_shapes(official, pairs, layout)
    check_duplicates(official, pairs)
    selections = _select(official, layout, classes, num_queries)
    state, rest = {}, {}
    for pair in pairs:
        theirs = official[pair.theirs[0]]
        selection = selections.get(pair.rows)
        if selection is None:
            state[pair.ours] = theirs
            continue
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
        CheckpointError: shapes do not belong together, numbers are not finite, the extras do not
            fit, or the family has no such model as far as names say it; the rest is for
            :meth:`~ms_detr.convert.Settings.check_released`.
    """
    extras = dict(extras or {})
    family = family or extras.get("family", "ms-detr")
    classes = classes or extras.get("classes", "coco")
    _check_choice(classes)
    check_tensors(ours)
    layout = Layout.read(ours, Side.OURS, extras.get("refined"))
    get_family(family).check(layout)
    pairs = name_pairs(layout)
    check_keys(ours, [pair.ours for pair in pairs], Side.OURS)
    check_shapes(ours, pairs, layout)
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
    return Converted(state, layout, tuple(pairs), {**extras, "family": family}, tuple(notes))


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
    elif num_queries is not None:
        raise CheckpointError(
            f"{num_queries} deployed queries are asked for, but the model has no learned queries "
            "(query_embed.weight): proposals of the encoder are its queries; leave the number out"
        )
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


def _class_note(selections: Mapping[Rows, RowSelection], classes: str) -> str:
    heads = selections[Rows.CLASSES]
    if len(heads.kept) < heads.total:
        return (
            f"class heads: {heads.total} official outputs, one per COCO category id, "
            f"are {len(heads.kept)} contiguous classes here"
        )
    reason = ", for they are not the 91 of COCO" if classes == "coco" else ""
    return f"class heads: all {heads.total} outputs are kept as they are{reason}"
