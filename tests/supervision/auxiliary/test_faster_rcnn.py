"""Faster R-CNN as an auxiliary head: who is taught what, candidates, losses, predictions."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torchvision.ops import box_iou, generalized_box_iou, roi_align

from ms_detr.errors import NonFiniteError
from ms_detr.heads import NMSDetections
from ms_detr.registry import AUXILIARY_HEADS
from ms_detr.structures import Targets
from ms_detr.supervision.auxiliary import BACKGROUND, UNUSED, AuxiliaryMaps, FasterRCNNHead

STRIDES = (8, 16)
DIM, CLASSES = 8, 3
EVERYTHING = 100_000  # samples enough to leave nobody out


def small_head(strides=STRIDES, num_classes=CLASSES, **others) -> FasterRCNNHead:
    """A head whose outputs differ from anchor to anchor, unlike those of a new one."""
    torch.manual_seed(0)
    settings = {"embed_dim": DIM, "hidden_dim": 16, "proposals": 60, "samples": 40}
    head = FasterRCNNHead(num_classes=num_classes, strides=strides, **(settings | others))
    for module in (head.rpn.rpn_head.objectness_logits, head.predictor.cls_score):
        nn.init.normal_(module.weight, std=0.5)
    for module in (head.rpn.rpn_head.anchor_deltas, head.predictor.bbox_pred):
        nn.init.normal_(module.weight, std=0.1)
    return head


def maps_of(*sizes, strides=STRIDES, dim=DIM, seed=1) -> AuxiliaryMaps:
    """Random maps of images of these (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(lengths) for lengths in zip(*sizes))
    maps = tuple(
        torch.randn(
            len(sizes), dim, math.ceil(height / s), math.ceil(width / s), generator=generator
        )
        for s in strides
    )
    return AuxiliaryMaps(maps, tuple(strides), tuple(sizes))


def targets_of(sizes, *boxes, classes=CLASSES) -> Targets:
    """Objects with boxes in pixels, as corners; their classes go round."""
    instances = [
        Instances(
            size,
            gt_boxes=Boxes(torch.tensor(of_image, dtype=torch.float32).reshape(-1, 4)),
            gt_classes=torch.arange(len(of_image)) % classes,
        )
        for size, of_image in zip(sizes, boxes)
    ]
    return Targets.from_instances(instances)


SIZES = ((96, 128), (80, 112))
FEW = ([[10, 10, 60, 50], [70, 20, 120, 90]], [[5, 30, 50, 70]])
CASES = {
    "usual": FEW,
    "one image empty": (FEW[0], []),
    "empty": ([], []),
    "whole image": ([[0, 0, 128, 96]], [[0, 0, 112, 80]]),
    "one pixel": ([[50, 50, 51, 51], [0, 0, 1, 1]], [[111, 79, 112, 80]]),
    "twice": ([[10, 10, 60, 50], [10, 10, 60, 50]], []),
    # Overlaps two square anchors of side 32, at x = 40 and x = 48, equally and by less than 0.7.
    "tie": ([[31, 35, 57, 61]], []),
}


def anchors_by_hand(pyramid: AuxiliaryMaps) -> list[list[float]]:
    """Level, row, column, then in the order of detectron2."""
    anchors = []
    for (height, width), stride in zip(pyramid.shapes, pyramid.strides):
        for row in range(height):
            for column in range(width):
                for scale in (4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)):
                    for ratio in (0.5, 1, 2):
                        w = scale * stride / ratio**0.5
                        h = w * ratio
                        x, y = column * stride, row * stride
                        anchors.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return anchors


def label_anchors(overlaps: list[list[float]]) -> list[tuple[int, int]]:
    """Label (1 object, 0 background, -1 neither) and object of every anchor.

    Args:
        overlaps: of every object with every anchor of an image.
    """
    if not overlaps:
        return []
    labels = []
    for of_anchor in zip(*overlaps):
        best = max(range(len(of_anchor)), key=lambda g: of_anchor[g])
        label = 1 if of_anchor[best] >= 0.7 else (0 if of_anchor[best] < 0.3 else -1)
        if any(overlap == max(row) for overlap, row in zip(of_anchor, overlaps)):
            label = 1
        labels.append((label, best))
    return labels


