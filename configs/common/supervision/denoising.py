"""Denoising: queries made of objects and noise, as DN-DETR and DINO have them.

The functions go with any model whose queries start from boxes: two-stage models and those with
learned anchors; mixed supervision and other additions included.
"""

from detectron2.config import LazyCall as L

from ms_detr.supervision import Supervision
from ms_detr.supervision.sources import ContrastiveNoisedBoxes, NoisedBoxes

from .one_to_one import detection_terms

_SIZES = {"num_classes": "${....heads.num_classes}", "embed_dim": "${....neck.embed_dim}"}


def add_denoising(model, groups: int = 5) -> None:
    """Add DN-DETR's denoising queries, in place: ``groups`` times every object."""
    model.supervisions.denoising = L(Supervision)(
        source=L(NoisedBoxes)(**_SIZES, num_groups=groups, box_noise=0.4, flip_probability=0.2),
        assigner=None,
        tap="output",
        terms=detection_terms(),
        weight=1.0,
    )


def add_contrastive_denoising(model, pairs: int = 100) -> None:
    """Add DINO's contrastive denoising queries, in place: about ``pairs`` pairs an image."""
    model.supervisions.denoising = L(Supervision)(
        source=L(ContrastiveNoisedBoxes)(
            **_SIZES, num_pairs=pairs, box_noise=1.0, flip_probability=0.25
        ),
        assigner=None,
        tap="output",
        terms=detection_terms(),
        weight=1.0,
    )
