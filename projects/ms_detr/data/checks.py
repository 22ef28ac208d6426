"""Checks of a data set in COCO format, run before the first training step.

Everything that would stop a training later, or teach it something false without a word, is an
error here, with the file, the image or annotation, the value and the mend. Nothing is repaired.
Images without objects and crowd annotations are in order and counted.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from .accepted import Accepted, check_rest, log_accepted
from .annotations import check_annotations
from .entries import check_categories, check_images, entries_of
from .errors import DatasetError, Defects
from .image_files import check_image_files
from .layouts import COCO, Layout, LvisLayout

__all__ = ["CocoSummary", "check_coco_json", "check_dataset", "read_coco_json"]

logger = logging.getLogger(__name__)

BOX_TOLERANCE = 1.0
"""Pixels that a box may reach beyond its image. Boxes rounded outwards, or counted from 1 as in
VOC, overshoot by up to one pixel; detectron2 clips them. More than that is a mistake of units."""


@dataclass(frozen=True)
class CocoSummary:
    """What a sound COCO json holds.

    Attributes:
        json_file: path of the json.
        class_names: in the order of the contiguous class indices (ascending category ids).
        num_images: all images.
        num_images_without_objects: images without any annotation that is used.
        num_annotations: all annotations, crowd included.
        num_crowd: annotations with iscrowd 1; detectron2 leaves them out of training targets.
        degenerate_ids: annotations accepted under `degenerate="skip"`: their boxes have zero
            width or height, and detectron2's mapper drops them from training targets.
        maskless_ids: annotations accepted under `maskless="skip"`: they have no mask.
        boxless_ids: annotations without a box; that of the mask takes its place.
    """

    json_file: str
    class_names: tuple[str, ...]
    num_images: int
    num_images_without_objects: int
    num_annotations: int
    num_crowd: int
    degenerate_ids: tuple[int, ...] = ()
    maskless_ids: tuple[int, ...] = ()
    boxless_ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.json_file}: {self.num_images} images ({self.num_images_without_objects} "
            f"without objects), {self.num_annotations} annotations ({self.num_crowd} crowd), "
            f"{len(self.class_names)} classes"
        )


def read_coco_json(json_file: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a COCO json.

    Raises:
        DatasetError: The file is missing or a folder, cannot be read, is not json (for instance
            truncated), or is not an object.
    """
    path = Path(json_file)
    if path.is_dir():
        raise DatasetError(
            f"{path}: this is a folder, not an annotation file; mend: give the path of the json "
            "in COCO format itself"
        )
    if not path.is_file():
        raise DatasetError(
            f"{path}: the annotation file does not exist; mend: correct the path "
            f"(the current folder is {Path.cwd()})"
        )
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        size = path.stat().st_size
        ending = "" if error.doc.rstrip().endswith("}") else " (the file ends too early)"
        raise DatasetError(
            f"{path}: not a complete json{ending}: {error.msg} at line {error.lineno} column "
            f"{error.colno}, {size} bytes; mend: export or copy the file again"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; mend: check the file") from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: the json is a {type(content).__name__}, not an object with "
            '"images", "annotations" and "categories"; mend: give a COCO annotation file '
            "(a list is what COCO results look like)"
        )
    return content


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
        check_files: open every image file (header and last bytes only).
        layout: the keys that are asked for, `COCO` or those of LVIS.
        image_key: what messages call the setting of `image_root`, such as `dataset.val_images`.
        tolerance: pixels that a box, or a mask where masks are wanted, may reach beyond its image.
        limit: how many defects are printed in full.

    Raises:
        DatasetError: Something is wrong; the message lists the first `limit` defects. Or no
            object is left for a training, because all are skipped.
    """
    _check_choices(degenerate, maskless, evaluation)
    source = os.fspath(json_file)
    content = read_coco_json(json_file)
    defects = Defects(source, limit)
    lists = {
        key: entries_of(content, key, defects, source=source, required=layout.keys(key, evaluation))
        for key in ("categories", "images", "annotations")
    }
    for key in ("categories", "images"):
        if not content[key]:
            raise DatasetError(f'{source}: the list "{key}" is empty; mend: add {key}')
    check_categories(lists["categories"], defects)
    layout.check_categories(lists["categories"], defects, evaluation)
    images = check_images(layout.named_images(lists["images"], defects), defects)
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
    defects.raise_any()
    log_accepted(source, accepted)
    left_out = frozenset() if evaluation else frozenset(accepted.degenerate + accepted.without_mask)
    check_rest(source, lists["annotations"], lists["categories"], left_out)
    return _summary(source, lists, accepted, left_out)


def _check_choices(degenerate: str, maskless: str, evaluation: bool) -> None:
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
    summary = check_coco_json(
        json_file,
        image_root,
        degenerate=degenerate,
        maskless=maskless,
        evaluation=evaluation,
        check_files=check_files,
        layout=_layout_of(metadata),
        image_key=metadata.get(
            "image_key", "image_root (for data sets of detectron2: DETECTRON2_DATASETS)"
        ),
    )
    logger.info("data set %s is in order: %s", name, summary)
    return summary


def _layout_of(metadata: Metadata) -> Layout:
    if metadata.get("evaluator_type") == "lvis":
        return LvisLayout.of(len(metadata.thing_classes))
    return COCO


def _mentioned_ids(entries: list[Any]) -> set[int]:
    """Integer ids of all entries, broken ones too, so that one defect is not noted twice."""
    ids = (entry.get("id") for entry in entries if isinstance(entry, dict))
    return {number for number in ids if isinstance(number, int)}


def _summary(
    source: str, lists: dict[str, list[dict]], accepted: Accepted, left_out: frozenset[int]
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
    )
