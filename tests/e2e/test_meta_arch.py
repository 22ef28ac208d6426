"""The detector end to end: batches of all kinds, padding, other backbones, bad input."""

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling import FPN, META_ARCH_REGISTRY
from small_models import build, item, load, shrink

from ms_detr.assigners import HungarianAssigner
from ms_detr.errors import NonFiniteError
from ms_detr.heads import BoxHeads, ClassHeads
from ms_detr.meta_arch import MSDETR
from ms_detr.registry import ASSIGNERS, LOSSES, MATCH_COSTS, MERGES
from ms_detr.supervision import LayerwiseFeedForward

MODEL = "models/ms_detr.py"


def step(model, batch):
    model.train()
    model.zero_grad()
    losses = model(batch)
    sum(losses.values()).backward()
    return {key: loss.item() for key, loss in losses.items()}


@pytest.mark.parametrize(
    "counts", [(3, 2), (0, 2), (0, 0), (0,), (40,)], ids=lambda c: "-".join(map(str, c))
)
def test_any_number_of_objects_gives_every_parameter_a_finite_gradient(counts):
    model = build(MODEL)
    losses = step(model, [item(64, 80 - 9 * i, n, seed=i) for i, n in enumerate(counts)])
    assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    if not sum(counts):
        assert all(v == 0 for key, v in losses.items() if not key.endswith("/class"))


@pytest.mark.parametrize("name", [MODEL, "models/ms_detr_pp.py", "models/ms_detr_one_stage.py"])
def test_batched_detections_are_those_of_the_single_images(name):
    # GroupNorm of the neck sees padding, as in every published Deformable-DETR: without padding
    # there must be no difference at all
    model = build(name).eval()
    batch = [item(64, 80, 1, seed=5), item(64, 80, 2, seed=6)]
    with torch.no_grad():
        together = model(batch)
        alone = [model([image])[0] for image in batch]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores)
        torch.testing.assert_close(
            a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor, atol=1e-3, rtol=1e-4
        )


@pytest.mark.parametrize("training", [True, False])
def test_encoder_and_decoder_never_read_padding(training):
    model = build(MODEL).train(training)
    maps = [torch.randn(2, 32, 8, 10), torch.randn(2, 32, 4, 5)]
    maps += [torch.randn(2, 32, 2, 3), torch.randn(2, 32, 1, 2)]
    from ms_detr.structures import padding_mask

    padding = padding_mask([(64, 80), (40, 40)], torch.zeros(2, 3, 64, 80))
    results = []
    for fill in (0.0, 50.0):
        filled = [m.clone() for m in maps]
        for m in filled:
            pad = torch.nn.functional.interpolate(padding[:, None].float(), m.shape[-2:]) > 0.5
            m.masked_fill_(pad.expand_as(m), fill)
        memory = model.encoder(filled, padding)
        queries, _ = model.queries(memory)
        results.append(model.decoder(queries, memory, model.heads).taps["output"][-1])
    torch.testing.assert_close(*results)


def test_detections_are_in_the_asked_size_and_sorted():
    model = build(MODEL).eval()
    with torch.no_grad():
        model.heads.box_heads[-1].layers[-1].bias[2:] = 6.0  # boxes beyond the image
    image = item(64, 80, 1)["image"]
    asked = [{}, {"height": 128, "width": 40}, {"height": 32}, {"width": 160}]
    with torch.no_grad():
        plain, *others = (model([{"image": image, **size}])[0]["instances"] for size in asked)
    assert plain.image_size == (64, 80) and len(plain) == 60  # 12 queries, 5 classes: all of them
    assert (plain.scores.diff() <= 0).all()
    assert (plain.pred_boxes.tensor[:, :2] < 0).any() and (plain.pred_boxes.tensor > 80).any()
    for found, size in zip(others, [(128, 40), (32, 80), (64, 160)], strict=True):
        assert found.image_size == size
        assert torch.equal(found.scores, plain.scores)
        assert torch.equal(found.pred_classes, plain.pred_classes)
        scale = torch.tensor([size[1] / 80, size[0] / 64] * 2)
        torch.testing.assert_close(found.pred_boxes.tensor, plain.pred_boxes.tensor * scale)


def test_images_of_a_batch_keep_their_own_sizes():
    model = build(MODEL).eval()
    batch = [item(64, 80, 1), item(48, 40, 1, seed=1)]
    batch[0].update(height=128, width=160)
    del batch[1]["height"], batch[1]["width"]
    with torch.no_grad():
        found = [result["instances"] for result in model(batch)]
        images = model.preprocess(batch)
        states, _ = model.detect(images.tensor, images.image_sizes)
        expected = model.postprocess(model.predict(states), [(128, 160), (48, 40)])
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.image_size == wanted.image_size
        torch.testing.assert_close(ours.pred_boxes.tensor, wanted.pred_boxes.tensor)


