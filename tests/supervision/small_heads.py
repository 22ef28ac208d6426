"""Small collaborative models, and an auxiliary head that is simple enough to be seen through."""

from __future__ import annotations

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from small_models import item, load, shrink
from torch import Tensor

from ms_detr.supervision import Supervision
from ms_detr.supervision.auxiliary import BACKGROUND, CoarserLevel, PyramidOfOneLevel
from ms_detr.supervision.auxiliary.anchors import AnchorGrid, anchor_generator, anchor_grid
from ms_detr.supervision.auxiliary.dense import DenseHead
from ms_detr.supervision.auxiliary.tower import DenseTower
from ms_detr.supervision.sources import (
    BoxEmbedding,
    CollaborativeQueries,
    FeatureEmbedding,
    PositionedBoxEmbedding,
    PositivesOnly,
)

BATCH = [item(64, 80, 3, seed=1), item(48, 60, 1, seed=2)]
BASES = ("deformable_detr_pp", "dino", "deformable_detr_one_stage", "dab_detr_r50")
SINGLE_SCALE = ("dab_detr_r50", "conditional_detr_r50")


class CentreHead(DenseHead):
    """A cell is to find the last object whose box its centre lies in."""

    def __init__(self, *, num_classes: int, strides, embed_dim: int = 32):
        tower = DenseTower(
            num_classes=num_classes,
            box_outputs=4,
            has_quality=False,
            per_cell=1,
            num_levels=len(strides),
            embed_dim=embed_dim,
            num_groups=8,
        )
        super().__init__(tower=tower, num_classes=num_classes, class_weight=1.0, box_weight=2.0)
        self.anchors = anchor_generator(strides, [2.0], [1.0])

    def grid(self, pyramid) -> AnchorGrid:
        return anchor_grid(self.anchors, pyramid)

    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        centers_A2 = (grid.boxes_A4[:, :2] + grid.boxes_A4[:, 2:]) / 2
        object_A = torch.full_like(grid.token_A, BACKGROUND)
        for index, box in enumerate(boxes_G4):
            inside_A = ((centers_A2 >= box[:2]) & (centers_A2 < box[2:])).all(1)
            object_A[inside_A] = index
        return object_A

    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        anchors_P4 = grid.boxes_A4[candidate_P]
        size_P2 = (anchors_P4[:, 2:] - anchors_P4[:, :2]) / 8
        near, far = raw_PD.tanh().split(2, 1)
        return anchors_P4 + torch.cat([near * size_P2, far * size_P2], 1)


def leaves_positions(base: str) -> bool:
    return base.startswith(("dino", "dab"))


def entry(base: str, selection=None, **options):
    """The config of a collaborative supervision of a base."""
    embedding = BoxEmbedding if leaves_positions(base) else PositionedBoxEmbedding
    source = {
        "head": L(CentreHead)(
            num_classes="${.....heads.num_classes}", strides="${....adapter.strides}"
        ),
        "selection": L(PositivesOnly)() if selection is None else selection,
        "boxes": L(embedding)(embed_dim=32),
        "features": L(FeatureEmbedding)(embed_dim=32),
        "num_layers": "${....decoder.num_layers}",
    }
    return L(Supervision)(
        source=L(CollaborativeQueries)(**source | options),
        assigner=None,
        terms="${..one_to_one.terms}",
        weight=1.0,
    )


def config(base: str, names: tuple[str, ...] = ("first",), selection=None, **options):
    """A small model with some collaborative entries, whose heads and queries are alike."""
    node = shrink(load(f"models/{base}.py").model)
    node.encoder.dropout = 0.0
    if names:
        if base in SINGLE_SCALE:
            adapter = L(PyramidOfOneLevel)(strides=[8, 16, 32, 64])
        else:
            adapter = L(CoarserLevel)(strides=[8, 16, 32, 64, 128])
        adapter.update(embed_dim=32, num_groups=8)
        node.supervisions.adapter = adapter
    for name in names:
        node.supervisions[name] = entry(base, selection, **options)
    return node


def build(base: str, names: tuple[str, ...] = ("first",), selection=None, **options):
    """The model of that config, with the same weights whenever it is made."""
    return made(config(base, names, selection, **options))


def made(node):
    torch.manual_seed(0)
    return instantiate(node).train()
