"""The head of PAA: its assignment against a loop, its losses against torchvision's, learning."""

import math

import pytest
import slow_mixture
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from ms_detr.heads import NMSDetections
from ms_detr.registry import AUXILIARY_HEADS
from ms_detr.structures import Targets
from ms_detr.supervision.auxiliary import BACKGROUND, UNUSED, AuxiliaryMaps, PAAHead
from ms_detr.supervision.auxiliary.losses import Pairs
from ms_detr.supervision.auxiliary.paa import rank_in_group
from ms_detr.supervision.auxiliary.tower import DenseOutput

STRIDES, CLASSES, CHANNELS = (8, 16, 32), 3, 8


def head_of(**settings):
    torch.manual_seed(0)
    settings = {"num_classes": CLASSES, "strides": STRIDES, "embed_dim": CHANNELS} | settings
    return PAAHead(num_groups=4, **settings)


def maps_of(sizes, padded=None, channels=CHANNELS, strides=STRIDES, seed=0):
    """Random maps of images of these (height, width)."""
    padded = padded or tuple(map(max, zip(*sizes)))
    generator = torch.Generator().manual_seed(seed)
    shapes = [tuple(math.ceil(side / stride) for side in padded) for stride in strides]
    maps = tuple(torch.randn(len(sizes), channels, *s, generator=generator) for s in shapes)
    return AuxiliaryMaps(maps, tuple(strides), tuple(sizes))


def targets_of(sizes, boxes, seed=0):
    """Objects of random classes with these boxes in pixels, as corners, per image."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for size, own in zip(sizes, boxes):
        image = Instances(size)
        image.gt_boxes = Boxes(torch.tensor(own, dtype=torch.float32).reshape(-1, 4))
        image.gt_classes = torch.randint(CLASSES, (len(own),), generator=generator)
        images.append(image)
    return Targets.from_instances(images)


def corners_of(boxes):
    """Exactly the numbers given: boxes that were fractions are rounded."""
    return torch.tensor([box for own in boxes for box in own]).float().reshape(-1, 4)


def random_boxes(count, height, width, seed):
    """Boxes with whole coordinates, of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(width + 1, (count, 2), generator=generator).sort(1)[0]
    y = torch.randint(height + 1, (count, 2), generator=generator).sort(1)[0]
    low, high = torch.stack([x[:, 0], y[:, 0]], 1), torch.stack([x[:, 1], y[:, 1]], 1) + 1
    high = torch.minimum(high, torch.tensor([width, height]))
    return torch.cat([torch.minimum(low, high - 1), high], 1).tolist()


def output_of(head, pyramid, seed=0):
    """What a tower might say: random numbers, so that nothing depends on the padding."""
    generator = torch.Generator().manual_seed(seed)
    count = len(head.grid(pyramid).token_A)

    def numbers(*shape, scale):
        return torch.randn(len(pyramid.sizes), count, *shape, generator=generator) * scale

    return DenseOutput(numbers(CLASSES, scale=2), numbers(4, scale=1), numbers(scale=1))


def overlap_of(first, second):
    """IoU of two boxes."""
    sides = [
        max(0.0, min(first[i + 2], second[i + 2]) - max(first[i], second[i])) for i in range(2)
    ]
    shared = sides[0] * sides[1]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def slow_loss(head, logits, raw, anchor, box, label):
    """What a candidate loses, by the formulas of the papers."""
    of_class = 0.0
    for which, logit in enumerate(logits):
        score = 1 / (1 + math.exp(-logit))
        if which == label:
            of_class -= 0.25 * (1 - score) ** 2 * math.log(score)
        else:
            of_class -= 0.75 * score**2 * math.log(1 - score)
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = (anchor[0] + anchor[2]) / 2 + raw[0] / 10 * width
    y = (anchor[1] + anchor[3]) / 2 + raw[1] / 10 * height
    w, h = width * math.exp(raw[2] / 5), height * math.exp(raw[3] / 5)
    found = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    hull = [max(found[i + 2], box[i + 2]) - min(found[i], box[i]) for i in range(2)]
    shared = [max(0.0, min(found[i + 2], box[i + 2]) - max(found[i], box[i])) for i in range(2)]
    union = w * h + (box[2] - box[0]) * (box[3] - box[1]) - shared[0] * shared[1]
    giou = shared[0] * shared[1] / union - (hull[0] * hull[1] - union) / (hull[0] * hull[1])
    return head.class_weight * of_class + head.box_weight * (1 - giou)


