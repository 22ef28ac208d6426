"""Checkpoints from anywhere: nothing of a file is run, and what cannot be weights is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import Checkpointer
from torch import Tensor

from ..convert.errors import CheckpointError
from ..convert.files import read_torch_file
from .plain_pickle import read_plain_pickle

__all__ = ["SafeCheckpointer"]

_MOST_NAMES = 3  # names of tensors that a message shows


class _WeightsOnly(Checkpointer):
    """Reads files of PyTorch of tensors and plain values; detectron2 falls back on this class."""

    def _load_file(self, f: str) -> dict[str, Any]:
        return _section(read_torch_file(f), f)


class SafeCheckpointer(DetectionCheckpointer, _WeightsOnly):
    """detectron2's checkpointer for files that nobody vouches for.

    A ``.pth`` may hold tensors and plain values, a ``.pkl`` of a model zoo numeric arrays and plain
    containers; a file that asks for anything else is refused before anything of it runs. Weights
    must be finite, and at least one must have its place in the model.
    """

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            return _zoo_form(_section(read_plain_pickle(filename), filename))
        if filename.endswith(".pyth"):
            state = _section(read_torch_file(filename), filename).get("model_state")
            state = _section(state, f"{filename}: 'model_state'")
            state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
            return {"model": state, "__author__": "pycls", "matching_heuristics": True}
        return super()._load_file(filename)

    def _load_model(self, checkpoint: Any) -> Any:
        """Puts the weights into the model.

        Raises:
            CheckpointError: "model" is no state dict, holds NaN or infinity, or is that of another
                model, of which nothing fits.
        """
        _check_state(checkpoint["model"])
        names, offered = set(self.model.state_dict()), list(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        if names and names <= set(incompatible.missing_keys):
            raise CheckpointError(
                f"none of its {len(offered)} tensors ({_some(offered)}) has the name and shape of "
                f"one of this model ({_some(sorted(names))}); is it of another model? "
                "tools/convert.py converts those of the authors"
            )
        return incompatible


def _section(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{where} holds {'an empty' if content == {} else 'a'} {type(content).__name__}, not a "
            'state dict; save {"model": state_dict}'
        )
    return content


def _zoo_form(content: dict[str, Any]) -> dict[str, Any]:
    """The forms of detectron2's model zoo, and of Detectron's and its ImageNet models."""
    if "model" in content and "__author__" in content:
        return content
    blobs = content.get("blobs", content)
    blobs = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}


def _check_state(state: Any) -> None:
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"its 'model' is {'empty' if state == {} else 'a ' + type(state).__name__}, not a "
            'state dict; save {"model": state_dict}'
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, (Tensor, np.ndarray)):
            raise CheckpointError(
                f"its 'model' is no state dict: {name!r} is a {type(value).__name__}, not a "
                'tensor; save {"model": state_dict}'
            )
        tensor = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"its tensor {name} of shape {tuple(value.shape)} holds NaN or infinity, so "
                "everything learned from it would too; take an earlier checkpoint"
            )


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
