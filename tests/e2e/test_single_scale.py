"""Conditional DETR, DAB-DETR and DAB-Deformable-DETR as whole detectors, with mixed supervision."""

import copy

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, build, item, load, shrink

from ms_detr.decoder import ConditionalCrossSelfLayer, ConditionalSelfCrossLayer

C5 = ["conditional_detr", "dab_detr"]
ALL = [*C5, "dab_deformable_detr"]
BATCH = [item(64, 80, 3, seed=1), item(64, 80, 2, seed=2)]


def model_file(name, mixed=True):
    return (
        f"models/ms_detr_{name.removesuffix('_detr')}_r50.py" if mixed else f"models/{name}_r50.py"
    )


def made(name, mixed=True, **options):
    """A detector whose boxes have moved away from where all of them begin."""
    model = build(model_file(name, mixed), **options)
    for head in model.heads.box_heads:
        torch.nn.init.normal_(head.layers[-1].weight, std=0.3)
    return model


def decoded(model, maps, padding):
    memory = model.encoder(maps, padding)
    queries, _ = model.queries(memory)
    return model.decoder(queries, memory, model.heads)


@pytest.mark.parametrize("name", ALL)
def test_batched_detections_are_those_of_the_single_images(name):
    model = made(name).eval()
    with torch.no_grad():
        together = model(BATCH)
        alone = [model([image])[0] for image in BATCH]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores)
        torch.testing.assert_close(
            a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor, atol=1e-3, rtol=1e-4
        )


@pytest.mark.parametrize("name", C5)
@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing_behind_the_backbone(name, training):
    """A map alone, and the same map in the corner of a larger one that is full of noise."""
    model = made(name).train(training).double()
    torch.manual_seed(0)
    alone = torch.randn(1, 32, 2, 3).double()
    padded = 50 * torch.randn(2, 32, 4, 5).double()
    padded[:1, :, :2, :3] = alone
    canvas = torch.ones(2, 128, 160, dtype=torch.bool)
    canvas[0, :64, :96] = False
    canvas[1] = False
    expected = decoded(model, [alone], torch.zeros(1, 64, 96, dtype=torch.bool))
    states = decoded(model, [padded], canvas)
    for tap in ("output", "internal"):
        for ours, wanted in zip(states.taps[tap], expected.taps[tap]):
            torch.testing.assert_close(ours[:1], wanted)
    for ours, wanted in zip(states.references, expected.references):
        torch.testing.assert_close(ours[:1], wanted)


@pytest.mark.parametrize("name", ALL)
def test_order_of_the_queries_is_irrelevant(name):
    model = made(name).eval()
    order = torch.randperm(12)
    turned = copy.deepcopy(model)
    for parameter in turned.queries.parameters():
        if len(parameter) == 12:
            parameter.data = parameter.data[order]
    assert not torch.equal(*(next(m.queries.parameters()) for m in (model, turned)))
    with torch.no_grad():
        images = model.preprocess(BATCH)
        straight, other = (
            m.predict(m.detect(images.tensor, images.image_sizes)[0]) for m in (model, turned)
        )
    torch.testing.assert_close(other.logits_BNK, straight.logits_BNK[:, order])
    torch.testing.assert_close(other.boxes_BN4, straight.boxes_BN4[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (40,)], ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("name", ALL)
def test_any_number_of_objects(name, counts):
    model = made(name).train()
    losses = model([item(64, 80 - 9 * i, n, seed=i) for i, n in enumerate(counts)])
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
    if not sum(counts):
        assert all(loss == 0 for key, loss in losses.items() if not key.endswith("/class"))


@pytest.mark.parametrize("name", ALL)
def test_primary_predictions_do_not_depend_on_the_set(name):
    """With dropout 0: the same states with mixed supervision, with one alone, and with none."""
    node = shrink(load(model_file(name)).model)
    node.encoder.dropout = 0.0
    states, losses = [], []
    for left_out in ([], ["mixed"], ["one_to_one"], None):
        other = copy.deepcopy(node)
        if left_out is None:
            other.supervisions = None
        for key in left_out or ():
            del other.supervisions[key]
        torch.manual_seed(0)
        model = instantiate(other).train()
        images = model.preprocess(BATCH)
        states.append(model.detect(images.tensor, images.image_sizes)[0])
        losses.append({} if left_out is None else model(BATCH))
    for found in states[1:]:
        assert all(map(torch.equal, found.taps["output"], states[0].taps["output"]))
        assert all(map(torch.equal, found.references, states[0].references))
    for key, loss in {**losses[1], **losses[2]}.items():
        assert key.startswith("mixed/") or torch.equal(loss, losses[0][key]), key


@pytest.mark.parametrize("implementation, order", ["a0", "b1", "c1", "d0"])
@pytest.mark.parametrize("name", C5)
def test_all_four_implementations_of_mixed_supervision(name, implementation, order):
    node = shrink(load(model_file(name, mixed=False)).model)
    path = str(CONFIGS / "common/supervision/mixed.py")
    LazyConfig.load(path, f"mix_{implementation}")(node)
    layer = (ConditionalSelfCrossLayer, ConditionalCrossSelfLayer)[int(order)]
    model = instantiate(node).train()
    assert type(model.decoder.layers[0]) is layer
    losses = model(BATCH)
    assert {key.split("/")[0] for key in losses} == {"one_to_one", "mixed"}
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", ALL)
def test_half_precision_is_close_to_full(name):
    model = made(name, mixed=False).train()
    full = model(BATCH)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(BATCH)
    assert full.keys() == half.keys()
    for key, loss in half.items():
        assert loss.dtype == torch.float32 and torch.isfinite(loss), key
    total, wanted = sum(half.values()), sum(full.values())
    torch.testing.assert_close(total, wanted, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_a_few_steps_lower_the_loss(name):
    model = made(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    totals = []
    for _ in range(12):
        total = sum(model(BATCH).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]
