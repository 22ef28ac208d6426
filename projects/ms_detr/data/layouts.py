"""Which keys a json in COCO format must have, and those of LVIS, which differs in a few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import Defects

__all__ = ["COCO", "Layout", "LvisLayout"]

_IMAGE = frozenset({"id", "width", "height"})
_ANNOTATION = frozenset({"id", "image_id", "category_id"})
_CATEGORY = frozenset({"id", "name"})


@dataclass(frozen=True)
class Layout:
    """The keys of COCO's own jsons.

    A box may be absent where a segmentation gives one, see `check_annotations`.

    Attributes:
        required: keys of every entry, by list.
        for_evaluation: keys that only the evaluation reads, and fails without.
    """

    required: Mapping[str, frozenset[str]]
    for_evaluation: Mapping[str, frozenset[str]]

    def keys(self, name: str, evaluation: bool) -> frozenset[str]:
        """Keys that every entry of the list `name` must have."""
        more = self.for_evaluation.get(name, frozenset()) if evaluation else frozenset()
        return self.required[name] | more

    def named_images(self, images: list[dict], defects: Defects) -> list[dict]:
        """The images with the path of their file below the image folder as "file_name"."""
        del defects
        return images

    def check_categories(self, categories: list[dict], defects: Defects, evaluation: bool) -> None:
        """Notes what is wrong with categories in this layout only."""


COCO = Layout(
    required={
        "categories": _CATEGORY,
        "images": _IMAGE | {"file_name"},
        "annotations": _ANNOTATION,
    },
    for_evaluation={"annotations": frozenset({"area", "iscrowd"})},
)


@dataclass(frozen=True)
class LvisLayout(Layout):
    """The keys of LVIS v1: no file names, no crowds, categories that were not looked for.

    The file of an image is the end of its "coco_url", and class indices are category ids less one.

    Attributes:
        num_classes: classes of the data set; category ids lie in [1, num_classes].
    """

    num_classes: int

    @classmethod
    def of(cls, num_classes: int) -> LvisLayout:
        """The layout of a data set with so many classes."""
        return cls(
            required={
                "categories": _CATEGORY,
                "images": _IMAGE | {"coco_url"},
                "annotations": _ANNOTATION | {"bbox", "segmentation"},
            },
            for_evaluation={
                "categories": frozenset({"frequency"}),
                "images": frozenset({"neg_category_ids", "not_exhaustive_category_ids"}),
                "annotations": frozenset({"area"}),
            },
            num_classes=num_classes,
        )

    def named_images(self, images: list[dict], defects: Defects) -> list[dict]:
        sound = []
        for entry in images:
            parts = str(entry["coco_url"]).split("/")
            if len(parts) < 2 or not all(parts[-2:]):
                what = f"coco_url {entry['coco_url']!r} does not end in folder/file"
                defects.add(f"image {entry['id']}", what, "write .../train2017/000000000001.jpg")
            else:
                sound.append({**entry, "file_name": "/".join(parts[-2:])})
        return sound

    def check_categories(self, categories: list[dict], defects: Defects, evaluation: bool) -> None:
        for entry in categories:
            where = f"category {entry['id']}"
            if not 1 <= entry["id"] <= self.num_classes:
                what = f"the id is not in 1 to {self.num_classes}, the classes that LVIS has"
                defects.add(where, what, "use the ids of the LVIS version that is registered")
            if evaluation and entry["frequency"] not in ("r", "c", "f"):
                what = f"frequency is {entry['frequency']!r}"
                defects.add(where, what, 'write "r", "c" or "f" (rare, common, frequent)')
