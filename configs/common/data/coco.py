"""COCO 2017 with the augmentation of the published MS-DETR recipes.

Training: flip; with probability 0.5 resize the short side to 400, 500 or 600 and crop 384 to 600
pixels; then resize the short side to 480..800 in steps of 32, the long side to about 1333 at most.
Evaluation: 800, about 1333 at most. Images without objects are kept, also after a crop.

Sizes and pixels are exactly those of DETR's code. The crop is detectron2's, which draws from the
same distribution: height and width each uniform from 384 to the image's side or 600, then the place
uniform. A box is dropped when less than 1e-5 pixels of a side are left of it, there when none is.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader
from omegaconf import OmegaConf

from ms_detr.data import BoxMapper, DetrResize, build_train_loader, checked_dataset_dicts
from ms_detr.evaluation import CocoEvaluator

dataloader = OmegaConf.create()

dataloader.train = L(build_train_loader)(
    # COCO's own train2017 has two boxes of zero height; "skip" lets them through to the mapper,
    # which drops them
    dataset=L(checked_dataset_dicts)(names="coco_2017_train", degenerate="skip"),
    mapper=L(BoxMapper)(
        is_train=True,
        augmentations=[
            L(T.RandomFlip)(),
            L(T.RandomApply)(
                tfm_or_aug=L(T.AugmentationList)(
                    augs=[
                        L(DetrResize)(short_edge_length=[400, 500, 600]),
                        L(T.RandomCrop)(crop_type="absolute_range", crop_size=[384, 600]),
                    ]
                ),
                prob=0.5,
            ),
            L(DetrResize)(short_edge_length=list(range(480, 801, 32)), max_size=1333),
        ],
        image_format="RGB",
        use_instance_mask=False,
    ),
    total_batch_size=16,
    num_workers=4,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(checked_dataset_dicts)(names="coco_2017_val", evaluation=True),
    mapper=L(BoxMapper)(
        is_train=False,
        augmentations=[L(DetrResize)(short_edge_length=800, max_size=1333)],
        image_format="${...train.mapper.image_format}",
    ),
    num_workers=4,
)

dataloader.evaluator = L(CocoEvaluator)(dataset_name="${..test.dataset.names}")
