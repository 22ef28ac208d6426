"""True masks, sampled at points as detectron2 does it; predicted maps, read inside the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.projects.point_rend.point_features import point_sample
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from ms_detr.structures import Targets
from ms_detr.structures.masks import BatchMasks, ObjectMasks, sample_logits

SIZES = [(13, 9), (6, 17), (8, 8)]
COUNTS = [3, 0, 2]


def image(height: int, width: int, masks) -> Instances:
    found = Instances((height, width), gt_boxes=Boxes(torch.ones(len(masks), 4)))
    found.gt_classes = torch.zeros(len(masks), dtype=torch.int64)
    if len(masks):
        found.gt_masks = masks
    return found


def random_batch() -> list[Instances]:
    torch.manual_seed(0)
    return [
        image(h, w, BitMasks(torch.rand(n, h, w) > 0.5)) for (h, w), n in zip(SIZES, COUNTS)
    ]  # fmt: skip


def dense(batch: list[Instances], points: torch.Tensor) -> torch.Tensor:
    """detectron2's sampling of every mask in floating point."""
    rows = []
    masks = [mask for found in batch if found.has("gt_masks") for mask in found.gt_masks.tensor]
    for mask, own in zip(masks, points):
        rows.append(point_sample(mask[None, None].float(), own[None], align_corners=False)[0, 0])
    return torch.stack(rows)


def test_true_masks_are_sampled_as_detectron2_does():
    batch = random_batch()
    masks = ObjectMasks.from_instances(batch)
    points = torch.rand(5, 400, 2)
    # All edges and corners of the image, and centres of its outermost pixels.
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.5], [1.0, 0.3]])
    expected = dense(batch, points)
    assert torch.allclose(masks.sample(torch.arange(5), points), expected, atol=1e-5)
    chosen = torch.tensor([4, 0, 4])
    found = masks.sample(chosen, points[chosen])
    assert torch.allclose(found, expected[chosen], atol=1e-5)


def test_masks_on_padded_images_are_the_same():
    """A point of the image is the same point of the padded one."""
    batch = random_batch()
    masks = ObjectMasks.from_instances(batch)
    points = torch.rand(5, 200, 2)
    found = masks.sample(torch.arange(5), points)
    row = 0
    for (height, width), instances in zip(SIZES, batch):
        for mask in instances.gt_masks.tensor if instances.has("gt_masks") else ():
            padded = F.pad(mask.float(), (0, 20 - width, 0, 16 - height))
            moved = points[row] * torch.tensor([width / 20, height / 16])
            expected = point_sample(padded[None, None], moved[None], align_corners=False)[0, 0]
            assert torch.allclose(found[row], expected, atol=1e-5)
            row += 1
    assert row == 5


def test_one_byte_a_pixel():
    masks = ObjectMasks.from_instances(random_batch())
    assert masks.pixels.dtype == torch.bool
    assert len(masks.pixels) == sum(n * h * w for (h, w), n in zip(SIZES, COUNTS))
    assert masks.size_G2.tolist() == [[9, 13]] * 3 + [[8, 8]] * 2


def test_polygons_are_drawn():
    square = np.array([2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0])
    masks = ObjectMasks.from_instances([image(7, 8, PolygonMasks([[square]]))])
    expected = torch.zeros(7, 8, dtype=torch.bool)
    expected[1:5, 2:6] = True
    assert torch.equal(masks.pixels.view(7, 8), expected)


def test_nothing_at_all():
    batch = [image(7, 8, []), image(5, 5, [])]
    masks = ObjectMasks.from_instances(batch)
    assert masks.sample(torch.zeros(0).long(), torch.zeros(0, 3, 2)).shape == (0, 3)
    assert Targets.from_instances(batch, with_masks=True).masks is not None
    assert Targets.from_instances(batch).masks is None


