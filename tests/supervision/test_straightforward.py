"""Matching and losses of all layers in one pass are those of loops over layers and images."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, item, load, shrink, shrink_heads

from ms_detr.assigners import (
    AllPairsTopKAssigner,
    AppendMissing,
    BestObjectTopKAssigner,
    OverrideByOneToMany,
)
from ms_detr.losses import EveryLayerMaskLosses, MaskCrossEntropy, MaskDice, UncertainPoints
from ms_detr.structures import LayerPredictions, Lesson, Targets
from ms_detr.supervision import PredictedProposalSupervision, by_group
from ms_detr.supervision.sources import SourceContext, joined

ADDITIONS = {
    "group": ("group", "add_group", {"groups": 3}),
    "hybrid": ("hybrid", "add_hybrid", {"num_queries": 20, "repeats": 3}),
    "dn": ("denoising", "add_denoising", {"groups": 2}),
    "cdn": ("denoising", "add_contrastive_denoising", {"pairs": 7}),
    "atss": ("collaborative", "add_atss", {}),
    "faster_rcnn": ("collaborative", "add_faster_rcnn", {}),
    "everything": ("group", "add_group", {"groups": 2}),
}
MODELS = [
    *("ms_detr", "ms_detr_a", "ms_detr_b", "ms_detr_d", "dino", "ms_dino", "deformable_detr_pp"),
    *("deformable_detr_one_stage", "conditional_detr_r50", "ms_detr_dab_r50"),
]
CASES = [(name, "plain") for name in MODELS] + [("ms_detr", name) for name in ADDITIONS]
CASES += [("ms_detr", kind) for kind in ("append", "override", "all pairs", "best", "predicted")]


@pytest.fixture(scope="module")
def loops(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tools"))
        import criterion_loops

        yield criterion_loops
        sys.modules.pop("criterion_loops")


@pytest.fixture(scope="module")
def benchmark(loops):  # noqa: ARG001
    import benchmark_criterion

    return benchmark_criterion


def model_of(name: str, change: str) -> torch.nn.Module:
    """A small model in float64 whose heads say something."""
    node = shrink(load(f"models/{name}.py").model)
    node.encoder.dropout = 0.0
    for key in ("hybrid", "cdn") if change == "everything" else ():
        add(node, key)
    if change in ADDITIONS:
        add(node, change)
    if "adapter" in node.supervisions:
        shrink_heads(node.supervisions)
    if change == "everything":
        node.supervisions.mixed_group = copy.deepcopy(node.supervisions.group)
        node.supervisions.mixed_group.update(group="group", source=None)
        node.supervisions.mixed_group.assigner.assigner = node.supervisions.mixed.assigner
    torch.manual_seed(0)
    model = instantiate(node).double().train()
    mixed = model.supervisions["mixed"] if "mixed" in node.supervisions else None
    if change in ("append", "override"):
        mixed.merge = {"append": AppendMissing, "override": OverrideByOneToMany}[change]()
    if change in ("all pairs", "best"):
        kind = {"all pairs": AllPairsTopKAssigner, "best": BestObjectTopKAssigner}[change]
        mixed.assigner = kind(k=3, threshold=0.1)
    if change == "predicted":
        proposals = model.supervisions["proposals"]
        parts = {"assigner": proposals.assigner, "terms": proposals.terms}
        model.supervisions["proposals"] = PredictedProposalSupervision(**parts)
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def add(node, key: str) -> None:
    path, function, options = ADDITIONS[key]
    LazyConfig.load(str(CONFIGS / f"common/supervision/{path}.py"), function)(node, **options)


def outputs_of(model, batch):
    """What supervisions are given; states are leaves."""
    images = model.preprocess(batch)
    with torch.no_grad():
        memory, _ = model.encode(images.tensor, images.image_sizes)
        targets = Targets.from_instances([image["instances"] for image in batch], torch.float64)
        queries, proposals = model.queries(memory)
        context = SourceContext(
            memory, targets, model.queries, queries, proposals, tuple(images.image_sizes)
        )
        extra = model.supervisions.extra_queries(context)
        states = model.decoder(joined(queries, extra), memory, model.heads)
    leaves = [state.requires_grad_() for layers in states.taps.values() for state in layers]
    return by_group(states, proposals, model.heads, extra), targets, leaves


def batch_of(*counts: int) -> list[dict]:
    batch = [item(64 - 16 * (i % 2), 80, count, seed=i) for i, count in enumerate(counts)]
    return [{**image, "image": image["image"].double()} for image in batch]


def check(ours, theirs, leaves, tolerance: float) -> None:
    assert list(ours) == list(theirs)
    for name, loss in ours.items():
        torch.testing.assert_close(loss, theirs[name], rtol=tolerance, atol=tolerance, msg=name)
    found, expected = (
        torch.autograd.grad(sum(losses.values()), leaves, allow_unused=True)
        for losses in (ours, theirs)
    )
    for one, other in zip(found, expected):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name, change", CASES, ids=str)
def test_every_method(loops, name, change):
    model = model_of(name, change)
    for counts in ((3, 2), (0, 4), (0, 0), (25, 1, 2)):
        outputs, targets, leaves = outputs_of(model, batch_of(*counts))
        ours = model.supervisions(outputs, targets)
        # Auxiliary heads bring their own losses; what their queries are taught is compared.
        ours = {key: loss for key, loss in ours.items() if "/encoder/" not in key}
        check(ours, loops.criterion(model.supervisions, outputs, targets), leaves, 1e-12)


@pytest.mark.parametrize(
    "objects, dtype, tolerance",
    [(7, torch.float64, 1e-12), (7, torch.float32, 2e-5), (700, torch.float64, 1e-12)],
)
def test_few_and_many_objects(loops, benchmark, objects, dtype, tolerance):
    """So many that prices are made in parts."""
    sizes = {"queries": 300, "layers": 2, "tokens": 800}
    outputs, targets = benchmark.problem(objects, dtype=dtype, **sizes)
    teachers = benchmark.supervisions(proposals=True)
    given = [layer for tap in outputs["primary"].states.taps.values() for layer in tap]
    leaves = [values for layer in given for values in (layer.logits_BNK, layer.boxes_BN4)]
    leaves += [outputs["primary"].proposals.logits_BSK, outputs["primary"].proposals.boxes_BS4]
    theirs = loops.criterion(teachers, outputs, targets)
    check(teachers(outputs, targets), theirs, leaves, tolerance)


def test_masks_of_a_layer_are_those_of_the_layer_alone():
    """Of one-to-one pairs, whose number the host knows, and of one-to-many pairs."""
    node = shrink(load("models/ms_detr_mask.py").model)
    node.encoder.dropout = 0.0
    torch.manual_seed(0)
    model = instantiate(node).train()
    batch = [item(64, 80, 3, seed=1), item(48, 60, 2, seed=2), item(48, 60, 0)]
    images = model.preprocess(batch)
    states, proposals = model.detect(images.tensor, images.image_sizes)
    targets = Targets.from_instances([image["instances"] for image in batch], with_masks=True)
    outputs = by_group(states, proposals, model.heads, {})
    lessons = model.supervisions.prepare(outputs, targets)
    points = UncertainPoints(num_points=50)
    masks = EveryLayerMaskLosses(points=points, mask=MaskCrossEntropy(1.0), dice=MaskDice(1.0))
    for name in ("one_to_one", "mixed"):
        lesson, supervision = lessons[name], model.supervisions[name]
        for index, alone in enumerate(supervision.predict(outputs["primary"])):
            pairs = supervision.assigner(alone, targets)
            torch.manual_seed(1)
            found = masks(lesson, index)
            torch.manual_seed(1)
            expected = masks(Lesson(alone, targets, pairs))
            assert found["dice"] > 0 and found.keys() == expected.keys()
            for key, loss in found.items():
                torch.testing.assert_close(loss, expected[key])


def test_a_term_returns_one_number_per_layer():
    model = model_of("ms_detr", "plain")
    outputs, targets, _ = outputs_of(model, batch_of(2, 1))
    terms = model.supervisions["mixed"].terms.terms
    terms["l1"].__class__ = type("Scalar", (type(terms["l1"]),), {"__call__": scalar})
    with pytest.raises(ValueError, match=r"term l1 \(Scalar\) returned .*\(\); .* here \(2,\)"):
        model.supervisions(outputs, targets)


def scalar(self, lesson: Lesson) -> torch.Tensor:  # noqa: ARG001
    return lesson.predictions.boxes_BN4.sum()


def test_layers_are_images_of_one_batch():
    layers = [LayerPredictions(torch.rand(2, 3, 4), torch.rand(2, 3, 4)) for _ in range(3)]
    together = LayerPredictions.joined(layers)
    assert (together.layers, together.images) == (3, 2)
    assert torch.equal(together.boxes_BN4[2 * 1 + 1], layers[1].boxes_BN4[1])
