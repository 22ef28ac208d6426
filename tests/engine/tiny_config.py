"""A whole lazy config around the tiny detector."""

from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.data import DatasetMapper, build_detection_test_loader
from tiny_detector import CountingEvaluator, TinyDetector

from ms_detr.data import (
    build_train_loader,
    checked_dataset_dicts,
    count_classes,
    register_coco_json,
)

_common = Path(__file__).resolve().parents[2] / "configs" / "common"
train = LazyConfig.load(str(_common / "train.py")).train
optimizer = LazyConfig.load(str(_common / "optim.py")).AdamW
lr_multiplier = LazyConfig.load(str(_common / "schedule.py")).lr_multiplier_12ep

dataset = {"root": "???"}
model = L(TinyDetector)(num_classes=L(count_classes)(json_file="${dataset.root}/scenes.json"))
names = L(register_coco_json)(
    name="tiny", json_file="${dataset.root}/scenes.json", image_root="${dataset.root}"
)
dataloader = {
    "train": L(build_train_loader)(
        dataset=L(checked_dataset_dicts)(names="${names}"),
        mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="RGB"),
        total_batch_size=2,
        num_workers=0,
    ),
    "test": L(build_detection_test_loader)(
        dataset=L(checked_dataset_dicts)(names="${names}"),
        mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="RGB"),
        num_workers=0,
    ),
    "evaluator": L(CountingEvaluator)(),
}

train.max_iter = 12
train.eval_period = 5
train.log_period = 2
train.checkpointer.period = 4
train.device = "cpu"
optimizer.lr = 1e-2
