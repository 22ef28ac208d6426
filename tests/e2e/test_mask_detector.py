"""The detector with a mask head: what it trains, detects, loads and refuses."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Instances
from small_models import CONFIGS, build, item, load, shrink

from ms_detr.assigners import DiceCost
from ms_detr.heads import TopKDetections
from ms_detr.losses import EveryLayerMaskLosses
from ms_detr.structures import LayerPredictions, Targets
from ms_detr.supervision import TrainingOutputs

MODEL = "models/ms_detr_mask.py"
PARTS = CONFIGS / "common/mask_head.py"
BATCH = [item(64, 80, 3, seed=1), item(48, 60, 2, seed=2)]


def node_of(change=lambda node: None, **options):
    node = shrink(load(MODEL).model, **options)
    node.encoder.dropout = 0.0
    change(node)
    return node


def make(change=lambda node: None, **options):
    node = node_of(change, **options)
    torch.manual_seed(0)
    return instantiate(node)


def part(name: str):
    return LazyConfig.load(str(PARTS), name)


def detect(model, batch=BATCH) -> list[Instances]:
    model.eval()
    with torch.no_grad():
        return [result["instances"] for result in model(batch)]


@pytest.mark.parametrize("name", [MODEL, "models/ms_detr_mask_attention.py"])
@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 2), (100, 1)])
def test_every_parameter_has_a_gradient(name, counts):
    model = build(name)
    batch = [item(64 - 16 * i, 80 - 20 * i, n, seed=i) for i, n in enumerate(counts)]
    losses = model(batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        if key.startswith("mask_head"):
            assert bool(parameter.grad.any()) == (sum(counts) > 0), key


def test_only_masks_are_added():
    """A mask head changes no loss, pair or detection of boxes."""
    with_masks, without = make(), make(lambda node: drop_masks(node))
    without.load_state_dict(
        {k: v for k, v in with_masks.state_dict().items() if not k.startswith("mask_head.")}
    )
    more, less = with_masks(BATCH), without(BATCH)
    assert set(more) - set(less) == {"one_to_one/1/mask", "one_to_one/1/dice"}
    assert all(torch.equal(more[key], less[key]) for key in less)
    for one, other in zip(detect(with_masks), detect(without)):
        assert torch.equal(one.pred_boxes.tensor, other.pred_boxes.tensor)
        assert torch.equal(one.scores, other.scores)
        assert one.has("pred_masks") and not other.has("pred_masks")


def drop_masks(node) -> None:
    node.mask_head = None
    node.supervisions.one_to_one.masks = None


def test_inference_gives_the_masks_that_are_taught():
    """Masks of the kept queries, from the states that the last layer's lesson holds."""
    model = make().train()
    model.backbone.eval()  # its normalisation would use the statistics of this batch
    torch.nn.init.zeros_(model.mask_head.prior.coefficients.bias)  # masks beyond small boxes
    images = model.preprocess(BATCH)
    states, proposals = model.detect(images.tensor, images.image_sizes)
    outputs = TrainingOutputs(states, proposals, model.heads)
    last = model.supervisions["one_to_one"].predict(outputs)[-1]
    sizes = [(128, 160), (48, 60)]
    expected = TopKDetections(9)(last, sizes)
    model.postprocess = TopKDetections(9)
    batch = [dict(image, height=h, width=w) for image, (h, w) in zip(BATCH, sizes)]
    for found, taught, size in zip(detect(model, batch), expected, sizes):
        assert found.pred_masks.shape == (9, *size)
        assert torch.equal(found.pred_masks, taught.pred_masks)
        assert found.pred_masks.any() and not found.pred_masks.all()


def test_padding_of_a_batch_is_known():
    """Images of 64 x 80 and 48 x 60 pixels: the second fills three quarters of both sides."""
    model = make()
    images = model.preprocess(BATCH)
    states, _ = model.detect(images.tensor, images.image_sizes)
    assert states.masks.extent_B2.tolist() == [[1.0, 1.0], [0.75, 0.75]]
    # Wide and low: width comes first.
    images = model.preprocess([BATCH[0], item(32, 80, 1)])
    states, _ = model.detect(images.tensor, images.image_sizes)
    assert states.masks.extent_B2.tolist() == [[1.0, 1.0], [1.0, 0.5]]


def test_masks_of_one_to_many_pairs_are_those_of_the_taught_states():
    """Behind tap and branch, as its classes and boxes are."""
    model = make(lambda node: node.supervisions.mixed.update(masks=part("mask_losses")))
    images = model.preprocess(BATCH)
    states, proposals = model.detect(images.tensor, images.image_sizes)
    mixed = model.supervisions["mixed"]
    found = mixed.predict(TrainingOutputs(states, proposals, model.heads))
    for layer, predictions in enumerate(found):
        taught = mixed.branch(states.taps["internal"][layer], layer)
        assert torch.equal(predictions.masks.states_BNC, taught)
    assert not torch.equal(found[-1].masks.states_BNC, states.taps["output"][-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node.supervisions.mixed.update(masks=part("mask_losses")),
        lambda node: node.supervisions.one_to_one.assigner.costs.update(part("mask_costs")),
        lambda node: node.supervisions.one_to_one.masks.update(_target_=EveryLayerMaskLosses),
    ],
)
def test_what_else_may_be_switched_on(change):
    model, usual = make(change), make()
    losses = model(BATCH)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    names = {key for key in losses if key.endswith(("mask", "dice"))} - set(usual(BATCH))
    everywhere = {"one_to_one/0/mask", "one_to_one/0/dice"}
    mixed = {"mixed/1/mask", "mixed/1/dice"}
    prices = model.supervisions["one_to_one"].assigner.costs.costs
    assert names in (everywhere, mixed, set())
    assert bool(names) != ("dice" in prices)


