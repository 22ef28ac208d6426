"""Auxiliary heads that detect by themselves."""

import copy
import inspect

import pytest
import torch
from detections import trained_like
from detectron2.config import LazyCall as L
from detectron2.structures import pairwise_iou
from detectron2.utils.events import EventStorage
from small_models import build as build_plain
from small_models import item
from supervision.small_heads import CentreHead, build

from ms_detr.heads import ClippedDetections, NMSDetections, SoftNMSDetections, TopKDetections
from ms_detr.inference import prepare_for_inference
from ms_detr.registry import AUXILIARY_HEADS
from ms_detr.structures import padding_mask
from ms_detr.supervision.auxiliary import AuxiliaryMaps, BranchDetector, auxiliary_heads

SIZES = ((96, 64), (48, 128), (70, 70))


@pytest.fixture(scope="module")
def inputs():
    items = [item(*size, 2, seed=seed) for seed, size in enumerate(SIZES)]
    return [{"image": item["image"]} for item in items]


@pytest.fixture(scope="module")
def model():
    """Random weights everywhere, also in the heads."""
    model = build("deformable_detr_pp", ("first", "second"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for head in auxiliary_heads(model).values():
            for parameter in head.tower.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.3 * noise if parameter.dim() == 1 else 0.1 * noise)
    return trained_like(model).eval()


def found_by(detector, inputs):
    return [output["instances"] for output in detector(inputs)]


def same(first, second):
    return all(
        torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.pred_classes, b.pred_classes)
        for a, b in zip(first, second, strict=True)
    )


def test_heads_are_those_of_the_supervisions(model):
    heads = auxiliary_heads(model)
    assert list(heads) == ["first", "second"]
    assert all(isinstance(head, CentreHead) for head in heads.values())
    assert heads["second"] is model.supervisions["second"].source.head
    assert auxiliary_heads(build_plain("models/dino.py")) == {}
    assert auxiliary_heads(prepare_for_inference(model)) == {}


def test_it_is_encoder_head_and_suppression(model, inputs):
    """Written out once more."""
    postprocess = NMSDetections(20, 0.4)
    found = found_by(BranchDetector(model, "second", postprocess), inputs)
    with torch.no_grad():
        images = model.preprocess(inputs)
        mask = padding_mask(images.image_sizes, images.tensor)
        memory = model.encoder(model.neck(model.backbone(images.tensor)), mask)
        adapter = model.supervisions.adapter
        maps = AuxiliaryMaps(adapter(memory), adapter.strides, tuple(images.image_sizes))
        predictions = model.supervisions["second"].source.head.predict(maps)
    for image, wanted in zip(found, postprocess(predictions, SIZES), strict=True):
        assert same([image], [wanted[: len(image)]])
        assert (wanted.scores[len(image) :] == 0).all()
    assert not same(found, found_by(BranchDetector(model, "first", postprocess), inputs))


def test_suppression_is_that_of_the_released_configs_by_default(model, inputs):
    found = found_by(BranchDetector(model, "first"), inputs)
    wanted = found_by(BranchDetector(model, "first", NMSDetections(100, 0.6)), inputs)
    assert same(found, wanted) and all(1 < len(image) <= 100 for image in found)


@pytest.mark.parametrize(
    "postprocess", [TopKDetections(9), SoftNMSDetections(9), ClippedDetections(NMSDetections(9))]
)
def test_any_postprocessing_goes(model, inputs, postprocess):
    found = found_by(BranchDetector(model, "first", postprocess), inputs)
    assert [len(image) for image in found] == [9, 9, 9]


def test_the_size_of_the_output_is_that_asked_for(model, inputs):
    wanted = [{**image, "height": 3 * h, "width": 2 * w} for image, (h, w) in zip(inputs, SIZES)]
    branch = BranchDetector(model, "first", TopKDetections(20))
    for found, plain in zip(found_by(branch, wanted), found_by(branch, inputs), strict=True):
        height, width = plain.image_size
        assert found.image_size == (3 * height, 2 * width)
        scaled = plain.pred_boxes.tensor * torch.tensor([2.0, 3, 2, 3])
        torch.testing.assert_close(found.pred_boxes.tensor, scaled)


def test_what_lies_on_padding_is_not_detected(model, inputs):
    """Images of different sizes are padded to one; boxes lie on each image, or reach beyond it."""
    branch = BranchDetector(model, "first", TopKDetections(40))
    for index, together in enumerate(found_by(branch, inputs)):
        height, width = together.image_size
        assert (height, width) == SIZES[index]
        center = together.pred_boxes.get_centers()
        # A cell that shows any of the image counts: its centre may be half the coarsest stride off.
        assert (center > -64).all() and (center < torch.tensor([width, height]) + 64).all()
        assert ((center[:, 0] < width) & (center[:, 1] < height)).float().mean() > 0.8
        assert (together.scores > 0).all()
    clipped = BranchDetector(model, "first", ClippedDetections(NMSDetections(40)))
    for found in found_by(clipped, inputs):
        boxes, (height, width) = found.pred_boxes.tensor, found.image_size
        assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()


