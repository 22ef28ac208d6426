"""Detectors that only detect."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from ..meta_arch import MSDETR
from ..structures import DecoderStates, LayerPredictions, Proposals


class PreparedDetector(MSDETR):
    """A detector that :func:`ms_detr.inference.prepare_for_inference` made; it cannot be trained.

    It is called as :class:`ms_detr.meta_arch.MSDETR` in evaluation.  Its ``state_dict`` has the
    folded weights and fits no other detector: save the detector that it was made of.

    Args:
        parts: as those of :class:`ms_detr.meta_arch.MSDETR`, without supervisions.
    """

    def __init__(self, **parts: Any):
        super().__init__(**parts, supervisions=None)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PreparedDetector:
        """Evaluation is the only mode.

        Raises:
            ValueError: ``mode`` is True.
        """
        if mode:
            raise ValueError(
                "this detector was prepared for inference: its batch norms are folded and its "
                "supervisions are gone; train the one that prepare_for_inference was given"
            )
        super().train(False)
        return self

    def load_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses.

        Raises:
            ValueError: always; weights of a checkpoint are not those of a prepared detector.
        """
        raise ValueError(
            "this detector was prepared for inference, and its weights are no longer those of a "
            "checkpoint; load the checkpoint first, then call prepare_for_inference"
        )


class BFloat16Detector(PreparedDetector):
    """The same with products of matrices in bfloat16, under autocast.

    Places, softmax, scores and the refinement of boxes are computed in float32.
    """

    def forward(
        self, batched_inputs: list[dict], num_boxes: Tensor | None = None
    ) -> dict[str, Tensor] | list[dict]:
        with self._autocast():  # masks are made after detect and predict
            return super().forward(batched_inputs, num_boxes)

    def detect(
        self, images_B3HW: Tensor, image_sizes: list[tuple[int, int]]
    ) -> tuple[DecoderStates, Proposals | None]:
        with self._autocast():
            return super().detect(images_B3HW, image_sizes)

    def predict(self, states: DecoderStates) -> LayerPredictions:
        with self._autocast():
            return super().predict(states)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)
