"""What a sound data set holds."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CocoSummary"]


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
        messages: what the log says of annotations that are accepted, but used in part.
        files: paths of all image files, as the json has them.
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
    messages: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return (
            f"{self.json_file}: {self.num_images} images ({self.num_images_without_objects} "
            f"without objects), {self.num_annotations} annotations ({self.num_crowd} crowd), "
            f"{len(self.class_names)} classes"
        )
