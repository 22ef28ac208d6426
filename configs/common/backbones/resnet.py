"""ResNets of detectron2.  ``in_channels`` of the neck must name maps that the backbone gives."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet

# torchvision's ResNet-50 (stride in the 3x3 convolution): stem and first stage frozen, C3 to C5 used.
resnet50 = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
    stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=False, norm="FrozenBN"),
    out_features=["res3", "res4", "res5"],
    freeze_at=2,
)
resnet50_channels = {"res3": 512, "res4": 1024, "res5": 2048}
resnet50_weights = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"

# Mean and deviation of ImageNet in RGB order and 0..255, as torchvision's weights expect.
imagenet_mean = [123.675, 116.28, 103.53]
imagenet_std = [58.395, 57.12, 57.375]
