"""What all dense heads must do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from supervision.auxiliary.dense_cases import (
    CHANNELS,
    NUM_CLASSES,
    OBJECTS,
    SIZES,
    STRIDES,
    image_alone,
    maps_for,
    targets_of,
)
from torch import nn
from torchvision.ops import box_iou

from ms_detr.heads import NMSDetections
from ms_detr.registry import AUXILIARY_HEADS
from ms_detr.supervision.auxiliary import (
    BACKGROUND,
    UNUSED,
    ATSSHead,
    AuxiliaryMaps,
    FCOSHead,
    GFLHead,
    RetinaNetHead,
)

HEADS = [ATSSHead, FCOSHead, GFLHead, RetinaNetHead]
every_head = pytest.mark.parametrize("kind", HEADS)


def make(kind, seed=0, **others):
    torch.manual_seed(seed)
    return kind(num_classes=NUM_CLASSES, strides=STRIDES, embed_dim=CHANNELS, **others)


def batch(dtype=torch.float32, objects=OBJECTS):
    pyramid = maps_for(SIZES, dtype=dtype)
    return pyramid, targets_of(pyramid, objects, dtype=torch.float32)


@every_head
def test_is_registered(kind):
    assert AUXILIARY_HEADS.get(kind.__name__) is kind


@every_head
def test_finds_the_objects_of_two_images(kind):
    head = make(kind)
    sizes = ((128, 96), (120, 128))
    maps = nn.ParameterList(maps_for(sizes).maps)
    pyramid = AuxiliaryMaps(tuple(maps), STRIDES, sizes)
    objects = [[(0, 10, 20, 60, 90), (2, 40, 60, 96, 128)], [(1, 20, 30, 100, 90)]]
    targets = targets_of(pyramid, objects, dtype=torch.float32)
    optimizer = torch.optim.Adam([*head.parameters(), *maps], lr=5e-3)
    for _ in range(80):
        pyramid = AuxiliaryMaps(tuple(maps), STRIDES, sizes)  # its tokens are kept
        optimizer.zero_grad()
        sum(head(pyramid, targets).losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        detections = NMSDetections(iou_threshold=0.5)(head.predict(pyramid), sizes)
    for image, true in zip(detections, objects):
        found = image[: len(true)]  # the objects, before anything else
        assert (found.scores > 0.3).all()
        assert found.pred_classes.sort()[0].tolist() == [label for label, *_ in true]
        boxes = found.pred_boxes.tensor[found.pred_classes.argsort()]
        overlap = box_iou(boxes, torch.tensor([box for _, *box in true], dtype=torch.float32))
        assert (overlap.diag() > 0.5).all()


@every_head
def test_gradients_reach_every_parameter(kind):
    head = make(kind)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    pyramid, targets = batch()
    losses = head(pyramid, targets).losses
    for name, loss in losses.items():
        assert loss.isfinite(), name
        assert loss > 0, name
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_head
def test_without_objects_only_classes_learn(kind):
    head = make(kind)
    pyramid, targets = batch(objects=[(), (), ()])
    output = head(pyramid, targets)
    assert set(output.candidates.object_BA.unique().tolist()) == {BACKGROUND, UNUSED}
    assert output.losses["class"] > 0
    assert sum(output.losses.values()) == output.losses["class"]
    sum(output.losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name  # who reduces gradients waits for all of them
        assert parameter.grad.isfinite().all(), name
    assert head.tower.classes.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [ATSSHead, FCOSHead, GFLHead])
def test_objects_without_any_positive(kind):
    # Neither the corner nor the centre of a cell lies in it.
    pyramid, targets = batch(objects=[((0, 5, 5, 7, 7),), (), ()])
    output = make(kind)(pyramid, targets)
    assert output.candidates.object_BA.max() == BACKGROUND
    assert all(loss.isfinite() for loss in output.losses.values())


@every_head
@pytest.mark.parametrize("features", [torch.float32, torch.bfloat16])
def test_mixed_precision(kind, features):
    head = make(kind)
    expected = head(*batch())
    pyramid, targets = batch(features)
    with torch.autocast("cpu", torch.bfloat16):
        output = head(pyramid, targets)
    assert torch.equal(output.candidates.object_BA, expected.candidates.object_BA)
    for name, loss in output.losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected.losses[name], rtol=0.02, atol=1e-3)
    sum(output.losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@every_head
def test_no_candidate_on_padding(kind):
    head = make(kind)
    pyramid, targets = batch()
    object_BA = head(pyramid, targets).candidates.object_BA
    on_image_BA = head.grid(pyramid).on_image_BA
    assert (object_BA[~on_image_BA] == UNUSED).all()
    assert (object_BA[on_image_BA] == BACKGROUND).any()
    predictions = head.predict(pyramid)
    scores = predictions.logits_BNK.sigmoid()
    assert (scores[~on_image_BA] == 0).all()
    assert (scores[on_image_BA] > 0).all()
    for found in NMSDetections()(predictions, SIZES):
        assert len(found)
        assert found.pred_boxes.tensor.isfinite().all()


@every_head
def test_logits_of_unused_candidates_teach_nothing(kind):
    head = make(kind)
    pyramid, targets = batch()
    grid, output = head.grid(pyramid), head.tower(pyramid.maps)
    boxes_G4 = pyramid.boxes_of(targets)
    object_BA = head.assigned(output, grid, targets, boxes_G4)
    leaf = output.logits_BAK.detach().requires_grad_()
    changed = type(output)(leaf, output.boxes_BAD, output.quality_BA)
    head.losses(changed, grid, object_BA, targets, boxes_G4)["class"].backward()
    assert torch.equal(leaf.grad.abs().sum(-1) == 0, object_BA == UNUSED)


@every_head
def test_a_batch_is_as_its_images_one_by_one(kind):
    # Without normalisation, whose statistics are those of the padded map.
    head = make(kind, num_convs=0)
    pyramid, targets = batch()
    together, on_image = head(pyramid, targets), head.grid(pyramid).on_image_BA
    predictions = head.predict(pyramid)
    first, of_class = 0, 0.0
    for image, objects in enumerate(OBJECTS):
        alone = image_alone(pyramid, image)
        found = head(alone, targets_of(alone, [objects], dtype=torch.float32))
        own = on_image[image]
        expected = together.candidates.object_BA[image, own]
        assert (expected >= 0).any() == bool(objects)
        assert torch.equal(
            found.candidates.object_BA[0], expected.sub(first).where(expected >= 0, expected)
        )
        boxes = together.candidates.boxes_BA4[image, own]
        assert torch.equal(found.candidates.boxes_BA4[0], boxes)
        predicted = head.predict(alone)
        for name in ("logits_BNK", "boxes_BN4"):
            there = getattr(predictions, name)[image, own]
            torch.testing.assert_close(getattr(predicted, name)[0], there)
        of_class += found.losses["class"] * max(1, (expected >= 0).sum())
        first += len(objects)
    number = (together.candidates.object_BA >= 0).sum()
    torch.testing.assert_close(together.losses["class"] * number, of_class)


@pytest.mark.parametrize("kind", [ATSSHead, GFLHead, RetinaNetHead])
def test_candidates_know_their_features(kind):
    pyramid, targets = batch()
    candidates = make(kind)(pyramid, targets).candidates
    assert torch.equal(candidates.tokens_BTC, pyramid.tokens_BSC)
    # The anchor has its centre in the upper left corner of the cell that the feature belongs to.
    centers = (candidates.boxes_BA4[..., :2] + candidates.boxes_BA4[..., 2:]) / 2
    stride = torch.tensor(STRIDES)[pyramid.level_S][candidates.token_A, None]
    corners = pyramid.centers_S2[candidates.token_A] - stride / 2
    torch.testing.assert_close(centers, corners.expand_as(centers))


@every_head
def test_can_be_copied_and_stored(kind):
    head, (pyramid, targets) = make(kind), batch()
    expected = head(pyramid, targets).losses
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert other(pyramid, targets).losses == expected


@every_head
def test_other_strides_than_those_of_the_maps(kind):
    pyramid, targets = batch()
    head = kind(num_classes=NUM_CLASSES, strides=(4, 8, 16), embed_dim=CHANNELS)
    with pytest.raises(ValueError, match=r"\[4, 8, 16\].*\[8, 16, 32\].*set strides"):
        head(pyramid, targets)


@every_head
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_classes", 0),
        ("strides", (8, 0)),
        ("strides", (8, 12.5)),
        ("num_convs", -1),
        ("num_groups", 5),
        ("class_weight", -1.0),
        ("box_weight", float("nan")),
    ],
)
def test_bad_arguments(kind, name, value):
    refuses(kind, name, value)


@pytest.mark.parametrize("kind", [ATSSHead, GFLHead])
@pytest.mark.parametrize(("name", "value"), [("top_k", 0), ("scale", 0.0)])
def test_bad_arguments_of_heads_with_one_anchor(kind, name, value):
    refuses(kind, name, value)


def refuses(kind, name, value):
    good = {"num_classes": 3, "strides": STRIDES, "embed_dim": 32}
    with pytest.raises(ValueError, match=name):
        kind(**(good | {name: value}))
