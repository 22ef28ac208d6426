"""LVIS v1: 1203 classes on the images of COCO 2017, with masks, augmented as in `coco.py`.

Images of rare classes are drawn more often. The package `lvis` is needed when data are read:
`pip install --no-deps lvis`. Jsons lie in `DETECTRON2_DATASETS/lvis`, images in `.../coco`.
"""

from detectron2.config import LazyCall as L

from ms_detr.lvis_evaluation import LvisEvaluator

from .coco_mask import dataloader

num_classes = 1203

dataloader.train.repeat_threshold = 0.001
dataloader.train.dataset.names = "lvis_v1_train"
dataloader.test.dataset.names = "lvis_v1_val"
dataloader.evaluator = L(LvisEvaluator)(
    dataset_name="${..test.dataset.names}", tasks=["bbox", "segm"]
)
