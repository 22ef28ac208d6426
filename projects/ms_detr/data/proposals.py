"""Values of a config that fit a data set, in the form that `train_net.py` takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .statistics import Numbers

__all__ = ["Proposal", "propose"]

_PUBLISHED_QUERIES = 300
_PUBLISHED_SHORT = 800  # short side, in pixels, of the published recipes
_LARGEST_SHORT = 1216
_LEAST_SIDE = 8.0  # pixels of a box that the finest map, of stride 8, has one cell for
_TAIL = 100  # so many times more images hold the commonest class than the rarest


@dataclass(frozen=True)
class Proposal:
    """Overrides, as they stand on the command line, and why."""

    overrides: str
    reason: str


def propose(numbers: Numbers, *, evaluation: bool = False) -> list[Proposal]:
    """What to set in `configs/custom/finetune.py`, or a config with the same keys.

    Args:
        numbers: of the training data, or those of the evaluation.
        evaluation: propose only what the evaluation reads.
    """
    split = "test" if evaluation else "train"
    made = []
    if numbers.flat_boxes:
        reason = f"{numbers.flat_boxes} boxes have zero width or height; this leaves them out"
        made.append(Proposal(f"dataloader.{split}.dataset.degenerate=skip", reason))
    if evaluation:
        return made
    if numbers.classes:
        count = len(numbers.classes)
        reason = "classes of the json; configs/custom/ read them from it by themselves"
        made.append(Proposal(f"model.heads.num_classes={count}", reason))
    if numbers.objects:
        made += [_queries(numbers), *_masks(numbers), *_image_size(numbers), *_repeats(numbers)]
    return made


def _queries(numbers: Numbers) -> Proposal:
    most = numbers.objects_per_image[2]
    wanted = max(_PUBLISHED_QUERIES, math.ceil(2 * most / 100) * 100)
    reason = f"at most {most} objects on an image: twice as many, {_PUBLISHED_QUERIES} at least"
    return Proposal(f"model.queries.num_queries={wanted}", reason)


def _masks(numbers: Numbers) -> list[Proposal]:
    if not numbers.with_mask:
        return []
    lacking = numbers.objects - numbers.with_mask
    value = "skip" if lacking else "error"
    reason = f"with a mask head only: {lacking} of {numbers.objects} objects have no mask"
    return [Proposal(f"dataloader.train.dataset.maskless={value}", reason)]


def _image_size(numbers: Numbers) -> list[Proposal]:
    """The short side: that of the recipes, less for small images, more for small objects."""
    now = numbers.short_sides[1]
    short = _PUBLISHED_SHORT if 2 * now >= _PUBLISHED_SHORT else _round32(2 * now)
    least = numbers.tenth_box * short / now
    if least < _LEAST_SIDE:
        short = min(_LARGEST_SHORT, _round32(short * _LEAST_SIDE / least))
    if short == _PUBLISHED_SHORT:
        return []
    lengths = range(_round32(0.6 * short), short + 1, 32)
    train, test = (f"dataloader.{split}.mapper.augmentations" for split in ("train", "test"))
    longest = _round32(short * 5 / 3)
    values = ",".join(map(str, lengths))
    return [
        Proposal(
            f"{train}.2.short_edge_length=[{values}] {train}.2.max_size={longest} "
            f"{test}.0.short_edge_length={short} {test}.0.max_size={longest}",
            f"half of the images have a short side below {now:g} pixels, a tenth of the boxes are "
            f"below {numbers.tenth_box:.0f} x {numbers.tenth_box:.0f}",
        )
    ]


def _repeats(numbers: Numbers) -> list[Proposal]:
    """A threshold for long tails: the rarer half of the classes is drawn more often."""
    images = sorted(item.images for item in numbers.classes if item.images)
    if len(images) < 2 or images[-1] < _TAIL * images[0]:
        return []
    threshold = float(np.median(images)) / numbers.images
    return [
        Proposal(
            f"+dataloader.train.repeat_threshold={threshold:.2g}",
            f"long tail: the commonest class is on {images[-1]} images, the rarest on {images[0]}",
        )
    ]


def _round32(value: float) -> int:
    return max(32, round(value / 32) * 32)
