"""Data sets: the embedded one of shapes, any COCO json, and the checks before the first step."""

from .augmentations import DetrResize
from .checks import check_coco_json, check_dataset
from .coco import (
    CocoJson,
    checked_dataset_dicts,
    count_classes,
    register_coco_json,
    register_shapes,
)
from .errors import DatasetError
from .from_main_process import from_main_process
from .mapper import InstanceMaskMapper
from .named_errors import BoxMapper
from .shapes import SHAPE_CATEGORY_IDS, ShapesDataset, generate_shapes
from .summary import CocoSummary
from .train_loader import TrainLoader, build_train_loader

__all__ = [
    "SHAPE_CATEGORY_IDS",
    "BoxMapper",
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
    "from_main_process",
    "generate_shapes",
    "register_coco_json",
    "register_shapes",
]
