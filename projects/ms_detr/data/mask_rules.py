"""What is asked of the masks of annotations, by what they are wanted for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .segmentations import absence, box_of, has_mask, segmentation_fault, slivers

__all__ = ["MaskRule"]


@dataclass(frozen=True)
class MaskRule:
    """What is asked of the mask of an annotation.

    Attributes:
        maskless: "keep" where no masks are wanted, "error" or "skip" for objects without one.
        evaluation: crowds need a mask too, and nothing can be left out.
        tolerance: pixels that a mask may reach beyond the image.
        key: the setting of `maskless`, for messages.
    """

    maskless: str
    evaluation: bool
    tolerance: float
    key: str

    def fault(self, entry: dict, by_id: dict[int, dict]) -> tuple[str, str]:
        """(what, mend) of a segmentation that cannot be used; what is "" if it can, or is absent.

        Args:
            entry: the annotation.
            by_id: the entries of the images.
        """
        segmentation, image = entry.get("segmentation"), by_id.get(entry["image_id"])
        size = (image["height"], image["width"]) if image else None
        tolerance = None if self.maskless == "keep" else self.tolerance
        what, mend = segmentation_fault(segmentation, size, tolerance)
        if what:
            return what, mend
        if "bbox" not in entry and not has_mask(segmentation):
            what = f'lacks "bbox", and has no mask that gives one ({absence(segmentation)})'
            return what, 'add "bbox", or a segmentation'
        count = slivers(segmentation)
        if self.maskless != "error" or not count:
            return "", ""
        if not self.evaluation:
            polygons = "1 polygon" if count == 1 else f"{count} polygons"
            what = f"segmentation has {polygons} of fewer than 3 points beside others"
            return what, f"remove what is too short, or leave it out with {self.key}=skip"
        if slivers(entry["segmentation"][:1]):
            what = "the first polygon has fewer than 3 points, and COCOeval takes it for a box"
            return what, "remove it"
        return "", ""

    def lacks(self, entry: dict) -> bool:
        """Whether a sound annotation is one that has to have a mask, and has none."""
        return self._needs_mask(entry) and not has_mask(entry.get("segmentation"))

    def is_cut(self, entry: dict) -> bool:
        """Whether a sound annotation has a mask that is wanted, but not all of its polygons."""
        segmentation = entry.get("segmentation")
        return self.maskless != "keep" and bool(slivers(segmentation)) and has_mask(segmentation)

    def is_apart(self, entry: dict) -> bool:
        """Whether the box of an annotation shares nothing with that of its mask, if one is wanted.

        The annotation is sound, and `lacks` is false of it.
        """
        if "bbox" not in entry or not self._needs_mask(entry):
            return False
        x, y, width, height = entry["bbox"]
        left, top, wide, high = box_of(entry["segmentation"])
        beside = x + width <= left or left + wide <= x
        return beside or y + height <= top or top + high <= y

    def missing(
        self, annotations: list[dict], lacking: list[dict]
    ) -> Iterator[tuple[int | None, str, str]]:
        """What to say of objects without a mask where this is an error.

        Args:
            annotations: all entries.
            lacking: those of which `lacks` is true, at least one.

        Yields:
            (index in `lacking`, what, mend); or once, with None, if no object has a mask.
        """
        boxes = (
            f"evaluate boxes only with {self.key}=keep dataloader.evaluator.tasks=[bbox]"
            if self.evaluation
            else "train boxes only: take a config without a mask head, such as "
            "configs/custom/small.py"
        )
        # all others count, unsound ones too: of these it is not known what they were meant to be
        if len(lacking) > 1 and len(lacking) == sum(map(self._needs_mask, annotations)):
            what = f"none of the {len(lacking)} objects has a mask, but masks are wanted"
            reason = absence(lacking[0].get("segmentation"))
            yield (
                None,
                f"{what} (annotation {lacking[0]['id']}: {reason})",
                f"add masks, or {boxes}",
            )
            return
        leave = "" if self.evaluation else f", leave such objects out with {self.key}=skip"
        for index, entry in enumerate(lacking):
            what = f"has no mask ({absence(entry.get('segmentation'))}), but masks are wanted"
            yield index, what, f"annotate the mask{leave}, or {boxes}"

    def _needs_mask(self, entry: dict) -> bool:
        # crowds are no targets in training, but regions without penalty in evaluation
        return self.maskless != "keep" and (self.evaluation or not entry.get("iscrowd", 0))
