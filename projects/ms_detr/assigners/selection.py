"""Choosing from score matrices without device synchronisation; equal scores go to the lowest index.

All shapes are known on the host: G objects of the whole batch, N queries, K slots of an object.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import Targets


def top_k_first(score_GN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest entries of every row and their columns, largest first.

    Of equal entries the one with the lowest column comes first, on every device (``torch.topk``
    leaves that open).

    Args:
        score_GN: float32 or float64; 0 or more, or -1 for what is better not taken.
        k: at least 1.

    Returns:
        values and columns, (G, min(k, N)) each.
    """
    columns = score_GN.shape[1]
    k = min(k, columns)
    if score_GN.dtype == torch.float64:
        # Made for verification: as exact, and slower.
        value_GN, column_GN = score_GN.sort(dim=1, descending=True, stable=True)
        return value_GN[:, :k], column_GN[:, :k]
    # One integer holds score and column, so that no two are equal and topk has no choice: the bits
    # of floats from 0 on are in the order of the floats, and those of -1 are below.
    key_GN = score_GN.view(torch.int32).long().mul_(1 << 32)
    key_GN += torch.arange(columns - 1, -1, -1, device=score_GN.device)
    column_GK = columns - 1 - (key_GN.topk(k, dim=1)[0] & 0xFFFFFFFF)
    return score_GN.gather(1, column_GK), column_GK


def lowest_k_first(cost_GN: Tensor, k: int) -> Tensor:
    """Columns (G, min(k, N)) of the ``k`` smallest entries of every row, smallest first.

    Of equal entries the one with the lowest column comes first, as in :func:`top_k_first`.

    Args:
        cost_GN: float32 or float64, 0 or more.
        k: at least 1.
    """
    k = min(k, cost_GN.shape[1])
    if cost_GN.dtype == torch.float64:
        return cost_GN.sort(dim=1, stable=True)[1][:, :k]
    key_GN = cost_GN.view(torch.int32).long().mul_(1 << 32)
    key_GN += torch.arange(cost_GN.shape[1], device=cost_GN.device)
    return key_GN.topk(k, dim=1, largest=False)[0] & 0xFFFFFFFF


def favourites(score_GN: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Highest score of every query among the objects of its image, and that object.

    Of objects with equal scores the first one is taken.

    Returns:
        best_BN, and object_BN (an index into G).  In images without objects these are -1 and G.
    """
    objects, queries = score_GN.shape
    cells = (len(targets.counts), queries)
    image_G = targets.image_G
    image_GN = image_G[:, None].expand(-1, queries)
    best_BN = score_GN.new_full(cells, -1.0).scatter_reduce_(0, image_GN, score_GN, "amax")
    # 0 + the object's number where it has the best score, `objects` + the number elsewhere.
    number_GN = best_BN.index_select(0, image_G).sub_(score_GN).sign_().mul_(objects)
    number_GN += torch.arange(objects, device=score_GN.device)[:, None]
    object_BN = score_GN.new_full(cells, objects).scatter_reduce_(0, image_GN, number_GN, "amin")
    # Of NaN no number comes out, but an index must.
    return best_BN, object_BN.nan_to_num_(nan=objects).long()


def label_owners(cell_P: Tensor, score_P: Tensor, valid_P: Tensor, cells: int) -> Tensor:
    """Which pair of every query says its class: the one with the highest score, then the first.

    Args:
        cell_P: number of the query within the batch, image * N + query.
        score_P: score of the pair.
        valid_P: slots that hold a pair; others own nothing.
        cells: number of queries in the batch.
    """
    score_P = score_P.masked_fill(~valid_P, -1.0)
    best = score_P.new_full((cells,), -1.0).scatter_reduce_(0, cell_P, score_P, "amax")
    best_P = valid_P & (score_P == best[cell_P])
    slot_P = torch.arange(len(cell_P), device=cell_P.device)
    late_P = slot_P.masked_fill(~best_P, len(cell_P))
    first = slot_P.new_full((cells,), len(cell_P)).scatter_reduce_(0, cell_P, late_P, "amin")
    return best_P & (first[cell_P] == slot_P)
