"""Box arithmetic in logit space."""

import torch

from ms_detr.heads import apply_delta, inverse_sigmoid


def test_inverse_sigmoid_inverts_and_stays_finite():
    x = torch.tensor([0.0, 1e-6, 0.2, 0.5, 0.99, 1.0, 1.5, -3.0], dtype=torch.float64)
    y = inverse_sigmoid(x)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(y[2:5].sigmoid(), x[2:5])
    assert y[0] == y[7] == -y[5] == -y[6]
    torch.testing.assert_close(y[1], y[0], rtol=1e-6, atol=0)


def test_zero_delta_is_the_reference_box():
    box = torch.tensor([[0.1, 0.6, 0.3, 0.2]])
    torch.testing.assert_close(apply_delta(torch.zeros(1, 4), box), box)


def test_a_point_gives_the_centre_and_delta_the_size():
    result = apply_delta(torch.tensor([[0.0, 0.0, 0.0, -2.0]]), torch.tensor([[0.3, 0.7]]))
    expected = [[0.3, 0.7, 0.5, torch.tensor(-2.0).sigmoid().item()]]
    torch.testing.assert_close(result, torch.tensor(expected))