def test_bf16_autocast():
    model = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        rough = model(BATCH)
        sum(rough.values()).backward()
        found = detect(model)
    torch.manual_seed(0)
    exact = model.train()(BATCH)
    for key in ("one_to_one/1/mask", "one_to_one/1/dice"):
        assert rough[key].dtype == torch.float32
        assert rough[key].item() == pytest.approx(exact[key].item(), rel=0.1)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert found[0].pred_masks.dtype == torch.bool


@pytest.mark.parametrize("name", ["lvis/ms_detr_r50_300q_24ep.py", "lvis/ms_detr_mask_r50_24ep.py"])
def test_1203_classes(name):
    node = load(name).model
    classes = node.heads.num_classes
    assert classes == 1203
    model = instantiate(shrink(node, num_classes=classes))
    losses = model([item(64, 80, 3, num_classes=classes)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    (found,) = detect(model, [item(64, 80, 1)])
    assert len(found) == 300 and found.pred_classes.max() > 80


# What does not fit.


def no_head(node) -> None:
    node.mask_head = None


def no_losses(node) -> None:
    node.supervisions.one_to_one.masks = None


@pytest.mark.parametrize(
    "change, words",
    [
        (no_head, "has mask losses, but model.mask_head is null"),
        (no_losses, "model.mask_head is taught by no supervision"),
        (lambda node: node.mask_head.update(in_channels={"res2": 7}), r"model.mask_head.in_chann"),
        (
            lambda node: node.supervisions.one_to_one.terms.update(dice=part("mask_losses").dice),
            "term dice must be of class LossTerm",
        ),
        (
            lambda node: node.supervisions.one_to_one.masks.update(
                l1=node.supervisions.one_to_one.masks.dice
            ),
            r"terms and masks of a supervision both have \['l1'\]",
        ),
    ],
)
def test_parts_that_do_not_fit(change, words):
    with pytest.raises(ValueError, match=words):
        make(change)


def test_a_deployed_model_needs_no_supervision():
    taught, deployed = make(), make(lambda node: node.update(supervisions=None))
    state = {k: v for k, v in taught.state_dict().items() if not k.startswith("supervisions.")}
    deployed.load_state_dict(state)
    for one, other in zip(detect(taught), detect(deployed)):
        assert torch.equal(one.pred_masks, other.pred_masks)


def test_training_without_masks_in_the_data():
    batch = [dict(image, instances=Instances(image["instances"].image_size)) for image in BATCH]
    for image, given in zip(BATCH, batch):
        given["instances"].gt_boxes = image["instances"].gt_boxes
        given["instances"].gt_classes = image["instances"].gt_classes
    with pytest.raises(ValueError, match="image 0 of the batch has 3 objects, but no gt_masks"):
        make()(batch)
    # A detector of boxes does not look at masks.
    build("models/ms_detr.py")(batch)
    assert Targets.from_instances([image["instances"] for image in batch]).masks is None
    assert LayerPredictions(torch.zeros(1), torch.zeros(1)).masks is None


def test_masks_are_taught_and_priced_in_groups_of_queries():
    """Blocks and repeated objects share the pixels of their images."""

    def with_groups(node):
        for path, name, options in (
            ("group", "add_group", {"groups": 3}),
            ("hybrid", "add_hybrid", {"num_queries": 15, "repeats": 2}),
        ):
            file = str(CONFIGS / f"common/supervision/{path}.py")
            LazyConfig.load(file, name)(node, **options)
            inner = node.supervisions[path].assigner.assigner
            inner.costs.dice = L(DiceCost)(weight=5.0, num_points=50)

    model = make(with_groups)
    losses = model.train()(BATCH)
    for name in ("one_to_one", "group", "hybrid"):
        loss = losses[f"{name}/1/dice"]
        (gradient,) = torch.autograd.grad(
            loss, model.mask_head.query_embed.layers[0].weight, retain_graph=True
        )
        assert torch.isfinite(loss) and gradient.abs().sum() > 0, name


@pytest.mark.parametrize(
    "name", ["conditional_detr_r50", "dab_detr_r50", "dino", "deformable_detr_one_stage"]
)
def test_every_detector_can_have_masks(name):
    node = load(f"models/{name}.py").model
    part("with_masks")(node)
    node = shrink(node)
    torch.manual_seed(0)
    model = instantiate(node).train()
    losses = model(BATCH)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert detect(model)[0].pred_masks.shape[1:] == (64, 80)
