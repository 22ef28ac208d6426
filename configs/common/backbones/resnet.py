"""ResNets of detectron2.  ``in_channels`` of the neck must name maps that the backbone gives."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock

from ms_detr.backbone import FoldedResNet

# torchvision's ResNet-50 (stride in the 3x3 convolution); stem and first stage are frozen.
resnet50 = L(FoldedResNet)(
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


def small_resnet(widths, num_blocks=2, norm="BN"):
    """A ResNet of basic blocks, trained from scratch; ``widths``: channels of res2, res3, ..."""
    stages = []
    for index, width in enumerate(widths):
        stages.append(
            L(ResNet.make_stage)(
                block_class=BasicBlock,
                num_blocks=num_blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
                in_channels=widths[max(index - 1, 0)],
                out_channels=width,
                norm=norm,
            )
        )
    names = [f"res{index + 2}" for index in range(len(widths))]
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=widths[0], norm=norm),
        stages=stages,
        out_features=names,
        freeze_at=0,
    )
