"""Any data set in COCO format that has masks, given on the command line, see `custom.py`.

The json may leave out the boxes: they are then those of the masks. Objects without a mask are
errors; `dataloader.train.dataset.maskless=skip` leaves them out of the training.
"""

from .custom import dataloader, dataset
from .masks import add_masks

add_masks(dataloader, maskless="error", recompute_boxes=True)