def slow_candidates(anchors, on_image, boxes):
    """Whose each anchor may be, anchor by anchor: {anchor: object}."""
    owner = {}
    for anchor, place in enumerate(anchors):
        overlaps = [overlap_of(place, box) for box in boxes]
        if on_image[anchor] and max(overlaps) >= 0.1:
            owner[anchor] = overlaps.index(max(overlaps))
    for number, box in enumerate(boxes):
        overlaps = {a: overlap_of(p, box) for a, p in enumerate(anchors) if on_image[a]}
        best = max(overlaps.values())
        owner |= {a: number for a, overlap in overlaps.items() if overlap == best > 0}
    return owner


def slow_assignment(head, output, grid, boxes, targets):
    """The whole assignment, object by object and level by level; indices of the whole batch."""
    anchors, first, rows = grid.boxes_A4.double().tolist(), 0, []
    levels = [level for level, count in enumerate(grid.counts) for _ in range(count)]
    for image, own in enumerate(boxes):
        on_image = grid.on_image_BA[image].tolist()
        row = [BACKGROUND if shown else UNUSED for shown in on_image]
        owner = slow_candidates(anchors, on_image, own) if own else {}
        for number, box in enumerate(own):
            label = targets.labels_G[first + number].item()
            candidates = []
            for level in range(len(grid.counts)):
                here = [
                    (
                        slow_loss(
                            head,
                            output.logits_BAK[image, anchor].tolist(),
                            output.boxes_BAD[image, anchor].tolist(),
                            anchors[anchor],
                            box,
                            label,
                        ),
                        anchor,
                    )
                    for anchor, whose in owner.items()
                    if whose == number and levels[anchor] == level
                ]
                candidates += sorted(here)[: head.top_k]
            small = slow_mixture.small_ones([loss for loss, _ in candidates] or [0.0])
            for positive, (_, anchor) in zip(small, candidates):
                if positive:
                    row[anchor] = first + number
        rows.append(row)
        first += len(own)
    return rows


# Height and width of two images, their objects; a batch is padded to (128, 160).
TWO_SIZES = [(128, 160), (80, 90)]
IDENTICAL = [[30, 20, 90, 84], [30, 20, 90, 84]]
HAND_MADE = {
    "an empty image": [[], [[5, 9, 70, 60]]],
    "no object at all": [[], []],
    "tiny boxes": [[[20, 30, 21, 31], [100, 90, 103, 94]], [[0, 0, 1, 1], [88, 78, 90, 80]]],
    "identical objects": [IDENTICAL, IDENTICAL],
    "identical tiny objects": [[[50, 50, 52, 52]] * 2, [[3, 3, 5, 5]] * 3],
    "one inside the other": [[[0, 0, 160, 128], [60, 50, 100, 90]], [[10, 10, 80, 70]]],
    "at the border of the image": [[[96, 64, 160, 128]], [[40, 30, 90, 80], [82, 0, 90, 80]]],
    "long and thin": [[[0, 60, 160, 62], [70, 0, 71, 128]], [[0, 0, 90, 1]]],
}