def deltas_by_hand(source, target) -> list[float]:
    sw, sh, tw, th = (b[i + 2] - b[i] for b in (source, target) for i in (0, 1))
    dx = (target[0] + target[2] - source[0] - source[2]) / 2 / sw
    dy = (target[1] + target[3] - source[1] - source[3]) / 2 / sh
    return [dx, dy, math.log(tw / sw), math.log(th / sh)]


def boxes_by_hand(source, deltas, weights=(10, 10, 5, 5)) -> list[float]:
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas, weights))
    w, h = source[2] - source[0], source[3] - source[1]
    x, y = (source[0] + source[2]) / 2 + dx * w, (source[1] + source[3]) / 2 + dy * h
    w, h = w * math.exp(dw), h * math.exp(dh)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


@pytest.mark.parametrize("case", CASES)
def test_proposals_are_taught_as_by_a_slow_loop(case):
    """All anchors are sampled here, so that nothing is left to chance."""
    head, pyramid = small_head(proposal_weight=3.0), maps_of(*SIZES)
    head.rpn.batch_size_per_image = EVERYTHING
    targets = targets_of(SIZES, *CASES[case])
    with torch.no_grad():
        logits, deltas = head.rpn.rpn_head(list(pyramid.maps))
    logits_BA = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], 1)
    deltas_BA4 = torch.cat(
        [x.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for x in deltas], 1
    )
    anchors = anchors_by_hand(pyramid)
    of_class = of_box = 0.0
    for image, boxes in enumerate(CASES[case]):
        boxes_G4 = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        labels = label_anchors(box_iou(boxes_G4, torch.tensor(anchors)).tolist())
        for a, (label, best) in enumerate(labels or [(0, 0)] * len(anchors)):
            if label >= 0:
                sign = 1 if label else -1
                of_class += math.log1p(math.exp(-sign * float(logits_BA[image, a])))
            if label == 1:
                wanted = deltas_by_hand(anchors[a], boxes[best])
                of_box += sum(abs(p - w) for p, w in zip(deltas_BA4[image, a].tolist(), wanted))
    losses = head(pyramid, targets).losses
    scale = 3.0 / (EVERYTHING * len(SIZES))
    assert losses["rpn_class"].item() == pytest.approx(scale * of_class, rel=1e-4)
    assert losses["rpn_box"].item() == pytest.approx(scale * of_box, rel=1e-4)
    assert (of_box > 0) == any(CASES[case])


def test_an_object_between_two_anchors_has_both():
    anchors = torch.tensor(anchors_by_hand(maps_of(*SIZES)))
    overlaps = box_iou(torch.tensor(CASES["tie"][0], dtype=torch.float32), anchors)
    labels = label_anchors(overlaps.tolist())
    assert overlaps.max() < 0.7
    assert sum(label == 1 for label, _ in labels) == 2


def test_thresholds():
    head = small_head()
    overlaps = torch.tensor([[1.0, 0.7, 0.6999, 0.3, 0.2999]])
    assert head.rpn.anchor_matcher(overlaps)[1].tolist() == [1, 1, -1, -1, 0]
    assert head.sampler.proposal_matcher(torch.tensor([[0.5, 0.4999]]))[1].tolist() == [1, 0]


def all_candidates(case: str, **others):
    """Candidates where every proposal is sampled."""
    head = small_head(samples=200, positive_fraction=1.0, **others)
    pyramid, targets = maps_of(*SIZES), targets_of(SIZES, *CASES[case])
    return head, pyramid, targets, head(pyramid, targets)


@pytest.mark.parametrize("case", CASES)
def test_candidates_have_objects_as_by_a_slow_loop(case):
    _, pyramid, targets, output = all_candidates(case)
    candidates, first = output.candidates, 0
    for image, boxes in enumerate(CASES[case]):
        found = candidates.object_BA[image].tolist()
        used = found.index(UNUSED)
        assert used >= len(boxes) and set(found[used:]) == {UNUSED}
        boxes_A4 = candidates.boxes_BA4[image, :used]
        for object_of, box in zip(found[:used], boxes_A4):
            overlaps = [float(box_iou(box[None], torch.tensor([b]).float())) for b in boxes]
            best = max(range(len(boxes)), key=lambda g: overlaps[g], default=None)
            answers = best is not None and overlaps[best] >= 0.5
            assert object_of == (first + best if answers else BACKGROUND)
        for box in boxes:  # objects are among the proposals
            assert (boxes_A4 - torch.tensor(box)).abs().amax(1).min() < 1e-3
        first += len(boxes)
    assert candidates.object_BA.max() < len(targets.labels_G)


