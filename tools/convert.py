#!/usr/bin/env python
"""Converts checkpoints of the official code to ours, and back.

    python tools/convert.py --from ms-detr official.pth ours.pth
    python tools/convert.py --to ms-detr ours.pth official.pth

Families are ms-detr (both trees of Atten4Vis/MS-DETR), deformable-detr and h-detr (with
Deformable-DETR++).  What ours has no place for travels in the converted file and comes back on the
way back.  Files are read without running code of theirs.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ms_detr.config import load_config
from ms_detr.convert import (
    FAMILIES,
    CheckpointError,
    Converted,
    OfficialCheckpoint,
    Settings,
    check_output,
    check_same,
    load_official,
    load_ours,
    save_official,
    save_ours,
    to_official,
    to_ours,
)
from ms_detr.convert.official_run import OfficialRun, official_run
from ms_detr.convert.recipes import Recipe, check_fits, find_recipe
from ms_detr.convert.report import evaluation_command, mapping_table, set_aside_table, what_it_is
from ms_detr.convert.settings import whole_number
from ms_detr.data.errors import DatasetError
from ms_detr.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    direction = parser.add_mutually_exclusive_group(required=True)
    families = list(FAMILIES)
    direction.add_argument("--from", dest="source", choices=families, help="official to ours")
    direction.add_argument("--to", dest="target", choices=families, help="ours to official")
    parser.add_argument("input", help="checkpoint to read")
    parser.add_argument("output", help="checkpoint to write")
    parser.add_argument(
        "--classes",
        choices=("coco", "keep"),
        help="coco: 91 outputs, by category id, become 80 contiguous ones; keep: as they are. "
        "Default: coco, and on the way back what was done on the way here",
    )
    parser.add_argument(
        "--num-queries",
        type=int,
        help="learned queries that are deployed, for an H-DETR checkpoint that does not say it",
    )
    parser.add_argument(
        "--config-file",
        help="config whose model must fit; with --to, that of the training: it says what the "
        "weights do not, such as the order of the attentions",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    parser.add_argument("opts", nargs="*", help="overrides of the config, key=value")
    args = parser.parse_intermixed_args(arguments)
    if args.target and args.num_queries is not None:
        parser.error("--num-queries belongs to --from: all our queries are deployed")
    if args.opts and not args.config_file:
        parser.error(f"overrides {args.opts} belong to a config; give --config-file")
    return args


def count_queries(family: str, loaded: OfficialCheckpoint, given: int | None) -> int | None:
    """How many of the learned queries are deployed; None for all.

    Raises:
        CheckpointError: a model of H-DETR may have queries for training only, but nothing says so.
    """
    if given is not None or not FAMILIES[family].hybrid or "query_embed.weight" not in loaded.model:
        return given
    deployed = whole_number(loaded.args or {}, "num_queries_one2one")
    if deployed is None:
        total = len(loaded.model["query_embed.weight"])
        raise CheckpointError(
            f"the checkpoint has {total} learned queries and does not say how many of them are "
            f"deployed (args.num_queries_one2one); add --num-queries 300, or {total} for all"
        )
    return deployed


def convert_to_ours(args: argparse.Namespace) -> None:
    """Official to ours."""
    loaded = load_official(args.input)
    queries = count_queries(args.source, loaded, args.num_queries)
    converted = to_ours(
        loaded.model, family=args.source, classes=args.classes or "coco", num_queries=queries
    )
    extras = {**converted.extras, "args": loaded.args, "epoch": loaded.epoch}
    recipe = find_recipe(converted, loaded.args, REPOSITORY / "configs", args.source)
    configured = read_config(args, converted.state)
    configured.joined(Settings.from_options(loaded.args, converted.layout, args.source))
    if args.config_file:
        recipe = replace(recipe, config=Path(args.config_file), overrides=tuple(args.opts))
    check_same(to_official(converted.state, extras).state, loaded.model)
    save_ours(args.output, converted.state, extras, overwrite=args.overwrite)

    print(f"{args.input}: {what_it_is(converted)}\n")
    print(mapping_table(converted.pairs, loaded.model, converted.state))
    print_notes(converted, extras, loaded.dropped)
    print(f"\nConverted back, all {len(loaded.model)} tensors are the same, bit by bit.")
    print_recipe(recipe, converted, args.output)


def convert_to_official(args: argparse.Namespace) -> None:
    """Ours to official."""
    state, extras = load_ours(args.input)
    configured = read_config(args, state)
    if configured.refined is not None:
        extras = {**extras, "refined": configured.refined}
    converted = to_official(state, extras, family=args.target, classes=args.classes)
    origin = (extras.get("args"), converted.layout, extras.get("family"))
    settings = configured.joined(Settings.from_options(*origin))
    settings.check_released(converted.layout, FAMILIES[args.target])
    check_same(back_to_ours(converted, state, args).state, state)
    save_official(
        args.output,
        converted.state,
        extras.get("args"),
        extras.get("epoch"),
        overwrite=args.overwrite,
    )
    print(f"{args.input}: {what_it_is(converted)}\n")
    print(mapping_table(converted.pairs, converted.state, state, to_ours=False))
    print_notes(converted, {}, ())
    print(f"\nConverted back, all {len(state)} tensors are the same, bit by bit.")
    print_run(official_run(converted, settings, args.output), args.output)


def read_config(args: argparse.Namespace, state: dict[str, Tensor]) -> Settings:
    """What the given config says beyond the weights, if its model fits; nothing without a config.

    Raises:
        CheckpointError: names or shapes differ.
    """
    if not args.config_file:
        return Settings()
    check_fits(args.config_file, args.opts, state)
    return Settings.from_config(load_config(args.config_file, args.opts).model)


def back_to_ours(
    official: Converted, ours: dict[str, Tensor], args: argparse.Namespace
) -> Converted:
    """The way back of what was made of ours."""
    own = [
        ours[key] for key in ("queries.content.weight", "queries.embedding.weight") if key in ours
    ]
    return to_ours(
        official.state,
        family=args.target,
        classes=args.classes or official.extras.get("classes", "coco"),
        num_queries=len(own[0]) if own else None,
    )


def print_notes(converted: Converted, extras: dict[str, Any], dropped: tuple[str, ...]) -> None:
    """What was not mapped, and what a user should know."""
    table = set_aside_table(extras)
    if table:
        print(f"\nSet aside in the converted file, for the way back:\n\n{table}")
    for note in converted.notes:
        print(f"\nnote: {note}.")
    if dropped:
        print(f"\nnote: not converted: {', '.join(dropped)}; train on with a fresh optimizer.")


def print_recipe(recipe: Recipe, converted: Converted, output: str) -> None:
    """The config that fits, tried out, and the command that evaluates the checkpoint."""
    for remark in recipe.remarks:
        print(f"\nnote: {remark}.")
    print(f"\n{output} is written.", end=" ")
    if recipe.config is None:
        print(
            f"No recipe under configs/ has this model; make one that imports configs/models/"
            f"{recipe.model}.py (see configs/baselines for examples)."
        )
        return
    path = Path(os.path.relpath(recipe.config))
    try:
        check_fits(path, list(recipe.overrides), converted.state)
    except (CheckpointError, ConfigError) as error:
        print(f"No recipe builds this model. The nearest config is {path}, but {error}")
        return
    print(f"All names and shapes fit {path}. Evaluate it with")
    print(f"    {evaluation_command(replace(recipe, config=path), output)}")


def print_run(run: OfficialRun, output: str) -> None:
    """How the official code evaluates the checkpoint, or why it cannot."""
    for assumption in run.assumptions:
        print(f"\nWARNING: {assumption}.")
    if run.command is None:
        print(f"\n{output} is written, but the official code cannot build its model:")
        print("\n".join(f"    {obstacle}" for obstacle in run.obstacles))
        return
    where = f"the folder {run.folder}/ of the official code" if run.folder else "the official code"
    print(f"\n{output} is written. In {where}, evaluate it (data: --coco_path) with")
    print(f"    {run.command}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parse(arguments)
    try:
        check_output(args.output, args.overwrite)
        if args.source:
            convert_to_ours(args)
        else:
            convert_to_official(args)
    except (CheckpointError, ConfigError, DatasetError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
