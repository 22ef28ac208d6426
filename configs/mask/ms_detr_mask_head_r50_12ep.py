"""The mask head of Mask-MS-DETR alone, on a detector that stays as it is: 12 epochs on COCO.

    train.init_checkpoint=ms_detr_r50_300q_12ep/model_final.pth

names the detector: any checkpoint of `models/ms_detr.py`, also a converted one of the authors.
"""

from ..common.data.coco_mask import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.ms_detr_mask import model

# One-to-one pairs teach the masks; what teaches boxes is not needed.
del model.supervisions.mixed
del model.supervisions.proposals

train.freeze = ["backbone", "neck", "encoder", "queries", "decoder", "heads"]
train.init_checkpoint = "???"
train.output_dir = "output/ms_detr_mask_head_r50_12ep"