def test_candidates_are_proposals_within_their_image():
    head, pyramid, _, output = all_candidates("usual")
    candidates = output.candidates
    assert not candidates.boxes_BA4.requires_grad
    for (height, width), boxes_A4, object_A in zip(
        SIZES, candidates.boxes_BA4, candidates.object_BA
    ):
        proposed = boxes_A4[object_A != UNUSED]
        assert len(proposed) > 40  # most of the 60, and the objects
        assert (proposed >= 0).all() and (proposed <= torch.tensor([width, height] * 2)).all()
    assert candidates.object_BA.unique().tolist() == [UNUSED, BACKGROUND, 0, 1, 2]


def test_proposals_of_a_level_overlap_by_at_most_seven_tenths():
    head = small_head(strides=(8,), samples=200, proposals=150)
    candidates = head(maps_of((96, 96), strides=(8,)), targets_of([(96, 96)], [])).candidates
    boxes_A4 = candidates.boxes_BA4[0][candidates.object_BA[0] == BACKGROUND]
    overlaps = box_iou(boxes_A4, boxes_A4).fill_diagonal_(0)
    assert len(boxes_A4) > 30
    assert 0.5 < overlaps.max() <= 0.7


def pooled_by_hand(pyramid: AuxiliaryMaps, image: int, box) -> torch.Tensor:
    """(C, 7, 7) of the level that suits the box."""
    level = 4 + math.log2(max(math.sqrt((box[2] - box[0]) * (box[3] - box[1])), 1e-6) / 224)
    first, last = (int(math.log2(stride)) for stride in (pyramid.strides[0], pyramid.strides[-1]))
    level = min(max(math.floor(level), first), last) - first
    features = pyramid.maps[level][image, None]
    return roi_align(features, [box[None]], 7, 1 / pyramid.strides[level], 0, aligned=True)[0]


def test_features_are_means_of_regions():
    sizes = ((256, 320), (280, 240))
    pyramid = maps_of(*sizes)
    targets = targets_of(sizes, [[10, 5, 300, 250], [100, 60, 140, 90]], [[0, 0, 240, 280]])
    candidates = small_head()(pyramid, targets).candidates
    assert candidates.token_A.tolist() == list(range(40))
    large = 0
    for image in range(2):
        for box, feature, found in zip(
            candidates.boxes_BA4[image], candidates.tokens_BTC[image], candidates.object_BA[image]
        ):
            if found == UNUSED:
                continue
            expected = pooled_by_hand(pyramid, image, box).mean((1, 2))
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)
            large += bool((box[2] - box[0]) * (box[3] - box[1]) > 224**2)
    assert large > 0


def test_regions_are_taught_as_by_a_slow_loop():
    head, pyramid, targets, output = all_candidates("usual", class_weight=2.0, box_weight=5.0)
    candidates = output.candidates
    truth = torch.tensor(FEW[0] + FEW[1], dtype=torch.float32)
    of_class, of_box, number = 0.0, 0.0, 0
    for image, row in enumerate(candidates.object_BA.tolist()):
        for box, found in zip(candidates.boxes_BA4[image], row):
            if found == UNUSED:
                continue
            features = head.box_head(pooled_by_hand(pyramid, image, box)[None])
            logits, deltas = (x[0] for x in head.predictor(features))
            label = int(targets.labels_G[found]) if found >= 0 else CLASSES
            of_class -= logits.log_softmax(0)[label].item()
            if found >= 0:
                box = boxes_by_hand(box.tolist(), deltas[4 * label : 4 * label + 4].tolist())
                of_box += 1 - float(generalized_box_iou(torch.tensor([box]), truth[found, None]))
            number += 1
    assert output.losses["class"].item() == pytest.approx(2 * of_class / number, rel=1e-4)
    assert output.losses["giou"].item() == pytest.approx(5 * of_box / number, rel=1e-3)
    assert of_box > 0


