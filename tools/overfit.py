#!/usr/bin/env python
"""Can a model learn a handful of images by heart?  The first check of data, labels and a recipe.

    python tools/overfit.py --json instances.json --images folder --output output/overfit

Takes the first images that have objects, writes their annotations to ``OUTPUT/subset.json``, trains
``configs/custom/overfit.py`` on them and evaluates on the same images.  An AP50 far below 100 then
means wrong labels, a wrong setting, or too few iterations.  With ``--masks`` it is
``configs/custom/overfit_mask.py``, for boxes and masks.  Never a result to report.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ms_detr.data import DatasetError, check_coco_json

REPOSITORY = Path(__file__).resolve().parent.parent


def subset(content: dict, num_images: int) -> dict:
    """The first images with objects that are not crowds, and their annotations; all categories."""
    wanted = {a["image_id"] for a in content["annotations"] if not a.get("iscrowd", 0)}
    images = [image for image in content["images"] if image["id"] in wanted][:num_images]
    kept = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in kept]
    return {**content, "images": images, "annotations": annotations}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="annotations in COCO format")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--num-images", type=int, default=8, help="images to learn")
    parser.add_argument("--masks", action="store_true", help="learn the masks too")
    parser.add_argument(
        "--output", type=Path, default=Path("output/overfit"), help="folder for all"
    )
    parser.add_argument("opts", nargs="*", help="overrides for train_net.py, key=value")
    args = parser.parse_args(arguments)
    if args.num_images < 1:
        parser.error(f"--num-images is {args.num_images}, but must be at least 1")
    path = args.output / "subset.json"
    try:
        # boxes of zero size are left to the checks of the training, where a setting accepts them
        check_coco_json(args.json, args.images, degenerate="skip", check_files=False)
        small = subset(json.loads(args.json.read_text()), args.num_images)
        args.output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(small))
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = error.strerror or error
        print(
            f"error: {path} cannot be written ({reason}); mend: give another --output",
            file=sys.stderr,
        )
        return 2
    overrides = [f"train.output_dir={args.output}"]
    for split in ("train", "val"):
        overrides += [f"dataset.{split}_json={path}", f"dataset.{split}_images={args.images}"]
    name = "overfit_mask.py" if args.masks else "overfit.py"
    config = REPOSITORY / "configs" / "custom" / name
    command = [sys.executable, str(REPOSITORY / "train_net.py"), "--config-file", str(config)]
    command += ["--num-gpus", "0", *overrides, *args.opts]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
