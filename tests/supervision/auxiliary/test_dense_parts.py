"""What dense heads are made of: anchors, the tower, losses, normalisers."""

from __future__ import annotations

import torch
from supervision.auxiliary.dense_cases import (
    NUM_CLASSES,
    OBJECTS,
    SIZES,
    image_alone,
    maps_for,
    targets_of,
)
from torchvision.ops import sigmoid_focal_loss

from ms_detr.supervision.auxiliary import BACKGROUND, UNUSED
from ms_detr.supervision.auxiliary.anchors import anchor_generator, anchor_grid
from ms_detr.supervision.auxiliary.dense import centerness
from ms_detr.supervision.auxiliary.losses import Pairs, focal_loss, shared_normalizer
from ms_detr.supervision.auxiliary.tower import DenseTower


def test_anchors_by_level_cell_and_shape():
    pyramid = maps_for([(40, 70), (64, 30)], strides=(16, 32))
    grid = anchor_grid(anchor_generator((16, 32), [2.0, 4.0], [0.5, 1.0, 2.0]), pyramid)
    assert grid.counts == (4 * 5 * 6, 2 * 3 * 6)
    low, high = grid.boxes_A4.chunk(2, 1)
    # The seventh cell is the second of the second row; its centre is its corner.
    cell = slice(6 * 6, 7 * 6)
    assert (grid.token_A[cell] == 6).all()
    torch.testing.assert_close((low + high)[cell] / 2, torch.tensor([[16.0, 16.0]]).expand(6, 2))
    width, height = (high - low)[cell].T
    torch.testing.assert_close((width * height).sqrt(), torch.tensor([32.0] * 3 + [64.0] * 3))
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1.0, 2.0] * 2))
    assert torch.equal(grid.on_image_BA, pyramid.on_image_BS[:, grid.token_A])


def test_the_grid_of_one_image():
    pyramid = maps_for([(40, 70), (64, 30)], strides=(16, 32))
    generator = anchor_generator((16, 32), [2.0, 4.0], [1.0])
    grid = anchor_grid(generator, pyramid)
    for image in (0, 1):
        own, place = grid.of_image(image)
        alone = anchor_grid(generator, image_alone(pyramid, image))
        assert torch.equal(own.boxes_A4, alone.boxes_A4)
        assert own.counts == alone.counts
        assert torch.equal(own.on_image_BA, alone.on_image_BA)
        assert torch.equal(own.boxes_A4, grid.boxes_A4[place])
        assert torch.equal(own.token_A, grid.token_A[place])


def test_rows_of_a_tower_are_in_the_order_of_anchors():
    torch.manual_seed(0)
    tower = DenseTower(
        num_classes=3, box_outputs=4, has_quality=True, per_cell=2, num_levels=2,
        embed_dim=8, num_convs=0, num_groups=4,
    )  # fmt: skip
    with torch.no_grad():
        tower.scales.copy_(torch.tensor([1.0, 3.0]))
    maps = [torch.randn(1, 8, 3, 5), torch.randn(1, 8, 2, 3)]
    output = tower(maps)
    assert output.logits_BAK.shape == (1, 2 * (15 + 6), 3)
    # Second level, row 1, column 2, second anchor.
    row = 2 * (15 + 1 * 3 + 2) + 1
    for rows, predictor, size, scale in (
        (output.logits_BAK, tower.classes, 3, 1.0),
        (output.boxes_BAD, tower.boxes, 4, 3.0),
        (output.quality_BA[..., None], tower.quality, 1, 1.0),
    ):
        there = predictor(maps[1])[0, size : 2 * size, 1, 2]
        torch.testing.assert_close(rows[0, row], there * scale)


def test_a_new_tower_scores_everything_low():
    tower = DenseTower(
        num_classes=3, box_outputs=4, has_quality=False, per_cell=1, num_levels=1, embed_dim=32
    )
    output = tower([torch.randn(2, 32, 8, 8)])
    scores = output.logits_BAK.sigmoid()
    assert 0.003 < scores.min() < 0.01 < scores.max() < 0.03
    assert output.quality_BA is None


def random_outcome():
    """Logits, an assignment with all kinds of candidates, and the targets."""
    torch.manual_seed(0)
    pyramid = maps_for(SIZES)
    targets = targets_of(pyramid, OBJECTS)
    object_BA = torch.randint(-2, len(targets.labels_G), (3, 50))
    logits = torch.randn(3, 50, NUM_CLASSES, dtype=torch.float64, requires_grad=True)
    return logits, object_BA, targets


def test_focal_loss_is_that_of_torchvision():
    logits, object_BA, targets = random_outcome()
    one_hot = torch.zeros_like(logits)
    for image, row in enumerate(object_BA.tolist()):
        for candidate, number in enumerate(row):
            if number >= 0:
                one_hot[image, candidate, targets.labels_G[number]] = 1
    used = object_BA != UNUSED
    expected = sigmoid_focal_loss(logits[used], one_hot[used], reduction="sum")
    loss = focal_loss(logits, object_BA, Pairs.of(object_BA), targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (loss, expected)))


def test_pairs_are_the_positives():
    object_BA = torch.tensor([[BACKGROUND, 3, UNUSED], [0, BACKGROUND, 1]])
    pairs = Pairs.of(object_BA)
    assert pairs.image_P.tolist() == [0, 1, 1]
    assert pairs.candidate_P.tolist() == [1, 0, 2]
    assert pairs.object_P.tolist() == [3, 0, 1]


def test_centerness_of_known_points():
    points = torch.tensor([[5.0, 5.0], [2.0, 5.0], [0.0, 5.0], [1.0, 2.0], [-1.0, 5.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(5, 4)
    expected = torch.tensor([1.0, 0.5, 0.0, (1 / 9 * 2 / 8) ** 0.5, 0.0])
    torch.testing.assert_close(centerness(points, boxes), expected)


def test_normalizer_of_one_process():
    assert shared_normalizer(torch.tensor(0.0)) == 1
    assert shared_normalizer(torch.tensor(0.25)) == 1
    total = torch.tensor(7.5, requires_grad=True)
    assert shared_normalizer(total) == 7.5
    assert not shared_normalizer(total).requires_grad


def test_normalizer_of_two_processes(monkeypatch):
    there = torch.tensor(4.0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(there))
    here = torch.tensor(3.0)
    assert shared_normalizer(here) == 3.5
    assert here == 3.0
    there.zero_()
    assert shared_normalizer(torch.tensor(0.0)) == 0.5