@pytest.mark.parametrize("fraction, most", [(0.25, 5), (0.5, 10), (0.0, 0), (1.0, 20)])
def test_positives_are_at_most_their_fraction(fraction, most):
    boxes = [[4 * i, 4 * i, 4 * i + 30, 4 * i + 30] for i in range(16)]
    head = small_head(samples=20, positive_fraction=fraction)
    objects = head(maps_of(*SIZES), targets_of(SIZES, boxes, [])).candidates.object_BA
    assert objects.shape == (2, 20)
    positives = int((objects[0] >= 0).sum())
    assert positives == most if most <= 16 else 16 <= positives <= most
    assert (objects[0] == UNUSED).sum() == 0
    assert (objects[1] == BACKGROUND).all()


def test_anchors_are_sampled_256_at_most_half_of_them_positive():
    boxes = [[16 * i, 16 * j, 16 * i + 32, 16 * j + 32] for i in range(14) for j in range(14)]
    sizes = ((256, 256), (256, 256))
    with EventStorage() as storage:
        small_head()(maps_of(*sizes), targets_of(sizes, boxes, []))
    found = {name: value for name, (value, _) in storage.latest().items()}
    assert found["rpn/num_pos_anchors"] == 128 / 2  # mean of the images
    assert found["rpn/num_neg_anchors"] == (128 + 256) / 2


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_parameter_and_map(case):
    head, pyramid = small_head(), maps_of(*SIZES)
    for features in pyramid.maps:
        features.requires_grad_()
    output = head(pyramid, targets_of(SIZES, *CASES[case]))
    total = sum(output.losses.values()) + output.candidates.tokens_BTC.sum()
    total.backward()
    assert torch.isfinite(total)
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        boxes = "anchor_deltas" in name or "bbox_pred" in name
        assert bool(parameter.grad.any()) or (boxes and not any(CASES[case])), name
    assert all(features.grad.any() for features in pyramid.maps)


def test_objects_of_other_images_do_not_matter():
    head, pyramid = small_head(samples=200, positive_fraction=1.0), maps_of(*SIZES)
    both = head(pyramid, targets_of(SIZES, *FEW)).candidates
    alone = AuxiliaryMaps(tuple(x[1:] for x in pyramid.maps), pyramid.strides, pyramid.sizes[1:])
    second = head(alone, targets_of(SIZES[1:], FEW[1])).candidates

    def rows(candidates, image, first):
        object_A = candidates.object_BA[image]
        object_A = object_A.sub(first).where(object_A >= 0, object_A)
        rows = torch.cat([object_A[:, None].float(), candidates.boxes_BA4[image]], 1).tolist()
        return sorted([[round(x, 2) for x in row] for row in rows])

    assert rows(both, 1, 2) == rows(second, 0, 0)


def test_a_seed_makes_the_same_sample():
    head, pyramid, targets = small_head(samples=10), maps_of(*SIZES), targets_of(SIZES, *FEW)

    def step(seed):
        torch.manual_seed(seed)
        return head(pyramid, targets)

    first, again, other = step(3), step(3), step(4)
    assert all(torch.equal(first.losses[name], again.losses[name]) for name in first.losses)
    assert torch.equal(first.candidates.boxes_BA4, again.candidates.boxes_BA4)
    assert not torch.equal(first.candidates.boxes_BA4, other.candidates.boxes_BA4)


def test_storage_is_written_to_but_not_needed():
    head, pyramid, targets = small_head(), maps_of(*SIZES), targets_of(SIZES, *FEW)
    torch.manual_seed(3)
    without = head(pyramid, targets).losses
    torch.manual_seed(3)
    with EventStorage() as storage:
        inside = head(pyramid, targets).losses
    assert {name: x.item() for name, x in without.items()} == {
        name: x.item() for name, x in inside.items()
    }
    assert {"rpn/num_pos_anchors", "roi_head/num_fg_samples"} <= set(storage.latest())


