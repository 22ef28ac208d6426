"""How a trained detector is made ready for use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import nn

from ..encoder import DeformableEncoderLayer
from ..layers import FeedForward, MultiScaleDeformableAttention
from ..meta_arch import MSDETR
from ..queries.two_stage import ProposalQueries
from .attention import ChunkedDeformableAttention, ChunkedEncoderLayer
from .batch_norm import fold_batch_norm
from .detector import BFloat16Detector, PreparedDetector
from .feed_forward import ChunkedFeedForward
from .linear import PointwiseLinear, dilate_pixel_kernels
from .precision import keep_places_in_float32, weights_to_bfloat16
from .proposals import ChosenProposalQueries
from .replace import replace_modules

_PARTS = ("backbone", "neck", "encoder", "queries", "decoder", "heads", "mask_head", "postprocess")
_DETECTORS = {torch.float32: PreparedDetector, torch.bfloat16: BFloat16Detector}

Lever = Callable[[PreparedDetector], None]


def prepare_for_inference(model: MSDETR, *, dtype: torch.dtype = torch.float32) -> PreparedDetector:
    """A copy of a trained detector that only detects, and does it faster.

    Supervisions are left out, constant batch norms folded, convolutions get the layout that they
    are fastest in, boxes of the first stage are made for the chosen tokens only; on CPUs tokens are
    treated a few thousand at a time, and linear layers go to the faster library.  None of it
    changes more than rounding does; docs/performance.md has figures.

    Args:
        model: the detector, with its weights; it stays as it is, in training or evaluation mode.
        dtype: float32, or bfloat16: then products of matrices are, places and scores are not.

    Returns:
        A detector on the device of ``model``, called in the same way.  It stays in evaluation mode,
        needs no gradients, and weights cannot be loaded into it.

    Raises:
        ValueError: another dtype, another kind of model, or a detector that is prepared already.
    """
    if dtype not in _DETECTORS:
        raise ValueError(
            f"prepare_for_inference: dtype must be torch.float32 or torch.bfloat16, got {dtype}"
        )
    if not isinstance(model, MSDETR):
        raise ValueError(
            f"prepare_for_inference: wants an MSDETR, got a {type(model).__name__}; if it wraps "
            "the detector, give what it wraps (model.module)"
        )
    if isinstance(model, PreparedDetector):
        raise ValueError(
            "prepare_for_inference: this detector is prepared already; give the one that it was "
            "made of"
        )
    return prepared(model, dtype, levers_for(model.device, dtype))


def prepared(model: MSDETR, dtype: torch.dtype, levers: Iterable[Lever]) -> PreparedDetector:
    """:func:`prepare_for_inference` with chosen levers, of arguments that were checked."""
    # In one go, so that what parts share stays shared.
    parts = copy.deepcopy({name: getattr(model, name) for name in _PARTS})
    mean, std = (x.flatten().tolist() for x in (model.pixel_mean, model.pixel_std))
    detector = _DETECTORS[dtype](**parts, pixel_mean=mean, pixel_std=std)
    detector.to(device=model.device, dtype=torch.float32)
    for pull in levers:
        pull(detector)
    return detector.requires_grad_(False).eval()


def levers_for(device: torch.device, dtype: torch.dtype) -> list[Lever]:
    """Everything that pays on a device, in the order in which it is to be done."""
    levers: list[Lever] = [fold_norms, lay_out_channels_last, box_chosen_tokens]
    if device.type == "cpu":
        levers.append(treat_tokens_by_chunks)
    if dtype == torch.bfloat16:
        levers.append(multiply_in_bfloat16)
    elif device.type == "cpu" and torch.backends.mkldnn.is_available():
        levers.append(multiply_by_convolution)
    return levers


def fold_norms(detector: PreparedDetector) -> None:
    """Batch norms that are constant become a part of their convolutions."""
    fold_batch_norm(detector)


def lay_out_channels_last(detector: PreparedDetector) -> None:
    """Convolutions get their maps pixel by pixel, not channel by channel; tokens need that too."""
    detector.to(memory_format=torch.channels_last)


def box_chosen_tokens(detector: PreparedDetector) -> None:
    """The first stage makes boxes of the tokens that become queries, not of all."""
    if isinstance(detector.queries, ProposalQueries):
        detector.queries = ChosenProposalQueries(detector.queries)


def treat_tokens_by_chunks(detector: PreparedDetector) -> None:
    """What lies between two layers of a token stays in the cache: pays where fresh memory costs."""
    replace_modules(detector, DeformableEncoderLayer, ChunkedEncoderLayer)
    replace_modules(detector, MultiScaleDeformableAttention, ChunkedDeformableAttention)
    replace_modules(detector, FeedForward, ChunkedFeedForward)


def multiply_by_convolution(detector: PreparedDetector) -> None:
    """Linear layers in float32 go to oneDNN."""
    replace_modules(detector, nn.Linear, PointwiseLinear)
    dilate_pixel_kernels(detector)


def multiply_in_bfloat16(detector: PreparedDetector) -> None:
    """Weights of products in bfloat16, but for those of scores and boxes."""
    keep_places_in_float32(detector)
    weights_to_bfloat16(detector)
