"""What a conversion did, in words and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from .converter import Converted
from .names import Pair
from .recipes import Recipe

_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)|(?<=layer)\d+|(?<=res)\d+|(?<=conv)\d+|(?<=bn)\d+")


def mapping_table(
    pairs: Sequence[Pair],
    official: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    *,
    to_ours: bool = True,
) -> str:
    """Names on both sides, one row per kind of module, with shapes and numbers of tensors."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        theirs, own = pair.modules
        groups.setdefault((_INDEX.sub("*", theirs), _INDEX.sub("*", own)), []).append(pair)
    rows = []
    for group in groups.values():
        # A module with a single tensor that is no weight goes by the tensor's name.
        leaf = group[0].leaf
        own = f".{leaf}" if leaf != "weight" and {pair.leaf for pair in group} == {leaf} else ""
        names = [_merge([pair.modules[side] for pair in group]) + own for side in (0, 1)]
        shapes = dict.fromkeys(
            _shape(official[p.theirs[0]], ours[p.ours]) for p in group if p.leaf == leaf
        )
        first, *more = shapes
        shape = first + (f" and {len(more)} more" if more else "")
        rows.append((*(names if to_ours else names[::-1]), str(len(group)), shape))
    headers = ("theirs", "ours") if to_ours else ("ours", "theirs")
    return _table((*headers, "tensors", "shape of the first"), rows)


def set_aside_table(extras: Mapping) -> str:
    """What ours has no place for, and where it went."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for key, tensor in extras.get("rest", {}).items():
        groups.setdefault((_INDEX.sub("*", key), tuple(tensor.shape)), []).append(key)
    rows = [(_merge(keys), str(len(keys)), str(shape)) for (_, shape), keys in groups.items()]
    rows += [(key, "1", str(tuple(value.shape))) for key, value in extras.get("aside", {}).items()]
    if extras.get("args") is not None:
        rows.append(("args", str(len(extras["args"])), "options, as a dict"))
    return _table(("theirs", "number", "shape of the rows"), rows) if rows else ""


def evaluation_command(recipe: Recipe, checkpoint: str) -> str:
    """The command that evaluates the converted checkpoint."""
    words = ["python train_net.py --config-file", str(recipe.config), "--eval-only"]
    words += [f"train.init_checkpoint={checkpoint}", *recipe.overrides]
    return " ".join(words)


def what_it_is(converted: Converted) -> str:
    """The kind of model, in one line."""
    layout = converted.layout
    kind = "two-stage" if layout.two_stage else "one-stage"
    words = [
        kind
        + (" with mixed query selection" if layout.two_stage and layout.learned_queries else ""),
        "with box refinement" if layout.refined else "without box refinement, heads shared",
        f"{layout.encoder_layers} + {layout.decoder_layers} layers",
        f"{layout.maps + layout.extra_levels} levels",
    ]
    if layout.auxiliary:
        words.append("auxiliary feed-forward")
    if layout.own_classes:
        words.append("class heads of its own for one-to-many supervision (a, b)")
    return ", ".join(words)


def _merge(names: Sequence[str]) -> str:
    """Names that differ in numbers only, as one: ``layers.{0-5}.norm1``."""
    columns = zip(*([int(number) for number in _INDEX.findall(name)] for name in names))
    ranges = iter(
        f"{{{min(column)}-{max(column)}}}" if len(set(column)) > 1 else str(column[0])
        for column in map(list, columns)
    )
    return _INDEX.sub(lambda _: next(ranges), names[0])


def _shape(theirs: Tensor, ours: Tensor) -> str:
    if theirs.shape == ours.shape:
        return str(tuple(theirs.shape))
    return f"{tuple(theirs.shape)} / {tuple(ours.shape)}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    lines = [headers, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
