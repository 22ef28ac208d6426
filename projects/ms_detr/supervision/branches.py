"""What stands between a tap and the heads, in training only."""

from torch import Tensor, nn

from ..layers import FeedForward


class LayerwiseFeedForward(nn.Module):
    """An additional feed-forward for each decoder layer (MS-DETR, supplement, equation 3).

    Args:
        num_layers: decoder layers.
        embed_dim, feedforward_dim, dropout: of each feed-forward.
    """

    def __init__(
        self,
        *,
        num_layers: int = 6,
        embed_dim: int = 256,
        feedforward_dim: int = 1024,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            FeedForward(embed_dim, feedforward_dim, dropout) for _ in range(num_layers)
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, states_BNC: Tensor, layer: int) -> Tensor:
        return self.layers[layer](states_BNC)
