"""Small versions of the configured models, and batches to feed them: shared by several tests."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import BitMasks, Boxes, Instances
from omegaconf import OmegaConf

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
small_resnet = LazyConfig.load(str(CONFIGS / "common/backbones/resnet.py"), "small_resnet")


def load(name: str):
    """The whole config of a file below ``configs/``."""
    return LazyConfig.load(str(CONFIGS / name))


def shrink(model, num_classes: int = 5):
    """A copy of a model's config with the same classes and few channels, layers and queries."""
    model = copy.deepcopy(model)
    widths = {"res2": 16, "res3": 32, "res4": 64, "res5": 128}
    model.neck.in_channels = {name: widths[name] for name in model.neck.in_channels}
    stages = list(widths).index(list(model.neck.in_channels)[-1]) + 1
    model.backbone = small_resnet(list(widths.values())[:stages], num_blocks=1)
    change(model.neck, embed_dim=32, num_groups=8)
    change(model.encoder, num_layers=2, feedforward_dim=48, num_heads=4, num_points=2)
    model.decoder.num_layers = 2
    change(model.decoder.layer, num_heads=4, num_points=2)
    model.queries.num_queries = 12
    model.heads.num_classes = num_classes
    if model.get("mask_head") is not None:
        channels = {"res2": 16, "res3": 32, "res4": 64}
        maps = {name: channels[name] for name in model.mask_head.in_channels}
        model.mask_head.update(in_channels=maps, num_groups=2)
        model.supervisions.one_to_one.masks.points.num_points = 200
    if "adapter" in (model.supervisions or {}):
        shrink_heads(model.supervisions)
    return model


def shrink_heads(supervisions) -> None:
    """Few channels and regions for auxiliary heads, in place."""
    supervisions.adapter.num_groups = 8
    for supervision in supervisions.values():
        source = supervision.get("source") if OmegaConf.is_config(supervision) else None
        if source is not None and "head" in source:
            change(source.head, hidden_dim=24, proposals=30, samples=16)


def change(node, **values) -> None:
    """Sets those of the values that a part of the model has."""
    node.update({key: value for key, value in values.items() if key in node})


def build(name: str, *, seed: int = 0, dropout: float = 0.0, **options) -> torch.nn.Module:
    """The shrunken model of a config file, with weights that depend on the seed only."""
    node = shrink(load(name).model, **options)
    node.encoder.dropout = dropout
    torch.manual_seed(seed)
    return instantiate(node)


def box_masks(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(G, H, W) bool: the pixels whose centre lies in a box."""
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return ((x >= x0) & (x < x1))[:, None] & ((y >= y0) & (y < y1))[..., None]


def item(height: int, width: int, num_objects: int, *, seed: int = 0, num_classes: int = 5) -> dict:
    """One training input in detectron2's format."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    corner = torch.rand(num_objects, 2, generator=generator) * size * 0.5
    extent = (0.1 + 0.4 * torch.rand(num_objects, 2, generator=generator)) * size
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.cat([corner, corner + extent], 1))
    instances.gt_masks = BitMasks(box_masks(instances.gt_boxes.tensor, height, width))
    instances.gt_classes = torch.randint(0, num_classes, (num_objects,), generator=generator)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": height, "width": width}
