"""DAB-DETR, ResNet-50, one map of stride 32, as its code was released.

The references that teach a layer keep the gradient of the layer before, as in the released code;
without it: `model.decoder.refinement._target_=ms_detr.decoder.DetachedRefinement`. Its attention
is as wide and high as the anchors; without it: `model.decoder.position._target_` is
`ms_detr.decoder.AnchorPosition`. Positions of tokens have the temperature of the paper (4.4), 20;
positions of queries have 10000, as only the code says.
"""

from detectron2.config import LazyCall as L
from torch.nn import PReLU

from ms_detr.decoder import LookForwardTwice, ModulatedAnchorPosition
from ms_detr.encoder import ScaledDenseEncoder
from ms_detr.queries import AnchorQueries

from .conditional_detr_r50 import model

model.encoder._target_ = ScaledDenseEncoder
model.encoder.position.temperature = 20.0
model.encoder.dropout = 0.0
model.encoder.activation = L(PReLU)()
model.queries._target_ = AnchorQueries
model.decoder.position._target_ = ModulatedAnchorPosition
model.decoder.refinement._target_ = LookForwardTwice
model.postprocess.num_detections = 300
model.supervisions.one_to_one.terms["class"].weight = 1.0
