#!/usr/bin/env python
"""Compares the detector with recorded runs of the official MS-DETR code.

    python tools/parity.py --golden FOLDER
    python tools/parity.py --golden FOLDER --case ms_detr_c_A --precision f64

A folder holds cases (NAME.json beside NAME.npz) and matching problems (matchers.json). Of every
case the model is built from configs/, filled with the official weights through the converter, and
compared: predictions of all layers and both supervisions, proposals, detections, assignments,
losses, gradients. One line per quantity; exit code 1 if any is over its tolerance, 2 if something
cannot be read.

The inputs of the matching problems are made by the folder's goldengen.py, which is run for it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ms_detr.convert import CheckpointError
from ms_detr.parity import (
    CaseError,
    GoldenCase,
    ParityRun,
    Row,
    compare_matchers,
    find_cases,
    table,
)

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = REPOSITORY / "configs"
GENERATOR = "goldengen.py"
PROBLEMS = "matchers.json"
PRECISIONS = ("f64", "f32")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, required=True, help="folder of recorded cases")
    parser.add_argument(
        "--case",
        action="append",
        help="only this case, without the matching problems (may be given again)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="only this one")
    parser.add_argument("--generator", type=Path, help="default: FOLDER/goldengen.py")
    parser.add_argument("--output", type=Path, help="write the rows as json")
    args = parser.parse_args()
    precisions = [args.precision] if args.precision else PRECISIONS
    rows: list[Row] = []
    try:
        for path in select(find_cases(args.golden), args.case):
            case = GoldenCase.load(path)
            for precision in precisions:
                run = ParityRun(case, CONFIGS, precision)
                new = list(run.rows())
                print(table(new), flush=True)
                rows += new
                if unread := run.unread():
                    print(f"recorded, but not compared: {', '.join(unread)}")
                if missing := run.missing():
                    print(f"not recorded: {', '.join(missing)}")
        if not args.case and "f64" in precisions and (args.golden / PROBLEMS).is_file():
            new = compare_matchers(args.golden, find_generator(args.golden, args.generator))
            print(table(new), flush=True)
            rows += new
    except (CaseError, CheckpointError) as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    if not rows:
        print(f"parity: {args.golden} holds no case and no {PROBLEMS}", file=sys.stderr)
        return 2
    if args.output:
        args.output.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")
    over = sum(not row.passed for row in rows)
    print(f"{len(rows)} quantities, {over} over their tolerance")
    return int(over > 0)


def find_generator(folder: Path, given: Path | None) -> Path:
    """The file that makes the inputs: the given one, the folder's, or that of the shared data."""
    shared = Path(os.environ.get("MS_DETR_SHARED", REPOSITORY.parent / "shared"))
    places = [given] if given else [folder / GENERATOR, shared / "golden" / GENERATOR]
    for place in places:
        if place.is_file():
            return place
    raise CaseError(
        f"{folder} has matching problems, but no {GENERATOR} makes their inputs: looked for "
        f"{' and '.join(map(str, places))}; give --generator"
    )


def select(paths: list[Path], names: list[str] | None) -> list[Path]:
    """The named cases, all if none is named."""
    unknown = set(names or ()) - {path.stem for path in paths}
    if unknown:
        known = ", ".join(path.stem for path in paths)
        raise CaseError(f"no case {', '.join(sorted(unknown))}; the folder has {known}")
    return [path for path in paths if not names or path.stem in names]


if __name__ == "__main__":
    sys.exit(main())
