"""From a record of a data set to an augmented image with its objects and their masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.structures import BitMasks, Instances
from pycocotools import mask as mask_util

from .errors import DatasetError
from .named_errors import naming
from .segmentations import has_mask, rasterise

__all__ = ["InstanceMaskMapper"]

_BOX_KEYS = ("bbox", "bbox_mode", "category_id")


class InstanceMaskMapper:
    """Reads an image for the training of boxes and masks.

    It differs from detectron2's `DatasetMapper` with masks in three things: images without objects
    are kept, also where boxes are recomputed; a crop needs no shapely, because polygons are moved
    first and rasterised on the crop; and what pads a crop belongs to no mask.

    Args:
        augmentations: of detectron2, applied in order.
        image_format: "RGB" or "BGR".
        recompute_boxes: take the boxes of what is left of the masks after the augmentations, not
            what is left of the boxes. Wanted with crops, after which boxes are no longer tight.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        recompute_boxes: bool = False,
    ) -> None:
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.recompute_boxes = recompute_boxes

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Maps one record of detectron2's standard form, which is not changed.

        Returns:
            The record without "annotations", with "image" (3, H, W) uint8 and "instances", whose
            gt_boxes, gt_classes and gt_masks (BitMasks of (H, W)) are those of the objects of
            which something is left. Crowds are no objects.

        Raises:
            DatasetError: An object has no mask, or the image cannot be read or augmented.
        """
        with naming(record):
            return self._map(record)

    def _map(self, record: dict[str, Any]) -> dict[str, Any]:
        image = utils.read_image(record["file_name"], format=self.image_format)
        mapped = {key: value for key, value in record.items() if key != "annotations"}
        utils.check_image_size(mapped, image)
        sample = T.AugInput(image)
        transforms = self.augmentations(sample)
        pixels = np.ascontiguousarray(sample.image.transpose(2, 0, 1))
        mapped["image"] = torch.as_tensor(pixels)
        objects = [entry for entry in record.get("annotations", ()) if not entry.get("iscrowd", 0)]
        _require_masks(record, objects)
        mapped["instances"] = self._instances(objects, transforms, sample.image.shape[:2])
        return mapped

    def _instances(
        self, objects: list[dict], transforms: T.TransformList, size: tuple[int, int]
    ) -> Instances:
        boxes = [
            utils.transform_instance_annotations(
                {key: entry[key] for key in _BOX_KEYS}, transforms, size
            )
            for entry in objects
        ]
        instances = utils.annotations_to_instances(boxes, size)
        masks = [_mask(entry["segmentation"], transforms, size) for entry in objects]
        instances.gt_masks = BitMasks(
            torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *size, dtype=torch.bool)
        )
        instances = utils.filter_empty_instances(instances)
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return instances


def _require_masks(record: dict[str, Any], objects: list[dict]) -> None:
    for index, entry in enumerate(objects):
        if not has_mask(entry.get("segmentation")):
            raise DatasetError(
                f"{record['file_name']} (image {record.get('image_id')}): object {index} with bbox "
                f"{entry['bbox']} has no mask; mend: dataloader.train.dataset.maskless=error names "
                "all such objects before the training, maskless=skip leaves them out"
            )


def _mask(segmentation: Any, transforms: T.TransformList, size: tuple[int, int]) -> np.ndarray:
    """A segmentation in the augmented image, (H, W) bool."""
    if isinstance(segmentation, dict):
        # where the image is padded, so is the mask, with 0 or 255
        return transforms.apply_segmentation(mask_util.decode(segmentation)) == 1
    moved = [
        transforms.apply_coords(np.array(polygon, dtype=np.float64).reshape(-1, 2)).ravel()
        for polygon in segmentation
    ]
    return rasterise(moved, *size)
