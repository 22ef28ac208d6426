"""Train MS-DETR (c) on Deformable-DETR++, R50, on any COCO-format json, given on the command line:

    dataset.train_json=... dataset.train_images=... dataset.val_json=... dataset.val_images=...

Classes and their number come from the json.  The backbone starts from ImageNet; give
train.init_checkpoint=... to start from a detector.  Length: train.max_iter, in batches of
dataloader.train.total_batch_size; scale optimizer.lr with the batch (2e-4 is for 16 images).
"""

from detectron2.config import LazyCall as L

from ms_detr.data import count_classes
from ms_detr.heads import ClippedDetections

from ..common.backbones.resnet import resnet50_weights
from ..common.data.custom import dataloader, dataset
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.ms_detr_pp import model

model.heads.num_classes = L(count_classes)(json_file="${dataset.train_json}")
model.postprocess = L(ClippedDetections)(detections=model.postprocess)

train.init_checkpoint = resnet50_weights
train.max_iter = 10000
train.eval_period = 1000
train.checkpointer.period = 1000
train.output_dir = "output/custom"
