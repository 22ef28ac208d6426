"""The small MS-DETR (c) with Co-DETR's heads, K = 2, for training from scratch on a CPU.

The heads are as wide as the model, 128 channels; Faster R-CNN has fewer hidden channels and looks
at fewer regions, because small images have few.
"""

from ..common.supervision.collaborative import add_collaborative
from .ms_detr_small import model

add_collaborative(model, "atss", "faster_rcnn")
model.supervisions.faster_rcnn.source.head.update(hidden_dim=256, proposals=100, samples=64)
