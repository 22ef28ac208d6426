"""Makes the embedded data set of textured scenes with shapes (COCO json and JPEG images).

Example: python tools/make_shapes.py --root output/demo/data --num-train 2000 --num-val 200
"""

from __future__ import annotations

import argparse
import sys

from ms_detr.data.errors import DatasetError
from ms_detr.data.shapes import generate_shapes


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="output/demo/data", help="folder to write to")
    parser.add_argument("--num-train", type=int, default=2000, help="number of training images")
    parser.add_argument("--num-val", type=int, default=200, help="number of validation images")
    parser.add_argument("--image-size", type=int, default=128, help="side of an image in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of all scenes")
    args = parser.parse_args(arguments)
    try:
        dataset = generate_shapes(
            args.root,
            num_train=args.num_train,
            num_val=args.num_val,
            image_size=args.image_size,
            seed=args.seed,
        )
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.num_train} training and {args.num_val} validation images in {dataset.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