def test_the_same_seed_gives_the_same_losses():
    batch = [item(64, 80, 3)]
    assert step(build(MODEL), batch) == step(build(MODEL), batch)


def test_a_few_steps_lower_the_loss():
    model = build(MODEL)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    batch = [item(64, 80, 3), item(64, 64, 1, seed=3)]
    totals = []
    for _ in range(15):
        totals.append(sum(step(model, batch).values()))
        optimizer.step()
    assert totals[-1] < 0.7 * totals[0]


def test_double_precision_and_bf16_autocast():
    batch = [item(64, 80, 3)]
    reference = step(build(MODEL), batch)
    double = step(build(MODEL).double(), batch)
    assert double.keys() == reference.keys()
    for key, value in double.items():
        assert value == pytest.approx(reference[key], rel=1e-3), key
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = step(build(MODEL), batch)
    assert sum(half.values()) == pytest.approx(sum(reference.values()), rel=0.05)


def test_other_backbones_fit():
    node = shrink(load(MODEL).model)
    # the stages of a ResNet are a list of modules, which FPN does not need to know
    node.backbone = L(FPN)(
        bottom_up=node.backbone,
        in_features=["res3", "res4", "res5"],
        out_channels=24,
        norm="",
    )
    node.neck.in_channels = {"p3": 24, "p4": 24, "p5": 24}
    torch.manual_seed(0)
    model = instantiate(node)
    assert model.backbone.size_divisibility == 32
    losses = step(model, [item(50, 70, 2)])
    assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())


def test_neck_must_name_maps_of_the_backbone():
    node = shrink(load(MODEL).model)
    node.neck.in_channels = {"res3": 32, "res4": 99}
    with pytest.raises(ValueError, match=r"'res4': 99.* does not fit the backbone's maps"):
        instantiate(node)


@pytest.mark.parametrize(
    "part, kind, options, message",
    [
        ("class_heads", ClassHeads, {"num_classes": 7}, "class_heads.num_classes is 7.* is 5"),
        ("class_heads", ClassHeads, {"num_layers": 3}, "class_heads.num_layers is 3.* is 2"),
        ("box_heads", BoxHeads, {"num_layers": 6}, "box_heads.num_layers is 6.* is 2"),
        ("branch", LayerwiseFeedForward, {"num_layers": 1}, "branch.num_layers is 1.* is 2"),
        ("branch", LayerwiseFeedForward, {"num_layers": 3}, "branch.num_layers is 3.* is 2"),
    ],
)
def test_parts_of_a_supervision_fit_the_detector(part, kind, options, message):
    fitting = {"embed_dim": 32, "num_layers": 2}
    fitting |= {"num_classes": 5} if kind is ClassHeads else {}
    node = shrink(load(MODEL).model)
    node.supervisions.mixed[part] = L(kind)(**(fitting | options))
    with pytest.raises(ValueError, match=f"model.supervisions.mixed.{message}"):
        instantiate(node)
    node.supervisions.mixed[part] = L(kind)(**fitting)
    instantiate(node)
    if kind is not LayerwiseFeedForward:
        # One head serves all layers.
        node.supervisions.mixed[part] = L(kind)(**(fitting | {"num_layers": 1}))
        losses = step(instantiate(node), [item(64, 80, 2)])
        assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())


@pytest.mark.parametrize("layers", [3, 6])
def test_the_detector_has_heads_for_its_layers(layers):
    node = shrink(load(MODEL).model)
    node.heads.num_layers = layers
    with pytest.raises(ValueError, match=f"model.heads.num_layers is {layers}, but .* is 2"):
        instantiate(node)
    del node.supervisions
    with pytest.raises(ValueError, match="model.heads.num_layers"):
        instantiate(node)


def test_non_finite_predictions_name_supervision_and_layer():
    model = build(MODEL).train()
    with torch.no_grad():
        model.heads.box_heads[1].layers[-1].bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="supervision one_to_one, layer 1"):
        model([item(64, 80, 3)])


def test_components_are_registered():
    assert META_ARCH_REGISTRY.get("MSDETR") is MSDETR
    assert ASSIGNERS.get("HungarianAssigner") is HungarianAssigner
    published = {"ReleasedTopKAssigner", "BestObjectTopKAssigner", "AllPairsTopKAssigner"}
    assert {name for name, _ in ASSIGNERS} == {
        "HungarianAssigner",
        "BlockwiseAssigner",
        "RepeatingAssigner",
        *published,
    }
    assert {name for name, _ in MERGES} == {"AppendMissing", "OverrideByOneToMany"}
    of_boxes = {"FocalLoss", "QualityFocalLoss", "L1Loss", "GIoULoss"}
    of_masks = {"MaskCrossEntropy", "MaskDice"}
    assert {name for name, _ in LOSSES} == of_boxes | of_masks
    of_boxes, of_masks = {"FocalCost", "L1Cost", "GIoUCost"}, {"MaskCost", "DiceCost"}
    assert {name for name, _ in MATCH_COSTS} == of_boxes | of_masks