@pytest.mark.parametrize("top_k", [1, 3, 9, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_random_objects_are_assigned_as_by_a_loop(seed, top_k):
    boxes = [random_boxes(5, 128, 160, seed), random_boxes(3, 80, 90, seed + 100)]
    assert_assigned_as_by_a_loop(boxes, seed, top_k)


@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_objects_are_assigned_as_by_a_loop(case):
    assert_assigned_as_by_a_loop(HAND_MADE[case], seed=1, top_k=9)


def assert_assigned_as_by_a_loop(boxes, seed, top_k):
    head, pyramid = head_of(top_k=top_k), maps_of(TWO_SIZES)
    targets, grid = targets_of(TWO_SIZES, boxes, seed), head.grid(pyramid)
    output = output_of(head, pyramid, seed)
    got = head.assigned(output, grid, targets, corners_of(boxes))
    assert got.tolist() == slow_assignment(head, output, grid, boxes, targets)
    if any(boxes):
        assert (got >= 0).any()


def equal_output(head, pyramid):
    """All candidates say the same, so that losses depend on their places only."""
    count = len(head.grid(pyramid).token_A)
    zeros = torch.zeros(1, count, CLASSES), torch.zeros(1, count, 4), torch.zeros(1, count)
    return DenseOutput(*zeros)


def assign_one(head, pyramid, output, boxes):
    targets = targets_of(pyramid.sizes, [boxes])
    return head.assigned(output, head.grid(pyramid), targets, corners_of([boxes]))[0]


def test_what_is_predicted_decides():
    head, pyramid = head_of(), maps_of([(128, 160)])
    output, box = equal_output(head, pyramid), [30, 20, 90, 84]
    before = assign_one(head, pyramid, output, [box])
    # The best anchor of all comes to point elsewhere.
    anchors = head.grid(pyramid).boxes_A4
    best = box_iou(torch.tensor([box]).float(), anchors).argmax()
    assert before[best] == 0
    output.boxes_BAD[0, best, :2] = 30.0
    after = assign_one(head, pyramid, output, [box])
    assert after[best] == BACKGROUND
    assert (after == 0).any()


def test_equally_good_candidates_are_all_positive():
    # Four anchors of 64 pixels lie around the centre of the object in the same way.
    head, pyramid = head_of(strides=[8], scale=8.0), maps_of([(128, 160)], strides=[8])
    positive = assign_one(head, pyramid, equal_output(head, pyramid), [[36, 36, 100, 100]]) == 0
    boxes = head.grid(pyramid).boxes_A4[positive]
    centers = {tuple(center) for center in ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()}
    assert centers == {(64, 64), (72, 64), (64, 72), (72, 72)}


def test_only_the_best_anchors_may_answer_a_tiny_object():
    head, pyramid = head_of(top_k=1000), maps_of([(128, 160)])
    grid, box = head.grid(pyramid), [41.0, 33.0, 42.0, 34.0]
    owner = head.assign(grid, torch.tensor([box]))
    low, high = grid.boxes_A4.chunk(2, 1)
    around = (low <= torch.tensor(box[:2])).all(1) & (high >= torch.tensor(box[2:])).all(1)
    around[grid.counts[0] :] = False  # larger anchors overlap it less
    assert torch.equal(owner >= 0, around)
    assert around.sum() == 64


def test_of_identical_objects_the_last_has_the_best_anchors():
    head, pyramid = head_of(), maps_of([(128, 160)])
    grid = head.grid(pyramid)
    owner = head.assign(grid, torch.tensor(IDENTICAL).float())
    overlap = box_iou(torch.tensor(IDENTICAL[:1]).float(), grid.boxes_A4)[0]
    wanted = torch.full_like(owner, BACKGROUND)
    wanted[overlap >= 0.1] = 0
    wanted[overlap == overlap.max()] = 1
    assert torch.equal(owner, wanted)


def test_an_object_without_area_gets_nobody():
    head, pyramid = head_of(), maps_of([(128, 160)])
    boxes = [[40.0, 40.0, 40.0, 60.0], [30.0, 20.0, 90.0, 84.0]]
    assigned = assign_one(head, pyramid, equal_output(head, pyramid), boxes)
    assert set(assigned.tolist()) == {BACKGROUND, 1}


def test_a_single_candidate_is_positive():
    head, pyramid = head_of(strides=[64], scale=1.0), maps_of([(64, 64)], strides=[64])
    assert assign_one(head, pyramid, equal_output(head, pyramid), [[0, 0, 20, 20]]).tolist() == [0]


def test_ranks_in_groups():
    values = torch.tensor([3.0, 1.0, 2.0, 1.0, 0.5, 7.0])
    groups = torch.tensor([4, 4, 0, 4, 4, 0])
    assert rank_in_group(values, groups).tolist() == [3, 1, 0, 2, 0, 1]


def test_images_of_a_batch_are_assigned_one_by_one():
    head, pyramid = head_of(), maps_of(TWO_SIZES)
    boxes = [random_boxes(5, 128, 160, 7), random_boxes(4, 80, 90, 8)]
    output, grid = output_of(head, pyramid), head.grid(pyramid)
    targets = targets_of(TWO_SIZES, boxes)
    together = head.assigned(output, grid, targets, corners_of(boxes))
    batch, sums = head.losses(output, grid, together, targets, corners_of(boxes)), {}
    first = 0
    for image, (size, own) in enumerate(zip(TWO_SIZES, boxes)):
        alone = maps_of([size])
        own_grid = head.grid(alone)
        # Where the cells of the image without padding are in the batch.
        here = [
            torch.arange(wide[0] * wide[1]).view(wide)[: narrow[0], : narrow[1]].flatten()
            for wide, narrow in zip(pyramid.shapes, alone.shapes)
        ]
        starts = torch.tensor((0, *grid.counts)).cumsum(0).tolist()
        place = torch.cat([cells + start for cells, start in zip(here, starts)])
        assert torch.equal(grid.boxes_A4[place], own_grid.boxes_A4)
        assert torch.equal(grid.on_image_BA[image].nonzero()[:, 0], place)
        own_output = DenseOutput(
            output.logits_BAK[image : image + 1, place],
            output.boxes_BAD[image : image + 1, place],
            output.quality_BA[image : image + 1, place],
        )
        count = len(own)
        own_targets = Targets(
            targets.labels_G[first : first + count], targets.boxes_G4[first : first + count],
            (count,), targets.num_boxes,
        )  # fmt: skip
        assigned = head.assigned(own_output, own_grid, own_targets, corners_of([own]))
        in_batch = together[image, place]
        assert torch.equal(assigned[0], in_batch.sub(first).where(in_batch >= 0, in_batch))
        losses = head.losses(own_output, own_grid, assigned, own_targets, corners_of([own]))
        pairs = Pairs.of(assigned)
        weights = {"class": len(pairs.object_P), "overlap": len(pairs.object_P)}
        quality = head.quality(own_output, own_grid, pairs, corners_of([own]))
        weights["giou"] = quality.sum().item()
        assert min(weights.values()) > 1
        for name, loss in losses.items():
            loss_sum, weight_sum = sums.get(name, (0.0, 0.0))
            sums[name] = loss_sum + loss * weights[name], weight_sum + weights[name]
        first += count
    for name, (loss_sum, weight_sum) in sums.items():
        torch.testing.assert_close(batch[name], loss_sum / weight_sum)


def slow_losses(head, output, grid, assigned, targets, boxes_G4):
    """The losses by torchvision's functions, image by image."""
    of_class = of_box = of_overlap = count = qualities = 0.0
    for image, row in enumerate(assigned):
        used, positive = row != UNUSED, row >= 0
        labels = torch.zeros(len(row), CLASSES)
        labels[positive, targets.labels_G[row[positive]]] = 1.0
        logits = output.logits_BAK[image][used]
        of_class = of_class + sigmoid_focal_loss(logits, labels[used], reduction="sum")
        anchors, raw = grid.boxes_A4[positive], output.boxes_BAD[image][positive]
        centers, sizes = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
        centers = centers + raw[:, :2] / 10 * sizes
        sizes = sizes * (raw[:, 2:] / 5).exp()
        found, true = torch.cat([centers - sizes / 2, centers + sizes / 2], 1), boxes_G4[
            row[positive]
        ]  # fmt: skip
        quality = box_iou(found.detach(), true).diagonal()
        of_box = of_box + (generalized_box_iou_loss(found, true, reduction="none") * quality).sum()
        scores = output.quality_BA[image][positive].sigmoid()
        of_overlap = of_overlap + F.binary_cross_entropy(scores, quality, reduction="sum")
        count, qualities = count + len(quality), qualities + quality.sum()
    number = max(count, 1)
    return {
        "class": of_class / number,
        "giou": 1.3 * of_box / max(qualities, torch.ones(())),
        "overlap": 0.5 * of_overlap / number,
    }


@pytest.mark.parametrize(
    "boxes",
    [[random_boxes(5, 128, 160, 3), random_boxes(3, 80, 90, 4)], [[[9, 9, 12, 12]], []], [[], []]],
    ids=["random", "one tiny object", "no object"],
)
def test_losses_and_their_gradients_are_the_papers(boxes):
    head, pyramid = head_of(), maps_of(TWO_SIZES)
    targets, grid, corners_G4 = targets_of(TWO_SIZES, boxes), head.grid(pyramid), corners_of(boxes)
    output = output_of(head, pyramid)
    leaves = [x.requires_grad_() for x in (output.logits_BAK, output.boxes_BAD, output.quality_BA)]
    assigned = head.assigned(output, grid, targets, corners_G4)
    got = head.losses(output, grid, assigned, targets, corners_G4)
    wanted = slow_losses(head, output, grid, assigned, targets, corners_G4)
    assert got.keys() == wanted.keys()
    for name, loss in got.items():
        torch.testing.assert_close(loss, torch.as_tensor(wanted[name]), rtol=1e-5, atol=1e-6)
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
        slow_slopes = torch.autograd.grad(
            wanted[name], leaves, allow_unused=True, retain_graph=True
        )
        for leaf, slope, slow_slope in zip(leaves, slopes, slow_slopes):
            slow_slope = torch.zeros_like(leaf) if slow_slope is None else slow_slope
            slope = torch.zeros_like(leaf) if slope is None else slope
            torch.testing.assert_close(slope, slow_slope, rtol=1e-4, atol=1e-6)


def test_the_loss_that_assigns_is_the_one_that_is_lost():
    head, pyramid = head_of(class_weight=0.7, box_weight=1.9), maps_of([(128, 160)])
    boxes, grid, output = [random_boxes(4, 128, 160, 5)], head.grid(pyramid), None
    targets, output = targets_of(pyramid.sizes, boxes), output_of(head, pyramid)
    owner = head.assign(grid, corners_of(boxes))[None]
    pairs = Pairs.of(owner)
    got = head.loss_of_pairs(output, grid, pairs, targets, corners_of(boxes))
    assert len(got) > 20
    for loss, anchor, number in zip(
        got.tolist(), pairs.candidate_P.tolist(), pairs.object_P.tolist()
    ):
        wanted = slow_loss(
            head,
            output.logits_BAK[0, anchor].tolist(),
            output.boxes_BAD[0, anchor].tolist(),
            grid.boxes_A4[anchor].tolist(),
            boxes[0][number],
            targets.labels_G[number].item(),
        )
        assert loss == pytest.approx(wanted, rel=1e-5)


def test_scores_are_roots_of_class_times_overlap_and_none_on_padding():
    head, pyramid = head_of(), maps_of(TWO_SIZES)
    found, grid, output = head.predict(pyramid), head.grid(pyramid), head.tower(pyramid.maps)
    scores = (output.logits_BAK.sigmoid() * output.quality_BA.sigmoid()[..., None]).sqrt()
    scores = scores * grid.on_image_BA[..., None]
    torch.testing.assert_close(found.logits_BNK.sigmoid(), scores)
    assert not grid.on_image_BA.all()


def test_queries_start_from_the_anchors_that_are_positive():
    head, pyramid = head_of(), maps_of(TWO_SIZES)
    boxes = [random_boxes(5, 128, 160, 3), random_boxes(3, 80, 90, 4)]
    found = head(pyramid, targets_of(TWO_SIZES, boxes)).candidates
    grid = head.grid(pyramid)
    assert torch.equal(found.boxes_BA4, torch.stack([grid.boxes_A4] * 2))
    assert torch.equal(found.token_A, torch.arange(sum(grid.counts)))
    assert torch.equal(found.tokens_BTC, pyramid.tokens_BSC)
    of_second = found.object_BA[1][found.object_BA[1] >= 0]
    assert len(of_second)
    assert set(of_second.tolist()) <= {5, 6, 7}


@pytest.mark.parametrize("boxes", [[[[5, 9, 70, 60]], []], [[], []]], ids=["object", "no object"])
def test_gradients_reach_every_parameter(boxes):
    head, pyramid = head_of(num_convs=2), maps_of(TWO_SIZES)
    losses = head(pyramid, targets_of(TWO_SIZES, boxes)).losses
    assert set(losses) == {"class", "giou", "overlap"}
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    reached = {name.split(".")[1] for name, x in head.named_parameters() if x.grad.any()}
    of_class = {"class_stack", "classes"}
    of_box = {"box_stack", "boxes", "quality", "scales"}
    assert reached == (of_class | of_box if any(boxes) else of_class)


def test_a_prediction_that_is_not_finite_comes_to_light():
    head, pyramid = head_of(), maps_of([(128, 160)])
    boxes = [[[30, 20, 90, 84]]]
    targets, grid, output = targets_of(pyramid.sizes, boxes), head.grid(pyramid), None
    output = output_of(head, pyramid)
    output.boxes_BAD[:, grid.counts[0] : sum(grid.counts[:2])] = math.nan
    assigned = head.assigned(output, grid, targets, corners_of(boxes))
    losses = head.losses(output, grid, assigned, targets, corners_of(boxes))
    assert losses["giou"].isnan()


def test_bfloat16_gives_nearly_the_same_losses():
    head, pyramid = head_of(embed_dim=32), maps_of(TWO_SIZES, channels=32)
    boxes = [random_boxes(5, 128, 160, 3), random_boxes(3, 80, 90, 4)]
    targets = targets_of(TWO_SIZES, boxes)
    exact = head(pyramid, targets).losses
    with torch.autocast("cpu", torch.bfloat16):
        rough = head(pyramid, targets).losses
    for name, loss in exact.items():
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name], loss, rtol=0.03, atol=1e-3)


