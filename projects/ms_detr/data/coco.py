"""Registration of data sets in COCO format with detectron2, and their class names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from .checks import check_dataset
from .entries import check_categories, entries_of
from .errors import DatasetError, Defects
from .from_main_process import from_main_process
from .json_file import read_coco_json
from .layouts import COCO
from .lvis import require_lvis
from .segmentations import box_of, has_mask
from .shapes import ShapesDataset

__all__ = [
    "CocoJson",
    "checked_dataset_dicts",
    "count_classes",
    "register_coco_json",
    "register_shapes",
]


@dataclass(frozen=True)
class CocoJson:
    """The classes of one COCO json, numbered as detectron2 numbers them.

    detectron2 sorts the category ids and counts from 0; ids may have gaps.

    Attributes:
        json_file: path of the json.
        category_ids: ascending.
        class_names: in the same order.
    """

    json_file: str
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]

    @classmethod
    def read(cls, json_file: str | os.PathLike[str]) -> CocoJson:
        """Reads the categories of a json.

        Raises:
            DatasetError: The json or its list of categories cannot be used.
        """
        path = os.fspath(json_file)
        stamp = Path(path).stat().st_mtime_ns if Path(path).is_file() else 0
        return _read_categories(path, stamp)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.category_ids)

    @property
    def contiguous_ids(self) -> dict[int, int]:
        """From category id to class index."""
        return {number: index for index, number in enumerate(self.category_ids)}

    def require_same_classes(self, other: CocoJson) -> None:
        """Raises `DatasetError` that names the difference if ids or names are not the same."""
        mine = dict(zip(self.category_ids, self.class_names))
        theirs = dict(zip(other.category_ids, other.class_names))
        if mine == theirs:
            return
        differences = [
            f"id {number}: {mine.get(number, 'absent')!r} here, "
            f"{theirs.get(number, 'absent')!r} in the other"
            for number in sorted(mine.keys() | theirs.keys())
            if mine.get(number) != theirs.get(number)
        ]
        more = f"; and {len(differences) - 10} more" if len(differences) > 10 else ""
        raise DatasetError(
            f"{self.json_file}: its categories differ from those of {other.json_file}: "
            f"{'; '.join(differences[:10])}{more}; mend: write the same list of categories in "
            "both files, also if some do not occur in one"
        )


@lru_cache(maxsize=16)
def _read_categories(path: str, stamp: int) -> CocoJson:
    """Reads the categories; `stamp` is the time of the file and only tells versions apart."""
    del stamp
    content = read_coco_json(path)
    defects = Defects(path)
    required = COCO.keys("categories", False)
    categories = entries_of(content, "categories", defects, required=required)
    check_categories(categories, defects)
    defects.raise_any()
    categories = sorted(categories, key=lambda entry: entry["id"])
    return CocoJson(
        path,
        tuple(entry["id"] for entry in categories),
        tuple(entry["name"] for entry in categories),
    )


def count_classes(json_file: str | os.PathLike[str] | None) -> int:
    """Number of classes of a COCO json, for `num_classes` in a config.

    Raises:
        DatasetError: No json is given, or it cannot be used.
    """
    return CocoJson.read(_given(json_file, "train_json")).num_classes


def register_coco_json(
    name: str,
    json_file: str | os.PathLike[str] | None,
    image_root: str | os.PathLike[str] | None,
    *,
    same_classes_as: str | os.PathLike[str] | None = None,
    option: str = "train",
    image_key: str | None = None,
) -> str:
    """Registers a COCO json with detectron2 and returns the name, for use inside a config.

    Registering the same values again is fine.

    Args:
        name: name of the data set in `DatasetCatalog` and `MetadataCatalog`.
        json_file: path of the json.
        image_root: folder that the file names start from.
        same_classes_as: another json whose categories must be the same.
        option: "train" or "val", the prefix of the config keys that the error message names.
        image_key: config key of `image_root` that messages name; `dataset.<option>_images` if
            None. It is kept in the metadata for the checks of the image files.

    Raises:
        DatasetError: A path is missing, the json or its categories cannot be used, the categories
            differ from the other json, or the name is registered with other values.
    """
    json_file = _given(json_file, f"{option}_json")
    image_root = _given(image_root, f"{option}_images")
    classes = CocoJson.read(json_file)
    image_key = image_key or f"dataset.{option}_images"
    if not Path(image_root).is_dir():
        what = "is a file, not a folder" if Path(image_root).exists() else "does not exist"
        raise DatasetError(
            f"{image_root}: the image folder {what}; mend: correct {image_key} "
            f"(the current folder is {Path.cwd()})"
        )
    if same_classes_as is not None:
        classes.require_same_classes(CocoJson.read(same_classes_as))
    wanted = {
        "json_file": json_file,
        "image_root": image_root,
        "thing_classes": list(classes.class_names),
        "thing_dataset_id_to_contiguous_id": classes.contiguous_ids,
    }
    if name in DatasetCatalog.list():
        metadata = MetadataCatalog.get(name)
        for key, value in wanted.items():
            if metadata.get(key) != value:
                raise DatasetError(
                    f"data set {name!r} is registered already with {key} = "
                    f"{metadata.get(key)!r}, not {value!r}; mend: use another name, or "
                    "remove it from DatasetCatalog and MetadataCatalog first"
                )
        return name
    register_coco_instances(name, {}, json_file, image_root)
    MetadataCatalog.get(name).set(
        image_key=image_key,
        thing_classes=wanted["thing_classes"],
        thing_dataset_id_to_contiguous_id=wanted["thing_dataset_id_to_contiguous_id"],
    )
    return name


def register_shapes(root: str | os.PathLike[str], split: str, name: str | None = None) -> str:
    """Registers a split ("train" or "val") of the shapes made by `generate_shapes`.

    Returns:
        The name, `shapes_<split>` if none is given.

    Raises:
        DatasetError: The data set is not there, or the name is taken.
    """
    dataset = ShapesDataset(Path(root))
    json_file = dataset.json_file(split)
    if not json_file.is_file():
        raise DatasetError(
            f"{json_file}: the data set of shapes is not there; "
            f"mend: python tools/make_shapes.py --root {root}"
        )
    return register_coco_json(
        name or f"shapes_{split}",
        json_file,
        dataset.image_root(split),
        option=split,
        image_key="dataset.root",
    )


def checked_dataset_dicts(
    names: str,
    *,
    filter_empty: bool = False,
    evaluation: bool = False,
    degenerate: str = "error",
    maskless: str = "keep",
    check: bool = True,
    check_files: bool = True,
) -> list[dict]:
    """Checks a registered COCO data set, then loads it with detectron2.

    Used as `dataset` of a loader in a config, so that bad data stops before the first step.
    The main process checks, and the others wait for its answer.

    Args:
        names: name of one data set.
        filter_empty: leave out images without objects. They are useful: keep them.
        evaluation: also ask for what COCOeval needs.
        degenerate: see `check_coco_json`. Boxes of zero width or height that are let through
            are dropped by detectron2's `DatasetMapper`, not here.
        maskless: "keep" objects without a mask, where masks are not used; or, where they are,
            "error" for them, or "skip" to leave them out of training. See `check_coco_json`.
        check: false leaves out all checks, as `train.check_data=False` does.
        check_files: decode every image file.

    Returns:
        detectron2's list of dictionaries, one per image. Annotations without a box have that of
        their mask.

    Raises:
        DatasetError: The data set has defects, or is LVIS and the package `lvis` is missing.
    """
    if MetadataCatalog.get(names).get("evaluator_type") == "lvis":
        require_lvis()
    if check:
        from_main_process(
            lambda: check_dataset(
                names,
                degenerate=degenerate,
                maskless=maskless,
                evaluation=evaluation,
                check_files=check_files,
            )
        )
    records = get_detection_dataset_dicts(names, filter_empty=filter_empty)
    for record in records:
        _complete(record, drop_maskless=maskless == "skip")
    return records


def _complete(record: dict, *, drop_maskless: bool) -> None:
    """Gives annotations their boxes, and leaves out objects without a mask, in place."""
    if drop_maskless:
        record["annotations"] = [
            entry
            for entry in record["annotations"]
            if entry.get("iscrowd", 0) or has_mask(entry.get("segmentation"))
        ]
    for entry in record["annotations"]:
        if "bbox" not in entry:
            entry["bbox"] = box_of(entry["segmentation"])
            entry["bbox_mode"] = BoxMode.XYWH_ABS


def _given(value: str | os.PathLike[str] | None, key: str) -> str:
    if value is None or not os.fspath(value):
        raise DatasetError(
            f"dataset.{key} is not given; mend: add dataset.{key}=PATH to the command line"
        )
    return os.fspath(value)