def test_terms_and_weights():
    pyramid, targets = maps_of(*SIZES), targets_of(SIZES, *FEW)
    weights = {"proposal_weight": 2, "class_weight": 3, "box_weight": 4}  # whole numbers as well

    def losses(weights):
        head = small_head(**weights)
        torch.manual_seed(0)
        return head(pyramid, targets).losses

    plain, weighted = losses(dict.fromkeys(weights, 1)), losses(weights)
    factors = {"rpn_class": 2, "rpn_box": 2, "class": 3, "giou": 4}
    assert list(plain) == list(factors)
    for name, factor in factors.items():
        torch.testing.assert_close(weighted[name], factor * plain[name])
        assert plain[name].shape == ()


def test_bfloat16():
    head, pyramid = small_head(), maps_of(*SIZES)
    adapter = nn.Conv2d(DIM, DIM, 1)
    with torch.autocast("cpu", torch.bfloat16):
        maps = tuple(adapter(features) for features in pyramid.maps)
        assert maps[0].dtype == torch.bfloat16
        output = head(AuxiliaryMaps(maps, STRIDES, SIZES), targets_of(SIZES, *FEW))
        predictions = head.predict(AuxiliaryMaps(maps, STRIDES, SIZES))
    assert {loss.dtype for loss in output.losses.values()} == {torch.float32}
    assert all(torch.isfinite(loss) for loss in output.losses.values())
    assert output.candidates.tokens_BTC.dtype == torch.float32
    assert predictions.logits_BNK.dtype == torch.float32
    sum(output.losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in [*head.parameters(), *adapter.parameters()])


def test_float64():
    """What detectron2 computes stays in float32."""
    head, pyramid, targets = small_head(), maps_of(*SIZES), targets_of(SIZES, *FEW)
    torch.manual_seed(0)
    expected = head(pyramid, targets).losses
    boxes_BN4 = head.predict(pyramid).boxes_BN4
    head.double()
    pyramid = AuxiliaryMaps(tuple(features.double() for features in pyramid.maps), STRIDES, SIZES)
    torch.manual_seed(0)
    output = head(pyramid, targets)
    for name, loss in output.losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-3, atol=1e-5)
    assert output.candidates.tokens_BTC.dtype == torch.float64
    assert output.candidates.boxes_BA4.dtype == torch.float64
    torch.testing.assert_close(
        head.predict(pyramid).boxes_BN4, boxes_BN4.double(), rtol=1e-3, atol=1e-4
    )


def test_predictions_are_the_best_pairs():
    """All of them here, since there are few proposals."""
    head, pyramid = small_head(), maps_of(*SIZES)
    predictions = head.predict(pyramid)
    assert predictions.logits_BNK.shape == (2, 1000, CLASSES)
    head.rpn.eval()
    features = {str(level): x for level, x in enumerate(pyramid.maps)}
    proposals, _ = head.rpn(type("Sizes", (), {"image_sizes": SIZES}), features)
    for image, (height, width) in enumerate(SIZES):
        expected = []
        for box in proposals[image].proposal_boxes.tensor:
            pooled = pooled_by_hand(pyramid, image, box)[None]
            logits, deltas = (x[0] for x in head.predictor(head.box_head(pooled)))
            scores = logits.softmax(0)
            for k in range(CLASSES):
                x0, y0, x1, y1 = boxes_by_hand(box.tolist(), deltas[4 * k : 4 * k + 4].tolist())
                expected.append([scores[k].item(), k, x0, y0, x1, y1])
        scores_NK = predictions.logits_BNK[image].sigmoid()
        assert ((scores_NK > 0).sum(1) <= 1).all()
        scores_N, labels_N = scores_NK.max(1)
        assert (scores_N > 0).sum() == len(expected) > 60
        assert (scores_N.diff() <= 0).all()
        cx, cy, w, h = predictions.boxes_BN4[image].unbind(1)
        x0, y0, x1, y1 = (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, 0
        y1 = (cy + h / 2) * height
        found = torch.stack([scores_N, labels_N.float(), x0, y0, x1, y1], 1)[: len(expected)]
        expected = torch.tensor(sorted(expected, reverse=True))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


def test_predictions_are_at_most_1000():
    head = small_head(num_classes=30)
    logits_BNK = head.predict(maps_of(*SIZES)).logits_BNK
    assert logits_BNK.shape == (2, 1000, 30)
    assert (logits_BNK.isfinite().sum(2) == 1).all()


@pytest.mark.parametrize("training", [True, False])
def test_both_calls_work_in_either_mode(training):
    head, pyramid, targets = small_head().train(training), maps_of(*SIZES), targets_of(SIZES, *FEW)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append((head(pyramid, targets).losses, head.predict(pyramid)))
    (losses, predictions), (again, same) = results
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in again.items()}
    assert torch.equal(predictions.logits_BNK, same.logits_BNK)
    assert head.training == training