def test_the_mode_of_the_detector_is_left_as_it_was(inputs):
    model = build("deformable_detr_pp")
    evaluated = BranchDetector(model.eval(), "first")
    wanted = found_by(evaluated, inputs)
    assert not any(module.training for module in evaluated.modules())
    branch = BranchDetector(model.train(), "first")
    assert branch.training
    state = copy.deepcopy(model.state_dict())
    assert same(found_by(branch, inputs), wanted)
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():  # no statistics of batches were taken
        assert torch.equal(value, state[name]), name
    assert same(found_by(branch, inputs), found_by(branch, inputs))


def test_it_has_the_weights_of_the_detector_and_needs_no_gradient(model, inputs):
    model = copy.deepcopy(model)
    branch = BranchDetector(model, "first", TopKDetections(5))
    before = found_by(branch, inputs)
    assert not any(image.scores.requires_grad for image in before)
    with torch.no_grad():
        auxiliary_heads(model)["first"].tower.classes.bias.add_(1.0)
    for new, old in zip(found_by(branch, inputs), before, strict=True):
        assert (new.scores > old.scores).all()
    assert branch.eval().model is model and not model.training


@pytest.mark.parametrize("name", ["atss", "one_to_one", "adapter", ""])
def test_a_name_without_an_auxiliary_head_is_refused(model, name):
    with pytest.raises(ValueError, match=f"called {name!r}; this detector has: first, second"):
        BranchDetector(model, name)


def test_a_detector_without_heads_is_refused(model):
    for other in (prepare_for_inference(model), build_plain("models/deformable_detr.py")):
        with pytest.raises(ValueError, match=r"'first'; this detector has: none"):
            BranchDetector(other, "first")


def test_something_else_in_the_place_of_a_postprocess_is_refused(model):
    with pytest.raises(ValueError, match="postprocess of BranchDetector must be of class Postproc"):
        BranchDetector(model, "first", 0.6)


@pytest.mark.parametrize("base", ["dab_detr_r50", "dino"])
def test_single_scale_and_denoising_detectors_have_branches_too(base, inputs):
    found = found_by(BranchDetector(build(base).eval(), "first"), inputs)
    assert [image.image_size for image in found] == list(SIZES)
    assert all(torch.isfinite(image.pred_boxes.tensor).all() for image in found)


HEADS = dict(sorted(AUXILIARY_HEADS))


def with_head(name):
    """A small detector with one of the heads that there are."""
    kind = HEADS[name]
    head = L(kind)(num_classes=5, strides="${....adapter.strides}", embed_dim=32)
    small = {"num_groups": 8, "hidden_dim": 64, "proposals": 100, "samples": 64}
    head.update({k: v for k, v in small.items() if k in inspect.signature(kind).parameters})
    return build("deformable_detr_pp", head=head)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_detects_by_itself(name, inputs):
    model = with_head(name).train()
    branch = BranchDetector(model, "first", ClippedDetections(NMSDetections(50, 0.5)))
    found = found_by(branch, inputs)
    assert same(found, found_by(branch, inputs))
    assert all(module.training for module in model.modules())
    for image, size in zip(found, SIZES, strict=True):
        assert image.image_size == size and 0 < len(image) <= 50
        assert (image.scores > 0).all() and (image.scores.diff() <= 0).all()
        boxes, (height, width) = image.pred_boxes.tensor, size
        assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
        assert ((image.pred_classes >= 0) & (image.pred_classes < 5)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_every_head_finds_by_itself_what_it_was_taught(name):
    """Losses alone could fall with boxes or classes that predictions read differently."""
    torch.manual_seed(0)
    model = with_head(name)
    batch = [item(96, 128, 2, seed=5), item(80, 96, 2, seed=6)]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    with EventStorage():
        for _ in range(150):
            loss = sum(value for key, value in model(batch).items() if "/encoder/" in key)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for image, found in zip(batch, found_by(BranchDetector(model, "first"), batch), strict=True):
        truth = image["instances"]
        overlap = pairwise_iou(truth.gt_boxes, found.pred_boxes)
        right = (truth.gt_classes[:, None] == found.pred_classes) & (found.scores > 0.3)
        assert overlap.where(right, torch.zeros(())).amax(1).min() > 0.6