def test_objects_need_masks_of_their_image():
    batch = random_batch()
    batch[2].remove("gt_masks")
    with pytest.raises(ValueError, match=r"image 2 .* 2 objects, but no gt_masks.*instance_mask"):
        ObjectMasks.from_instances(batch)
    wrong = Instances((6, 6), gt_classes=torch.zeros(1), gt_masks=BitMasks(torch.ones(1, 6, 7)))
    with pytest.raises(ValueError, match=r"image 0 .* is 6 x 6 pixels, .* \(6, 7\)"):
        ObjectMasks.from_instances([wrong])


def test_predicted_maps_inside_the_image_are_sampled_as_detectron2_does():
    torch.manual_seed(0)
    logits, extent = torch.randn(3, 2, 12, 10), torch.tensor([[1.0, 1.0], [0.5, 0.75], [0.33, 0.4]])
    # Away from the border of the image, where the outermost cell counts alone.
    points = 0.25 + 0.5 * torch.rand(3, 50, 2)
    expected = point_sample(logits, points * extent[:, None], align_corners=False)
    assert torch.allclose(sample_logits(logits, points, extent), expected, atol=1e-5)


def test_padding_is_never_seen():
    logits = torch.full((1, 1, 12, 10), 1000.0)
    logits[..., :9, :5] = 3.0
    points = torch.rand(1, 500, 2)
    points[0, :2] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    found = sample_logits(logits, points, torch.tensor([[0.5, 0.75]]))
    assert torch.allclose(found, torch.tensor(3.0), atol=1e-2)


def test_masks_of_blocks_are_those_of_the_queries():
    """A block as an image of its own has the masks that its queries have among all queries."""
    torch.manual_seed(0)
    pixels, states = torch.randn(2, 4, 5, 6), torch.randn(2, 6, 4)

    def head(pixels, states_PC, image_P, boxes_P4):
        weight_P = boxes_P4.sum(1)[:, None, None]
        return torch.einsum("pc,pchw->phw", states_PC, pixels[image_P]) * weight_P

    boxes, extent = torch.rand(2, 6, 4), torch.tensor([[1.0, 0.5], [0.25, 1.0]])
    masks = BatchMasks(head, pixels, extent).of_queries(states, boxes)
    folded = masks.blocks_as_images(3)
    for image in range(2):
        for query in range(6):
            block, place = divmod(query, 2)
            row = torch.tensor([3 * image + block])
            ours = folded.of(row, torch.tensor([place]))
            whole = torch.tensor([image])
            assert torch.equal(ours, masks.of(whole, torch.tensor([query])))
            assert torch.equal(folded.extent_of(row), masks.extent_of(whole))


def test_selected_objects_keep_their_masks():
    sizes, generator = [(4, 6), (3, 5)], torch.Generator().manual_seed(0)
    instances = []
    for height, width in sizes:
        image = Instances((height, width), gt_classes=torch.zeros(2, dtype=torch.int64))
        image.gt_masks = BitMasks(torch.rand(2, height, width, generator=generator) > 0.5)
        instances.append(image)
    masks = ObjectMasks.from_instances(instances)
    order, points = torch.tensor([3, 0, 0, 2]), torch.rand(4, 7, 2, generator=generator)
    chosen = masks.select(order).sample(torch.arange(4), points)
    assert torch.equal(chosen, masks.sample(order, points))


def test_heads_get_boxes_of_the_padded_image():
    seen = []

    def head(pixels, states_PC, image_P, boxes_P4):
        seen.append((states_PC, image_P, boxes_P4))
        return torch.zeros(len(states_PC), 4, 4)

    batch = BatchMasks(head, None, torch.tensor([[1.0, 1.0], [0.5, 0.25]]))
    states, boxes = torch.randn(2, 3, 5), torch.rand(2, 3, 4)
    image, query = torch.tensor([1, 0]), torch.tensor([2, 1])
    batch.of_queries(states, boxes).of(image, query)
    ((found, images, places),) = seen
    assert torch.equal(found, states[image, query]) and torch.equal(images, image)
    scale = torch.tensor([[0.5, 0.25, 0.5, 0.25], [1.0, 1.0, 1.0, 1.0]])
    assert torch.equal(places, boxes[image, query] * scale)
