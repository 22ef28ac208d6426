"""The query-pixel head with a notion of where the query's box is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .query_pixel import QueryPixelMaskHead

# Coordinates of the box beyond which all places are alike: one and a half boxes from its centre.
_FARTHEST = 3.0
# Logit at the centre of the box before anything is learned.
_CENTRE = 2.0


class BoxPrior(nn.Module):
    """A quadratic function of the coordinates of a query's box; the query gives its coefficients.

    Its zero is an ellipse, which may move, turn and grow beyond the box; at first it is the one
    that fills the box.

    Args:
        embed_dim: channels of query states.
    """

    def __init__(self, embed_dim: int):
        super().__init__()
        self.coefficients = nn.Linear(embed_dim, 6)
        nn.init.zeros_(self.coefficients.weight)
        with torch.no_grad():
            start = [_CENTRE, 0.0, 0.0, -_CENTRE, -_CENTRE, 0.0]
            self.coefficients.bias.copy_(torch.tensor(start))

    def forward(self, states_PC: Tensor, boxes_P4: Tensor, shape: tuple[int, int]) -> Tensor:
        """Logits (P, h, w).

        Args:
            states_PC: states of queries.
            boxes_P4: their boxes (cx, cy, w, h) as fractions of the map.
            shape: (h, w) of the map.
        """
        height, width = shape
        u_Pw = self._coordinates(boxes_P4[:, 0::2], width)
        v_Ph = self._coordinates(boxes_P4[:, 1::2], height)
        coefficients_P6 = self.coefficients(states_PC).to(u_Pw.dtype)[..., None]
        one, by_u, by_v, by_uu, by_vv, by_uv = coefficients_P6.unbind(1)
        of_columns_Pw = one + by_u * u_Pw + by_uu * u_Pw**2
        of_rows_Ph = by_v * v_Ph + by_vv * v_Ph**2
        mixed_Phw = (by_uv * v_Ph)[:, :, None] * u_Pw[:, None]
        return mixed_Phw + of_columns_Pw[:, None] + of_rows_Ph[:, :, None]

    @staticmethod
    def _coordinates(center_and_size_P2: Tensor, cells: int) -> Tensor:
        """Places (P, cells) of the cells' centres: -1 and 1 at the borders of the box."""
        center_P1, size_P1 = center_and_size_P2.split(1, 1)
        options = {"device": center_P1.device, "dtype": center_P1.dtype}
        place = (torch.arange(cells, **options) + 0.5) / cells
        # A box smaller than a hundredth of a cell is a cell's hundredth.
        half_P1 = size_P1.clamp(min=0.01 / cells) / 2
        return ((place - center_P1) / half_P1).clamp(-_FARTHEST, _FARTHEST)


class LocalizedMaskHead(QueryPixelMaskHead):
    """:class:`QueryPixelMaskHead`, to whose logits a :class:`BoxPrior` is added.

    The state of a query of Deformable DETR tells a shift from its reference, not the place, so that
    equal objects in two places are hard to tell apart by the product alone; CondInst gives its mask
    heads relative coordinates for the same reason. The box itself is not taught by the masks.

    Args:
        in_channels, embed_dim, mask_dim, num_levels, num_groups: see :class:`QueryPixelMaskHead`.
    """

    def __init__(
        self,
        *,
        in_channels: dict[str, int],
        embed_dim: int = 256,
        mask_dim: int = 256,
        num_levels: int = 3,
        num_groups: int = 32,
    ):
        super().__init__(
            in_channels=in_channels,
            embed_dim=embed_dim,
            mask_dim=mask_dim,
            num_levels=num_levels,
            num_groups=num_groups,
        )
        self.prior = BoxPrior(embed_dim)

    def forward(
        self, pixels: Tensor, states_PC: Tensor, image_P: Tensor, boxes_P4: Tensor
    ) -> Tensor:
        logits_Phw = super().forward(pixels, states_PC, image_P, boxes_P4)
        return logits_Phw + self.prior(states_PC, boxes_P4.detach(), pixels.shape[-2:])
