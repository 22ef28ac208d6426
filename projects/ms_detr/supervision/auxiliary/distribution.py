"""Boxes as distributions over distances (GFL, 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def side_logits(raw_PD: Tensor) -> Tensor:
    """Logits (P, 4, Y) of the distances 0, 1, ..., Y - 1 to left, top, right and bottom."""
    return raw_PD.unflatten(1, (4, -1))


def expected_distances(logits_P4Y: Tensor) -> Tensor:
    """Expectations (P, 4) of the distances, in [0, Y - 1] (GFL, equation 5)."""
    distance_Y = torch.arange(logits_P4Y.shape[-1], device=logits_P4Y.device)
    # Not as a matrix product, which autocast would do in half precision.
    return (logits_P4Y.softmax(-1) * distance_Y).sum(-1)


def distribution_focal_losses(logits_P4Y: Tensor, distances_P4: Tensor) -> Tensor:
    """Distribution focal losses (P,), means of the four sides (GFL, equation 6).

    They raise the probabilities of the two whole numbers beside the true distance, in inverse
    proportion to how far they are from it.

    Args:
        logits_P4Y: of the distances.
        distances_P4: true ones; beyond [0, Y - 1], which no distribution can express, they count
            as the nearest end.  (The released code ends a tenth earlier.)
    """
    last = logits_P4Y.shape[-1] - 1
    distances_P4 = distances_P4.clamp(0, last)
    below_P4 = distances_P4.floor().clamp(max=last - 1)
    above_P4 = below_P4 + 1
    logs_P4Y = F.log_softmax(logits_P4Y, -1)
    loss_P4 = torch.zeros_like(distances_P4)
    for end_P4, share_P4 in (
        (below_P4, above_P4 - distances_P4),
        (above_P4, distances_P4 - below_P4),
    ):
        logs_P4 = logs_P4Y.gather(-1, end_P4.long()[..., None])[..., 0]
        loss_P4 = loss_P4 - share_P4 * logs_P4
    return loss_P4.mean(1)
