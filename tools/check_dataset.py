#!/usr/bin/env python
"""Reports all that is wrong with a data set at once, what it holds, and values for a config.

    python tools/check_dataset.py train.json --images images/train
    python tools/check_dataset.py coco_2017_train
    python tools/check_dataset.py --config-file configs/custom/small.py dataset.train_json=... ...

Ends with 0 if the data set is sound, with 1 if it has defects, and with 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig

import ms_detr.data.checks as checks
from ms_detr.config import load_config
from ms_detr.data.errors import DatasetError
from ms_detr.data.report import DatasetReport, examine
from ms_detr.data.statistics import Numbers
from ms_detr.engine.checks import dataset_nodes
from ms_detr.errors import ConfigError
from ms_detr.visualization import save_class_histogram

_BAR = 40  # characters of the longest bar
_MOST_CLASSES = 30
_FEW = 3  # defects of each kind that are printed


class CallError(ValueError):
    """The command line asks for something that cannot be done."""


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", nargs="?", help="a json, or a name registered in detectron2")
    parser.add_argument("--images", help="folder that the file names in the json start from")
    parser.add_argument("--config-file", help="check the data sets of this config")
    parser.add_argument(
        "--evaluation", action="store_true", help="ask for what COCOeval needs, too"
    )
    parser.add_argument("--degenerate", choices=("error", "skip"), default="error")
    parser.add_argument("--maskless", choices=("keep", "error", "skip"), default="keep")
    parser.add_argument("--no-files", action="store_true", help="do not open the images")
    parser.add_argument("--all", action="store_true", help="list every defect and every class")
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    parser.add_argument("--plot", metavar="FILE", help="draw the class histogram, a .png")
    known, rest = parser.parse_known_args(arguments)
    if known.config_file and known.dataset is not None:
        rest, known.dataset = [known.dataset, *rest], None  # it is the first override
    options = [text for text in rest if text.startswith("-") and "=" not in text]
    if options or (rest and not known.config_file):
        parser.error(f"unrecognised: {' '.join(options or rest)}")
    known.overrides = rest
    return known


def find_data_sets(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What to hand to `examine`, for each data set that the command line means."""
    common = {"check_files": not args.no_files, "limit": sys.maxsize if args.all else _FEW}
    if args.config_file:
        cfg = load_config(args.config_file, args.overrides)
        for split in ("train", "test"):
            for node in dataset_nodes(cfg, split):
                options = {key: node[key] for key in ("degenerate", "maskless") if key in node}
                for source in sources_of(node.get("names")):
                    yield {**source, **options, **common, "evaluation": split == "test"}
        return
    if args.dataset is None:
        raise CallError("give a json with --images FOLDER, a registered name, or --config-file")
    options = {"degenerate": args.degenerate, "maskless": args.maskless}
    options = {**options, **common, "evaluation": args.evaluation}
    if args.dataset in DatasetCatalog.list():
        yield {**registered(args.dataset), **options}
    elif not args.dataset.endswith(".json") and not Path(args.dataset).exists():
        close = difflib.get_close_matches(args.dataset, DatasetCatalog.list(), n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise CallError(
            f"{args.dataset!r} is neither a file nor registered; {hint}give a json with --images "
            "FOLDER, or a name that detectron2 knows"
        )
    elif not Path(args.dataset).exists():
        raise CallError(f"{args.dataset} does not exist; correct the path")
    elif args.images is None and not args.no_files:
        raise CallError(f"give the folder of the images of {args.dataset}: --images FOLDER")
    else:
        yield {"json_file": args.dataset, "image_root": args.images or "", **options}


def sources_of(names: Any) -> Iterator[dict[str, Any]]:
    """Where the data sets of a config lie; a json that is to be registered need not be sound."""
    if isinstance(names, DictConfig) and names.get("json_file") and names.get("image_root"):
        yield {"json_file": names.json_file, "image_root": names.image_root}
        return
    found = instantiate(names)
    for name in [found] if isinstance(found, str) else found:
        yield registered(name)


def registered(name: Any) -> dict[str, Any]:
    """Json, image folder and layout of a data set that detectron2 knows."""
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog.list() else {}
    if not metadata or metadata.get("json_file") is None or metadata.get("image_root") is None:
        raise CallError(f"{name!r} is not registered with a json and an image folder")
    return {
        "json_file": metadata.json_file,
        "image_root": metadata.image_root,
        "layout": checks.layout_of(metadata),
    }


def describe(report: DatasetReport, everything: bool) -> Iterator[str]:
    """The lines that are printed of one data set."""
    yield f"{report.json_file}, images in {report.image_root}"
    yield ""
    yield from _defects(report)
    if report.notes:
        yield "Notes"
        yield from (f"  {note}" for note in report.notes)
        yield ""
    yield from _numbers(report.numbers)
    yield from _histogram(report.numbers, sys.maxsize if everything else _MOST_CLASSES)
    if report.proposals:
        yield "Proposed for train_net.py"
        for proposal in report.proposals:
            yield f"  # {proposal.reason}"
            yield f"  {proposal.overrides}"
        yield ""


def _defects(report: DatasetReport) -> Iterator[str]:
    if not report.num_defects:
        yield "No defects"
        yield ""
        return
    yield f"{report.num_defects} defects"
    for group in report.defects:
        yield f"  {group.count} x {group.noun}; mend: {group.mend}"
        yield from (f"    {finding.where}: {finding.what}" for finding in group.findings)
        hidden = group.count - len(group.findings)
        if hidden:
            yield f"    ... and {hidden} more (--all lists them)"
    yield ""


def _numbers(numbers: Numbers) -> Iterator[str]:
    def spread(values: tuple[int, float, int]) -> str:
        return f"{values[0]} to {values[2]}, median {values[1]:g}"

    sizes = ", ".join(f"{count} {name}" for name, count in numbers.box_sizes.items())
    rows = {
        "images": f"{numbers.images}, {numbers.images_without_objects} without objects",
        "annotations": f"{numbers.annotations}, {numbers.crowd} of them crowds",
        "objects": f"{numbers.objects}, {numbers.with_mask} of them with a mask",
        "objects per image": spread(numbers.objects_per_image),
        "boxes": f"{sizes} (limits: 32 x 32 and 96 x 96 pixels)",
        "short sides of images": spread(numbers.short_sides),
        "long sides of images": spread(numbers.long_sides),
        "different image sizes": str(numbers.image_sizes),
    }
    yield "Numbers"
    yield from (f"  {name:<22} {value}" for name, value in rows.items())
    yield ""


def _histogram(numbers: Numbers, most: int) -> Iterator[str]:
    ranked = sorted(numbers.classes, key=lambda item: -item.objects)
    if not ranked:
        return
    yield f"Objects of the {len(ranked)} classes"
    wide = min(30, max(len(item.name) for item in ranked[:most]))
    for item in ranked[:most]:
        bar = "#" * max(bool(item.objects), round(_BAR * item.objects / max(1, ranked[0].objects)))
        name = item.name if item.name.isprintable() else ascii(item.name)[1:-1]
        yield f"  {name[:wide]:<{wide}} {item.objects:>8} {bar}"
    if len(ranked) > most:
        yield f"  ... and {len(ranked) - most} rarer classes (--all lists them)"
    yield ""


def write_json(path: str, reports: list[DatasetReport]) -> None:
    """Writes all reports; numbers that are not finite cannot occur in them."""
    content = {"data_sets": [report.as_dict() for report in reports]}
    Path(path).write_text(json.dumps(content, indent=2))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = read_arguments(arguments)
    reports = []
    try:
        for options in find_data_sets(args):
            reports.append(examine(**options))
            print("\n".join(describe(reports[-1], args.all)))
        if args.json:
            write_json(args.json, reports)
        if args.plot and reports:
            title = Path(reports[0].json_file).name
            save_class_histogram(reports[0].numbers.classes, args.plot, title=title)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (CallError, ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(any(report.num_defects for report in reports))


if __name__ == "__main__":
    sys.exit(main())
