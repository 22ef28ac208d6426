"""MS-DETR (c) on Deformable-DETR, R50, 300 queries, 24 epochs on LVIS v1: boxes."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.lvis import dataloader, num_classes
from ..common.optim import AdamW as optimizer
from ..common.schedule import iterations, multistep
from ..common.train import train
from ..models.ms_detr import model

IMAGES = 100170  # of lvis_v1_train

model.heads.num_classes = num_classes
# The evaluation of LVIS looks at 300 detections an image.
model.postprocess.num_detections = 300
dataloader.evaluator.tasks = ["bbox"]

lr_multiplier = multistep(24, 20, images=IMAGES)
train.max_iter = iterations(24, images=IMAGES)
train.eval_period = train.checkpointer.period = iterations(1, images=IMAGES)
train.init_checkpoint = resnet50_weights
train.output_dir = "output/lvis_ms_detr_r50_300q_24ep"
