"""From data of boxes to data of boxes and masks."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from ms_detr.data import InstanceMaskMapper


def add_masks(dataloader: DictConfig, *, maskless: str, recompute_boxes: bool) -> None:
    """Makes the loaders give masks too, and the evaluator score both, in place.

    Args:
        dataloader: that of a data config in this folder.
        maskless: "error" for training objects without a mask, or "skip" to leave them out.
        recompute_boxes: boxes of what augmentations leave of the masks: for those that crop.
    """
    dataloader.train.dataset.maskless = maskless
    dataloader.train.mapper = L(InstanceMaskMapper)(
        augmentations=dataloader.train.mapper.augmentations,
        image_format=dataloader.train.mapper.image_format,
        recompute_boxes=recompute_boxes,
    )
    dataloader.test.dataset.maskless = "error"
    dataloader.evaluator.tasks = ["bbox", "segm"]
