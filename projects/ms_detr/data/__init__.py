"""Data sets: the embedded one of shapes, any COCO json, and the checks before the first step."""

from .augmentations import DetrResize
from .checks import CocoSummary, check_coco_json, check_dataset
from .coco import (
    CocoJson,
    checked_dataset_dicts,
    count_classes,
    register_coco_json,
    register_shapes,
)
from .errors import DatasetError
from .mapper import InstanceMaskMapper
from .shapes import SHAPE_CATEGORY_IDS, ShapesDataset, generate_shapes
from .train_loader import TrainLoader, build_train_loader

__all__ = [
    "SHAPE_CATEGORY_IDS",
    "CocoJson",
    "CocoSummary",
    "DatasetError",
    "DetrResize",
    "InstanceMaskMapper",
    "ShapesDataset",
    "TrainLoader",
    "build_train_loader",
    "check_coco_json",
    "check_dataset",
    "checked_dataset_dicts",
    "count_classes",
    "generate_shapes",
    "register_coco_json",
    "register_shapes",
]
