"""Checks of a data set in COCO format, run before the first training step.

Everything that would stop a training later, or teach it something false without a word, is an
error here, with the file, the image or annotation, the value and the mend. Nothing is repaired.
Images without objects and crowd annotations are in order and counted.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from .accepted import Accepted, accepted_messages, check_rest
from .annotations import check_annotations
from .check_cache import checked_once
from .entries import check_categories, check_images, entries_of
from .errors import DatasetError, Defects
from .image_files import check_image_files
from .json_file import read_coco_json
from .layouts import COCO, Layout, LvisLayout
from .summary import CocoSummary

__all__ = ["check_choices", "check_coco_json", "check_dataset", "inspect", "layout_of"]

logger = logging.getLogger(__name__)

BOX_TOLERANCE = 1.0
"""Pixels that a box may reach beyond its image. Boxes rounded outwards, or counted from 1 as in
VOC, overshoot by up to one pixel; detectron2 clips them. More than that is a mistake of units."""


def check_coco_json(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    degenerate: str = "error",
    maskless: str = "keep",
    evaluation: bool = False,
    check_files: bool = True,
    layout: Layout = COCO,
    image_key: str = "image_root",
    tolerance: float = BOX_TOLERANCE,
    limit: int = 10,
) -> CocoSummary:
    """Checks a COCO json and its image files.

    Args:
        json_file: path of the json.
        image_root: folder that the file names of the images start from.
        degenerate: what to do with boxes of zero width or height: "error", or "skip" to accept
            and log them. COCO's own train2017 has two. Negative and non-finite boxes are always
            errors.
        maskless: what to do with objects without a mask, that is without a segmentation or with
            one that covers nothing: "keep" where only boxes are wanted; "error"; or "skip" to
            accept and log them. In training, polygons of fewer than three points beside others
            count likewise.
            Crowds need a mask in evaluation only, where "skip" is not possible.
        evaluation: also ask for what COCOeval needs: "area" (finite, at least 0) and "iscrowd"
            of every annotation, and no annotation with id 0.
        check_files: decode every image file, see `check_image_files`.
        layout: the keys that are asked for, `COCO` or those of LVIS.
        image_key: what messages call the setting of `image_root`, such as `dataset.val_images`.
        tolerance: pixels that a box, or a mask where masks are wanted, may reach beyond its image.
        limit: how many defects are printed in full.

    Raises:
        DatasetError: Something is wrong; the message lists the first `limit` defects. Or no
            object is left for a training, because all are skipped.
    """
    check_choices(degenerate, maskless, evaluation)
    source = os.fspath(json_file)
    content = read_coco_json(json_file)
    defects = Defects(source, limit)
    lists, accepted = inspect(
        content,
        image_root,
        defects,
        degenerate=degenerate,
        maskless=maskless,
        evaluation=evaluation,
        check_files=check_files,
        layout=layout,
        image_key=image_key,
        tolerance=tolerance,
    )
    defects.raise_any()
    left_out = frozenset() if evaluation else frozenset(accepted.degenerate + accepted.without_mask)
    messages = accepted_messages(source, accepted)
    messages += check_rest(source, lists["annotations"], lists["categories"], left_out)
    for message in messages:
        logger.warning("%s", message)
    return _summary(source, lists, accepted, left_out, messages)


def inspect(
    content: dict[str, Any],
    image_root: str | os.PathLike[str],
    defects: Defects,
    *,
    degenerate: str,
    maskless: str,
    evaluation: bool,
    check_files: bool,
    layout: Layout,
    image_key: str,
    tolerance: float = BOX_TOLERANCE,
) -> tuple[dict[str, list[dict]], Accepted]:
    """Notes all defects of a json and its image files; each stage looks at what is sound so far.

    Args: see `check_coco_json`; `content` is the json, and `defects` is where they are noted.

    Returns:
        The sound entries by list, and what is accepted though it is used in part.
    """
    lists = {
        key: entries_of(content, key, defects, required=layout.keys(key, evaluation))
        for key in ("categories", "images", "annotations")
    }
    check_categories(lists["categories"], defects)
    layout.check_categories(lists["categories"], defects, evaluation)
    images = check_images(layout.named_images(lists["images"], defects), defects)
    accepted = Accepted()
    # without one of the lists, every reference to it would be a defect
    if content.get("images") and content.get("categories"):
        accepted = check_annotations(
            lists["annotations"],
            images,
            defects,
            image_ids=_mentioned_ids(content["images"]),
            category_ids=_mentioned_ids(content["categories"]),
            tolerance=tolerance,
            degenerate=degenerate,
            maskless=maskless,
            evaluation=evaluation,
        )
    if check_files:
        check_image_files(images, image_root, defects, image_key=image_key)
    outside = tuple(entry["id"] for entry in images if _is_outside(image_root, entry["file_name"]))
    return {**lists, "images": images}, replace(accepted, outside=outside)


def _is_outside(image_root: str | os.PathLike[str], file_name: str) -> bool:
    """Whether a file name, taken as it is written, climbs out of the image folder."""
    root = os.path.abspath(image_root)
    path = os.path.abspath(os.path.join(root, file_name))
    return os.path.commonpath([root, path]) != root


def check_choices(degenerate: str, maskless: str, evaluation: bool) -> None:
    """Raises `DatasetError` if an option is none of those that `check_coco_json` knows."""
    if degenerate not in ("error", "skip"):
        raise DatasetError(f'degenerate is {degenerate!r}; mend: use "error" or "skip"')
    if maskless not in ("keep", "error", "skip"):
        raise DatasetError(f'maskless is {maskless!r}; mend: use "keep", "error" or "skip"')
    if evaluation and maskless == "skip":
        raise DatasetError(
            'maskless is "skip", but objects cannot be left out of an evaluation; mend: use '
            '"error", or "keep" to evaluate boxes only'
        )


def check_dataset(
    name: str,
    *,
    degenerate: str = "error",
    maskless: str = "keep",
    evaluation: bool = False,
    check_files: bool = True,
) -> CocoSummary:
    """Runs `check_coco_json` for a data set that is registered in detectron2, COCO's or LVIS's.

    What was found sound is not checked again until it changes, see `check_cache`.

    Raises:
        DatasetError: The name is not registered, was not registered with a COCO json, or the
            data set has defects.
    """
    if name not in DatasetCatalog.list():
        known = ", ".join(sorted(DatasetCatalog.list())) or "none"
        raise DatasetError(
            f"data set {name!r} is not registered; mend: register it, or use one of: {known}"
        )
    metadata = MetadataCatalog.get(name)
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
    if json_file is None or image_root is None:
        raise DatasetError(
            f"data set {name!r} was registered without json_file and image_root, so it cannot be "
            "checked; mend: register it with register_coco_json"
        )
    if not Path(json_file).exists():
        raise DatasetError(
            f"{json_file}: the annotation file of data set {name!r} does not exist; mend: put the "
            "data set there, or, for one that detectron2 brings, set the environment variable "
            f"DETECTRON2_DATASETS to the folder it is in (the current folder is {Path.cwd()})"
        )
    options: dict[str, Any] = {
        "degenerate": degenerate,
        "maskless": maskless,
        "evaluation": evaluation,
        "check_files": check_files,
        "layout": layout_of(metadata),
        "image_key": metadata.get(
            "image_key", "image_root (for data sets of detectron2: DETECTRON2_DATASETS)"
        ),
    }

    def check() -> CocoSummary:
        return check_coco_json(json_file, image_root, **options)

    summary, again = checked_once(json_file, image_root, options, check)
    if again:
        for message in summary.messages:
            logger.warning("%s", message)
    when = "is in order, as when it was checked last" if again else "is in order"
    logger.info("data set %s %s: %s", name, when, summary)
    return summary


def layout_of(metadata: Metadata) -> Layout:
    """The layout of a registered data set."""
    if metadata.get("evaluator_type") == "lvis":
        return LvisLayout.of(len(metadata.thing_classes))
    return COCO


def _mentioned_ids(entries: list[Any]) -> set[int]:
    """Integer ids of all entries, broken ones too, so that one defect is not noted twice."""
    ids = (entry.get("id") for entry in entries if isinstance(entry, dict))
    return {number for number in ids if isinstance(number, int)}


def _summary(
    source: str,
    lists: dict[str, list[dict]],
    accepted: Accepted,
    left_out: frozenset[int],
    messages: list[str],
) -> CocoSummary:
    categories = sorted(lists["categories"], key=lambda entry: entry["id"])
    annotations = lists["annotations"]
    occupied = {entry["image_id"] for entry in annotations if entry["id"] not in left_out}
    return CocoSummary(
        json_file=source,
        class_names=tuple(entry["name"] for entry in categories),
        num_images=len(lists["images"]),
        num_images_without_objects=len(lists["images"]) - len(occupied),
        num_annotations=len(annotations),
        num_crowd=sum(entry.get("iscrowd", 0) for entry in annotations),
        degenerate_ids=accepted.degenerate,
        maskless_ids=accepted.without_mask,
        boxless_ids=accepted.boxless,
        messages=tuple(messages),
        files=tuple(entry["file_name"] for entry in lists["images"]),
    )
