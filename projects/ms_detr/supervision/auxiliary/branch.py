"""Auxiliary heads as detectors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from detectron2.evaluation import inference_context
from torch import nn

from ...arguments import require_kind
from ...heads import NMSDetections, Postprocess
from .head import AuxiliaryHead

if TYPE_CHECKING:
    from ...meta_arch import MSDETR
    from ..supervision_set import SupervisionSet


def auxiliary_heads(model: MSDETR) -> dict[str, AuxiliaryHead]:
    """The auxiliary heads of a detector, by the name of their supervision."""
    if model.supervisions is None:
        return {}
    heads = {
        name: getattr(supervision.source, "head", None)
        for name, supervision in model.supervisions.named()
    }
    return {name: head for name, head in heads.items() if isinstance(head, AuxiliaryHead)}


class BranchDetector(nn.Module):
    """An auxiliary head that detects by itself: encoder, head and suppression (Co-DETR, Table 11).

    It has the weights of the detector, not a copy, and is called in the same way.  Whatever mode
    the detector is in, the branch detects in that of evaluation, and leaves the mode as it was.

    Args:
        model: a detector with its supervisions.
        name: of the supervision whose head detects.
        postprocess: predictions to detections; None: ``NMSDetections(100, iou_threshold=0.6)``,
            which the released configs have for ATSS (0.5 for Faster R-CNN).

    Raises:
        ValueError: the supervision has no auxiliary head, or there is none of this name.
    """

    def __init__(self, model: MSDETR, name: str, postprocess: Postprocess | None = None):
        super().__init__()
        heads = auxiliary_heads(model)
        if name not in heads:
            raise ValueError(
                f"no auxiliary head is called {name!r}; this detector has: "
                f"{', '.join(heads) or 'none (they belong to model.supervisions)'}"
            )
        if postprocess is None:
            postprocess = NMSDetections(100, iou_threshold=0.6)
        mend = "give e.g. NMSDetections(100, iou_threshold=0.6), or None"
        require_kind("postprocess of BranchDetector", postprocess, Postprocess, mend)
        self.model = model
        self.name = name
        self.postprocess = postprocess
        self.training = model.training

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[dict]) -> list[dict]:
        """Detect; input and output are those of :class:`ms_detr.meta_arch.MSDETR`."""
        with inference_context(self.model):
            images = self.model.preprocess(list(batched_inputs))
            memory, _ = self.model.encode(images.tensor, images.image_sizes)
            supervisions = cast("SupervisionSet", self.model.supervisions)
            pyramid = supervisions.pyramid(memory, images.image_sizes)
            predictions = auxiliary_heads(self.model)[self.name].predict(pyramid)
        sizes = [self.model.output_size(item) for item in batched_inputs]
        # Candidates on padding have a score of zero; suppression may come to them.
        detections = [found[found.scores != 0] for found in self.postprocess(predictions, sizes)]
        return [{"instances": found} for found in detections]
