#!/usr/bin/env python
"""Prints how to reproduce a row of the reproduction ledger, docs/reproduce.md.

    python tools/reproduce.py                          lists the rows
    python tools/reproduce.py ms_detr_r50_300q_12ep    commands, what to expect, what differs
    python tools/reproduce.py --check                  compares the ledger with the configs

``--num-gpus N`` keeps the batch: with fewer GPUs each gets more images, and the recipe is the same.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ms_detr.config import load_config
from ms_detr.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent
LEDGER = REPOSITORY / "docs" / "reproduce.md"
FOLDERS = ("ms_detr", "baselines", "variants", "comparators", "combined", "collaborative")
ITERATIONS_PER_EPOCH = 7393  # of 16 images, see configs/common/schedule.py
BATCH = 16


class LedgerError(ValueError):
    """The ledger cannot be read."""


@dataclass(frozen=True)
class Difference:
    """What sets a recipe apart from the published run, and the overrides that mend it, if any."""

    text: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One row of the ledger: a recipe, and what was published for it.

    Attributes:
        config: path below ``configs``, without ".py"; its last part is the row's name.
        queries, epochs: of the recipe.
        ap: published box AP in percent, as it is written there; None if nothing was published.
        source: label of the publication.
        differs: labels of the differences.
        checkpoint: (family of ``tools/convert.py``, address) of the published weights.
        answers: what a recipe without a published number is for.
        ours: AP that this code reached, or "not run".
    """

    config: str
    queries: int
    epochs: int
    ours: str
    ap: str | None = None
    source: str | None = None
    differs: tuple[str, ...] = ()
    checkpoint: tuple[str, str] | None = None
    answers: str = ""

    @property
    def name(self) -> str:
        """What the row is called on the command line."""
        return self.config.rpartition("/")[2]


@dataclass(frozen=True)
class Ledger:
    """Rows by name, sources and differences by label."""

    rows: dict[str, Row]
    sources: dict[str, str]
    differences: dict[str, Difference]

    def overrides(self, row: Row) -> list[str]:
        """Overrides that bring the recipe closest to the published run."""
        return [text for label in row.differs for text in self.differences[label].overrides]


def read_ledger(text: str) -> Ledger:
    """Reads the tables and lists of the ledger.

    Raises:
        LedgerError: a cell cannot be read, a name occurs twice, or a label is not explained.
    """
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", text, re.MULTILINE))
    addresses = dict(re.findall(r"^\[(\w+)\]: (\S+)$", text, re.MULTILINE))
    wanted = ["Published numbers", "Recipes without a published number", "Sources"]
    wanted += ["What differs from the published run"]
    missing = [title for title in wanted if title not in sections]
    if missing:
        raise LedgerError(f"the ledger has no section {missing[0]!r}")
    rows: dict[str, Row] = {}
    for title in wanted[:2]:
        for cells in _table(sections[title]):
            row = _row(cells, addresses)
            if row.name in rows:
                raise LedgerError(f"{row.name} has two rows")
            rows[row.name] = row
    sources = _definitions(sections[wanted[2]])
    differences = {
        label: _difference(item) for label, item in _definitions(sections[wanted[3]]).items()
    }
    for row in rows.values():
        for label in ({row.source} if row.source else set()) - sources.keys():
            raise LedgerError(f"{row.name}: source {label!r} is not among {list(sources)}")
        for label in set(row.differs) - differences.keys():
            raise LedgerError(f"{row.name}: {label!r} is not among {list(differences)}")
    return Ledger(rows, sources, differences)


