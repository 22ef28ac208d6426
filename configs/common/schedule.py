"""Learning-rate schedules of the published recipes: one drop to a tenth, no warm-up.

Iterations: COCO train2017 has 118287 images. 8 processes take ceil(118287 / 8) = 14786 images
each, in batches of 2: 7393 iterations per epoch. That equals ceil(118287 / 16).

    epochs | drop after | train.max_iter | the drop, in iterations
        12 |         11 |          88716 |  81323
        24 |         20 |         177432 | 147860
        36 |         30 |         266148 | 221790
        50 |         40 |         369650 | 295720

The schedule is relative: with another ``train.max_iter`` the drop moves in proportion.
"""

import math

from detectron2.config import LazyCall as L
from fvcore.common.param_scheduler import MultiStepParamScheduler


def iterations(epochs, images=118287, batch=16):
    """Iterations in ``epochs`` passes over ``images`` images, in batches of ``batch``."""
    return epochs * math.ceil(images / batch)


def multistep(epochs, drop, images=118287, batch=16, gamma=0.1):
    """The factor on the learning rate: 1, and ``gamma`` after ``drop`` of ``epochs`` epochs."""
    return L(MultiStepParamScheduler)(
        values=[1.0, gamma],
        milestones=[iterations(drop, images, batch)],
        num_updates=iterations(epochs, images, batch),
    )


lr_multiplier_12ep = multistep(12, 11)
lr_multiplier_24ep = multistep(24, 20)
lr_multiplier_36ep = multistep(36, 30)
lr_multiplier_50ep = multistep(50, 40)
