"""Denoising: queries made of objects and noise, as DN-DETR and DINO have them.

The functions go with any model whose queries start from boxes: two-stage models and those with
learned anchors; mixed supervision and other additions included.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L

from ms_detr.supervision.sources import ContrastiveNoisedBoxes, NoisedBoxes

_sizes = {"num_classes": "${....heads.num_classes}", "embed_dim": "${....neck.embed_dim}"}


def add_denoising(model, groups: int = 5) -> None:
    """Add DN-DETR's denoising queries, in place: every object ``groups`` times."""
    source = L(NoisedBoxes)(**_sizes, num_groups=groups, box_noise=0.4, flip_probability=0.2)
    _add(model, source)


def add_contrastive_denoising(model, pairs: int = 100) -> None:
    """Add DINO's contrastive denoising queries, in place: about ``pairs`` pairs an image."""
    source = L(ContrastiveNoisedBoxes)(
        **_sizes, num_pairs=pairs, box_noise=1.0, flip_probability=0.25
    )
    _add(model, source)


def _add(model, source) -> None:
    """The supervision of the source's queries: what is taught one-to-one, to known objects."""
    if "denoising" in model.supervisions:
        raise ValueError(
            "this model has model.supervisions.denoising already; delete it before another kind of "
            "denoising is added"
        )
    denoising = deepcopy(model.supervisions.one_to_one)
    denoising.update(source=source, assigner=None, weight=1.0)
    model.supervisions.denoising = denoising