def _table(section: str) -> list[dict[str, str]]:
    lines = [line.strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    header, *body = ([cell.strip() for cell in line.split("|")] for line in lines)
    for cells in body[1:]:
        if len(cells) != len(header):
            raise LedgerError(f"{len(cells)} cells under {len(header)} headings: {cells}")
    return [dict(zip(header, cells)) for cells in body[1:]]


def _row(cells: dict[str, str], addresses: dict[str, str]) -> Row:
    config = cells["config"].strip("`")
    for key in ("queries", "epochs"):
        if not cells[key].isdigit():
            raise LedgerError(f"{config}: {key} is {cells[key]!r}, not a whole number")
    row = Row(config, int(cells["queries"]), int(cells["epochs"]), cells["ours"])
    if "AP" not in cells:
        return replace(row, answers=cells["answers"])
    if not re.fullmatch(r"\d\d\.\d", cells["AP"]):
        raise LedgerError(f"{config}: AP is {cells['AP']!r}; write it like 47.6")
    link = re.fullmatch(r"\[([\w-]+)\]\[(\w+)\]", cells["checkpoint"])
    if cells["checkpoint"] != "-" and (link is None or link[2] not in addresses):
        raise LedgerError(f"{config}: checkpoint is {cells['checkpoint']!r}, with no address")
    return replace(
        row,
        ap=cells["AP"],
        source=cells["source"],
        differs=tuple(x.strip() for x in cells["differs"].split(",") if x.strip() != "-"),
        checkpoint=(link[1], addresses[link[2]]) if link else None,
    )


def _definitions(section: str) -> dict[str, str]:
    """Items "- **label**: text", over several lines, by label."""
    items = re.findall(r"^- \*\*([\w-]+)\*\*: (.+(?:\n  .+)*)", section, re.MULTILINE)
    return {label: " ".join(text.split()) for label, text in items}


def _difference(item: str) -> Difference:
    text, _, overrides = item.partition(" Overrides: ")
    return Difference(text, tuple(re.findall(r"`([^`]+)`", overrides)))


def check(ledger: Ledger, configs: Path) -> list[str]:
    """Where ledger and configs disagree, one sentence each."""
    files = {f"{name}/{path.stem}" for name in FOLDERS for path in (configs / name).glob("*.py")}
    listed = {row.config for row in ledger.rows.values()}
    wrong = [f"configs/{config}.py has no row in the ledger" for config in sorted(files - listed)]
    for row in ledger.rows.values():
        wrong += [f"{row.name}: {text}" for text in _disagreements(ledger, row, configs)]
    used = {label for row in ledger.rows.values() for label in (row.source, *row.differs)}
    unused = sorted((ledger.sources.keys() | ledger.differences.keys()) - used)
    return wrong + [f"{label!r} is explained, but no row uses it" for label in unused]


def _disagreements(ledger: Ledger, row: Row, configs: Path) -> list[str]:
    path = configs / f"{row.config}.py"
    if not path.is_file():
        return [f"there is no configs/{row.config}.py"]
    try:
        cfg = load_config(path)
        if overrides := ledger.overrides(row):
            load_config(path, overrides)
    except ConfigError as error:
        return [str(error)]
    wrong = []
    if cfg.model.queries.num_queries != row.queries:
        wrong.append(f"{row.queries} queries, but {cfg.model.queries.num_queries} in the config")
    if cfg.train.max_iter != row.epochs * ITERATIONS_PER_EPOCH:
        wrong.append(f"{row.epochs} epochs, but {cfg.train.max_iter} iterations in the config")
    if cfg.dataloader.train.total_batch_size != BATCH:
        wrong.append(f"the config's batch is not {BATCH}")
    if cfg.train.output_dir != f"output/{row.name}":
        wrong.append(f"the config writes to {cfg.train.output_dir}, not to output/{row.name}")
    found = re.findall(r"published AP (\d\d\.\d)", ast.get_docstring(ast.parse(path.read_text())))
    if found != ([row.ap] if row.ap else []):
        wrong.append(f"published AP {row.ap}, but the config's text says {found or 'none'}")
    return wrong


def commands(ledger: Ledger, row: Row, num_gpus: int = 8) -> dict[str, list[str]]:
    """Command lines by what they do: "train", "evaluate", and "checkpoint" if weights are public.

    Raises:
        LedgerError: the batch cannot be divided among so many GPUs.
    """
    overrides = ledger.overrides(row)
    given = dict(text.partition("=")[::2] for text in overrides)
    batch = int(given.get("dataloader.train.total_batch_size", BATCH))
    if num_gpus < 1 or batch % num_gpus:
        fitting = [n for n in range(1, batch + 1) if batch % n == 0]
        raise LedgerError(f"{batch} images cannot be divided among {num_gpus} GPUs: use {fitting}")
    config = f"configs/{row.config}.py"
    shape = [text for text in overrides if re.match(r"\+?model\.(?!supervisions\.)", text)]
    run = ["python", "train_net.py", "--config-file", config, "--num-gpus", str(num_gpus)]

    def evaluate(weights: str, *more: str) -> str:
        return shlex.join([*run, "--eval-only", *shape, f"train.init_checkpoint={weights}", *more])

    steps = {
        "train": [shlex.join([*run, *overrides])],
        "evaluate": [evaluate(f"output/{row.name}/model_final.pth")],
    }
    if row.checkpoint:
        family, _ = row.checkpoint
        converted = f"output/published/{row.name}.pth"
        convert = ["python", "tools/convert.py", "--from", family, "checkpoint.pth", converted]
        convert += ["--num-queries", str(row.queries)] * (family == "h-detr" and "_pp_" in row.name)
        steps["checkpoint"] = [
            "mkdir -p output/published",
            shlex.join([*convert, "--config-file", config, *shape]),
            evaluate(converted, "train.output_dir=output/published"),
        ]
    return steps


def describe(ledger: Ledger, row: Row, num_gpus: int = 8) -> str:
    """What a user reads about a row."""
    steps = commands(ledger, row, num_gpus)
    lines = [f"{row.name}: {row.queries} queries, {row.epochs} epochs; this code: {row.ours}"]
    if row.ap:
        lines += [f"expect AP {row.ap}", f"  {row.source}: {ledger.sources[row.source or '']}"]
    else:
        lines += [f"no number was published; answers: {row.answers}"]
    lines += ["", f"train (GPUs: {num_gpus}; DETECTRON2_DATASETS holds coco/):"]
    lines += [f"  {line}" for line in steps["train"]]
    lines += ["", "evaluate:", *(f"  {line}" for line in steps["evaluate"])]
    if row.checkpoint:
        lines += ["", "evaluate the published weights, saved as checkpoint.pth, from"]
        lines += [f"  {row.checkpoint[1]}", *(f"  {line}" for line in steps["checkpoint"])]
    if row.differs:
        lines += ["", "differs from the published run:"]
        for label in row.differs:
            mended = " (mended by the overrides above)" * bool(ledger.differences[label].overrides)
            lines.append(f"  {label}{mended}: {ledger.differences[label].text}")
    return "\n".join(lines)


def listing(ledger: Ledger) -> str:
    """All rows, one line each."""
    width = max(map(len, ledger.rows))
    return "\n".join(
        f"{row.name:{width}}  {'AP ' + row.ap if row.ap else '-':7}  {row.ours}"
        for row in ledger.rows.values()
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", nargs="?", help="name of a row; without one, all are listed")
    parser.add_argument("--num-gpus", type=int, help="GPUs of a row's commands (8)")
    parser.add_argument("--check", action="store_true", help="compare the ledger with the configs")
    args = parser.parse_args(arguments)
    if args.check and args.row is not None:
        parser.error(f"--check compares all rows: leave out {args.row!r}, or --check")
    if args.num_gpus is not None and args.row is None:
        parser.error(f"--num-gpus {args.num_gpus} is for the commands of a row: name a row")
    try:
        ledger = read_ledger(LEDGER.read_text())
        if args.check:
            wrong = check(ledger, REPOSITORY / "configs")
            print("\n".join(wrong) or f"{len(ledger.rows)} rows agree with their configs")
            return int(bool(wrong))
        if args.row is None:
            print(listing(ledger))
            return 0
        name = Path(args.row).stem
        if name not in ledger.rows:
            close = difflib.get_close_matches(name, ledger.rows, n=1)
            hint = f"did you mean {close[0]}?" if close else "without a name all are listed"
            raise LedgerError(f"no row {args.row!r} in docs/reproduce.md; {hint}")
        print(describe(ledger, ledger.rows[name], 8 if args.num_gpus is None else args.num_gpus))
    except LedgerError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