def test_learns_to_find_the_objects():
    """Two images by heart; their maps are learned as well."""
    torch.manual_seed(0)
    head = FasterRCNNHead(
        num_classes=CLASSES,
        strides=STRIDES,
        embed_dim=32,
        hidden_dim=64,
        proposals=200,
        samples=64,
    )
    targets = targets_of(SIZES, *FEW)
    maps = [nn.Parameter(features) for features in maps_of(*SIZES, dim=32).maps]
    pyramid = AuxiliaryMaps(tuple(maps), STRIDES, SIZES)
    optimizer = torch.optim.Adam([*maps, *head.parameters()], lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        sum(head(pyramid, targets).losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        predictions = head.eval().predict(pyramid)
    for boxes, found in zip(FEW, NMSDetections(iou_threshold=0.5)(predictions, SIZES)):
        best = found[: len(boxes)]  # the objects, before anything else
        overlaps = box_iou(torch.tensor(boxes, dtype=torch.float32), best.pred_boxes.tensor)
        assert (best.scores > 0.5).all()
        assert (overlaps.amax(1) > 0.5).all()
        assert best.pred_classes[overlaps.argmax(1)].tolist() == list(range(len(boxes)))


def test_a_copy_has_the_same_weights_and_predicts_the_same():
    head, pyramid = small_head(), maps_of(*SIZES)
    other = copy.deepcopy(head)
    assert list(other.state_dict()) == [name for name, _ in head.named_parameters()]
    assert torch.equal(head.predict(pyramid).boxes_BN4, other.predict(pyramid).boxes_BN4)


def test_nothing_proposed():
    """Boxes so thin that float32 has no such size: none is left to look at."""
    head, pyramid = small_head(), maps_of(*SIZES)
    nn.init.zeros_(head.rpn.rpn_head.anchor_deltas.weight)
    with torch.no_grad():
        head.rpn.rpn_head.anchor_deltas.bias.copy_(torch.tensor([0.0, 0.0, -500, -500] * 9))
    output = head(pyramid, targets_of(SIZES, [], FEW[1]))
    assert (output.candidates.object_BA[0] == UNUSED).all()
    assert (output.candidates.object_BA[1] == 0).sum() == 1  # the object itself
    assert all(torch.isfinite(loss) for loss in output.losses.values())
    output = head(pyramid, targets_of(SIZES, [], []))
    assert (output.candidates.object_BA == UNUSED).all()
    assert all(torch.isfinite(loss) for loss in output.losses.values())
    sum(output.losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert head.predict(pyramid).logits_BNK.isinf().all()


def test_proposals_that_are_not_finite_are_named():
    pyramid = maps_of(*SIZES)
    pyramid.maps[0][0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="proposals of FasterRCNNHead"):
        small_head()(pyramid, targets_of(SIZES, *FEW))


@pytest.mark.parametrize("strides", [(), (8, 32), (12, 24), (16, 8), (0, 0)])
def test_strides_must_be_a_pyramid(strides):
    with pytest.raises(ValueError, match=r"strides of FasterRCNNHead must be powers of 2"):
        FasterRCNNHead(num_classes=CLASSES, strides=strides)


@pytest.mark.parametrize(
    "name, value",
    [
        ("proposals", 0),
        ("samples", 2.5),
        ("positive_fraction", 1.5),
        ("proposal_weight", -1),
        ("class_weight", float("nan")),
        ("box_weight", -1),
    ],
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} of FasterRCNNHead"):
        small_head(**{name: value})


def test_other_maps_are_refused():
    with pytest.raises(ValueError, match=r"strides \(8, 16\), but was given some of \(16, 32\)"):
        small_head()(maps_of(*SIZES, strides=(16, 32)), targets_of(SIZES, *FEW))


def test_registered():
    assert AUXILIARY_HEADS.get("FasterRCNNHead") is FasterRCNNHead