def test_it_learns_two_images():
    strides, sizes = (8, 16, 32), [(96, 128), (96, 128)]
    boxes = [[[8, 10, 60, 50], [70, 40, 120, 90]], [[30, 20, 100, 80]]]
    head = head_of(strides=strides, embed_dim=32)
    targets = targets_of(sizes, boxes, seed=2)
    maps = [nn.Parameter(x) for x in maps_of(sizes, channels=32, strides=strides).maps]
    pyramid = AuxiliaryMaps(tuple(maps), strides, tuple(sizes))
    optimizer = torch.optim.AdamW([*head.parameters(), *maps], 1e-2)
    first, last = None, None
    for _ in range(60):
        last = sum(head(AuxiliaryMaps(tuple(maps), strides, tuple(sizes)), targets).losses.values())
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
        first = first or last.item()
    assert last < 0.5 * first
    pyramid = AuxiliaryMaps(tuple(maps), strides, tuple(sizes))
    with torch.no_grad():
        detections = NMSDetections(10, 0.6)(head.predict(pyramid), sizes)
    start = 0
    for own, found in zip(boxes, detections):
        best = found[: len(own)]  # the objects, before anything else
        overlap = box_iou(torch.tensor(own).float(), best.pred_boxes.tensor)
        assert sorted(overlap.argmax(1).tolist()) == list(range(len(own)))
        assert overlap.amax(1).min() > 0.5
        labels = targets.labels_G[start : start + len(own)]
        assert torch.equal(best.pred_classes[overlap.argmax(1)], labels)
        start += len(own)


def test_it_is_registered():
    assert AUXILIARY_HEADS.get("PAAHead") is PAAHead


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_k": 0}, "top_k of PAAHead"),
        ({"scale": 0.0}, "scale"),
        ({"class_weight": -1.0}, "class_weight of PAAHead"),
        ({"box_weight": math.inf}, "box_weight of PAAHead"),
        ({"overlap_weight": "1"}, "overlap_weight of PAAHead"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError, match=words):
        head_of(**settings)
