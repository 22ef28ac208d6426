"""Laws of the set of supervisions: it teaches, and touches nothing else."""

import copy

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, build, item, load, shrink

from ms_detr.assigners import (
    AppendMissing,
    FocalCost,
    HungarianAssigner,
    MatchCosts,
    OverrideByOneToMany,
    run_together,
)
from ms_detr.heads import BoxHeads, ClassHeads
from ms_detr.losses import FocalLoss, LossTerms
from ms_detr.queries import LearnedQueries
from ms_detr.structures import Targets
from ms_detr.supervision import (
    PredictedProposalSupervision,
    ProposalSupervision,
    Supervision,
    SupervisionSet,
    TrainingOutputs,
)
from ms_detr.supervision.sources import OwnEmbeddings

BATCH = [item(64, 80, 3, seed=1), item(48, 60, 2, seed=2)]


def outputs_of(model, batch=BATCH):
    images = model.preprocess(batch)
    states, proposals = model.detect(images.tensor, images.image_sizes)
    return TrainingOutputs(states, proposals, model.heads)


def test_removing_a_supervision_removes_its_losses_and_changes_no_other():
    model = build("models/ms_detr.py").train()
    full = model(BATCH)
    assert {key.split("/")[0] for key in full} == {"one_to_one", "proposals", "mixed"}
    del model.supervisions["mixed"]
    rest = model(BATCH)
    assert set(rest) == {key for key in full if not key.startswith("mixed/")}
    for key, loss in rest.items():
        assert torch.equal(loss, full[key]), key


def test_order_of_the_entries_is_irrelevant():
    model = build("models/ms_detr.py").train()
    forward = model(BATCH)
    entries = dict(model.supervisions.items())
    model.supervisions = SupervisionSet(**dict(reversed(entries.items())))
    backward = model(BATCH)
    assert list(forward) != list(backward)
    assert all(torch.equal(forward[key], backward[key]) for key in forward)


def test_every_layer_and_term_has_a_name():
    losses = build("models/ms_detr.py").train()(BATCH)
    terms = ("class", "l1", "giou")
    expected = {f"{s}/{d}/{t}" for s in ("one_to_one", "mixed") for d in range(2) for t in terms}
    assert set(losses) == expected | {f"proposals/0/{t}" for t in terms}
    assert all(loss.dim() == 0 for loss in losses.values())


def test_weights_scale_their_own_term_only():
    model = build("models/ms_detr.py").train()
    before = model(BATCH)
    model.supervisions["mixed"].terms.terms["giou"].weight *= 3
    after = model(BATCH)
    for key in before:
        factor = 3 if key.startswith("mixed/") and key.endswith("/giou") else 1
        torch.testing.assert_close(after[key], factor * before[key])


def test_targets_and_inputs_are_left_alone():
    model = build("models/ms_detr.py").train()
    batch = copy.deepcopy(BATCH)
    model(batch)
    for before, after in zip(BATCH, batch):
        assert torch.equal(before["image"], after["image"])
        old, new = before["instances"], after["instances"]
        assert torch.equal(old.gt_classes, new.gt_classes)
        assert torch.equal(old.gt_boxes.tensor, new.gt_boxes.tensor)


def test_inference_needs_no_supervision_and_computes_none():
    model = build("models/ms_detr.py").eval()
    called = []
    for module in model.supervisions.modules():
        module.register_forward_hook(lambda module, *_: called.append(module))
    for head in (*model.heads.class_heads, *model.heads.box_heads):
        head.register_forward_hook(lambda module, *_: called.append(module))
    with torch.no_grad():
        with_set = model(BATCH)
        ours = list(called)
        model.supervisions = None
        without = model(BATCH)
    # two layers: one refinement between them, then the predictions of the last layer
    heads = model.heads
    assert ours == [heads.box_heads[0], heads.class_heads[1], heads.box_heads[1]]
    for a, b in zip(with_set, without):
        assert torch.equal(a["instances"].scores, b["instances"].scores)
        assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)


def test_a_detector_without_supervisions_detects_but_does_not_train():
    node = shrink(load("models/ms_detr.py").model)
    del node.supervisions
    model = instantiate(node)
    assert len(model.eval()(BATCH)) == 2
    with pytest.raises(ValueError, match="nothing that teaches it; give model.supervisions"):
        model.train()(BATCH)


def test_primary_predictions_do_not_depend_on_the_set():
    node = shrink(load("models/ms_detr.py").model)
    node.encoder.dropout = 0.0
    states = []
    for names in (["one_to_one"], ["mixed", "one_to_one", "proposals"]):
        entry = copy.deepcopy(node)
        for name in ("one_to_one", "mixed", "proposals"):
            if name not in names:
                del entry.supervisions[name]
        torch.manual_seed(0)
        states.append(outputs_of(instantiate(entry).train()).states)
    for a, b in zip(states[0].taps["output"], states[1].taps["output"]):
        assert torch.equal(a, b)


def test_mixed_and_one_to_one_share_heads_but_not_the_branch():
    model = build("models/ms_detr.py").train()
    losses = model(BATCH)
    mixed = sum(loss for key, loss in losses.items() if key.startswith("mixed/"))
    mixed.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.heads.class_heads.parameters())
    assert all(p.grad is not None for p in model.supervisions["mixed"].parameters())
    # the last layer's self-attention and feed-forward come after the tap
    last = model.decoder.layers[-1]
    assert all(p.grad is None for p in last.self_attention.parameters())
    assert all(p.grad is None for p in last.feed_forward.parameters())
    assert all(p.grad is not None for p in last.cross_attention.parameters())


def test_proposals_are_matched_on_anchors():
    model = build("models/ms_detr.py").train()
    outputs = outputs_of(model)
    targets = Targets.from_instances([image["instances"] for image in BATCH])
    seen = []

    class Spy(HungarianAssigner):
        def steps(self, predictions, targets):
            seen.append((predictions.boxes_BN4, targets.labels_G))
            return super().steps(predictions, targets)

    parts = {
        "assigner": Spy(costs=MatchCosts(c=FocalCost(1.0))),
        "terms": LossTerms(c=FocalLoss(1.0)),
    }
    for kind in (ProposalSupervision, PredictedProposalSupervision):
        run_together({"proposals": kind(**parts).prepare(outputs, targets)})
    (anchors, labels), (boxes, _) = seen
    assert torch.equal(anchors, outputs.proposals.anchors_BS4) and not labels.any()
    assert torch.equal(boxes, outputs.proposals.boxes_BS4)


def pairs(lesson, layer):
    found = lesson.assignment.pairs_of_layer(layer, lesson.predictions.images)
    pairs = torch.stack([found.image_P, found.query_P, found.target_P], 1)[found.valid_P]
    return set(map(tuple, pairs.tolist()))


def test_merge_adds_the_pairs_of_the_same_layer():
    model = build("models/ms_detr.py").train()
    outputs = outputs_of(model)
    targets = Targets.from_instances([image["instances"] for image in BATCH])
    before = model.supervisions.prepare({"primary": outputs}, targets)
    model.supervisions["mixed"].merge = OverrideByOneToMany(source="one_to_one")
    after = model.supervisions.prepare({"primary": outputs}, targets)
    for layer in range(2):
        one, many, merged = (
            pairs(lessons[name], layer)
            for lessons, name in ((before, "one_to_one"), (before, "mixed"), (after, "mixed"))
        )
        assert pairs(after["one_to_one"], layer) == one
        queries = {pair[:2] for pair in many}
        # every one-to-one pair whose query was free came along, and each query answers once
        assert {pair for pair in one if pair[:2] not in queries} <= merged <= many | one
        assert len({pair[:2] for pair in merged}) == len(merged)
    assert any(pairs(before["mixed"], layer) != pairs(after["mixed"], layer) for layer in range(2))


@pytest.mark.parametrize("source", ["mixed", "proposals", "nobody"])
def test_a_merge_needs_another_supervision_of_the_queries(source):
    node = shrink(load("models/ms_detr.py").model)
    node.supervisions.mixed.merge = L(OverrideByOneToMany)(source=source)
    message = f"supervisions.mixed.merge.source is '{source}'; .* HungarianAssigner: one_to_one"
    with pytest.raises(ValueError, match=message):
        instantiate(node)


def test_one_to_many_pairs_cannot_be_merged():
    """A merge counts on a source in which no query occurs twice."""
    node = shrink(load("models/ms_detr.py").model)
    node.supervisions.one_to_one.merge = L(AppendMissing)(source="mixed")
    message = r"one_to_one.merge.source is 'mixed'; one-to-one pairs .* there is none"
    with pytest.raises(ValueError, match=message):
        instantiate(node)
    node.supervisions.more = copy.deepcopy(node.supervisions.mixed)
    node.supervisions.more.merge = L(AppendMissing)(source="mixed")
    del node.supervisions.one_to_one.merge
    with pytest.raises(ValueError, match=r"more.merge.source is 'mixed'; .*: one_to_one$"):
        instantiate(node)


def test_own_heads_are_taught_in_the_place_of_the_detectors():
    model = build("models/ms_detr_a.py").train()
    mixed = model.supervisions["mixed"]
    assert mixed.tap == "output" and len(mixed.class_heads) == 2
    losses = model(BATCH)
    sum(loss for key, loss in losses.items() if key.startswith("mixed/")).backward()
    assert all(p.grad.abs().sum() > 0 for p in mixed.class_heads.parameters())
    assert all(p.grad is None for p in model.heads.class_heads.parameters())
    assert all(p.grad is not None for p in model.heads.box_heads.parameters())


def test_wrong_combinations_are_named():
    parts = {
        "assigner": HungarianAssigner(costs=MatchCosts(c=FocalCost(1.0))),
        "terms": LossTerms(c=FocalLoss(1.0)),
    }
    with pytest.raises(TypeError, match="tap"):
        ProposalSupervision(tap="internal", **parts)
    with pytest.raises(ValueError, match="reads tap output or internal, not 'middle'"):
        Supervision(tap="middle", **parts)
    with pytest.raises(ValueError, match="at least one supervision"):
        SupervisionSet()


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "deformable_detr_one_stage",
            "proposals",
            "proposals teaches proposals, but model",
        ),
        ("deformable_detr_one_stage", "hybrid", "hybrid.source continues the ranking of"),
        (
            "deformable_detr_one_stage",
            "cdn",
            r"denoising.source makes .*'~model.superv",
        ),
        ("conditional_detr_r50", "cdn", "denoising.source makes .* ConditionalQueries, star"),
        ("dino", "outputs", "num_outputs is 1 and model.heads.num_classes 5; make them equal"),
        (
            "dab_detr_r50",
            "embeddings",
            "extra.source has vectors for LearnedQueries, but mo",
        ),
    ],
)
def test_parts_that_do_not_fit_the_queries_are_named(name, change, message):
    """Before the first step, with the key in the config."""
    node = shrink(load(f"models/{name}.py").model)
    two_stage = load("models/deformable_detr.py").model
    if change == "proposals":
        node.supervisions.proposals = two_stage.supervisions.proposals
    elif change == "hybrid":
        add = load_part("hybrid.py", "add_hybrid")
        add(two_stage)
        node.supervisions.hybrid = two_stage.supervisions.hybrid
    elif change == "cdn":
        load_part("denoising.py", "add_contrastive_denoising")(node)
    elif change == "outputs":
        node.queries.proposals.num_outputs = 1
    else:
        node.supervisions.extra = copy.deepcopy(node.supervisions.one_to_one)
        queries = L(LearnedQueries)(num_queries=5, embed_dim=32)
        node.supervisions.extra.source = L(OwnEmbeddings)(queries=queries)
    with pytest.raises(ValueError, match=f"^model.supervisions.*{message}"):
        instantiate(node)


def load_part(file: str, name: str):
    return LazyConfig.load(str(CONFIGS / "common/supervision" / file), name)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("assigner", "HungarianAssigner", "Assigner, got 'Hung"),
        ("terms", {"class": 1.0}, r"LossTerms, got \{'class': 1.0\} \(dict\)"),
        ("branch", "feed_forward", "Module, got 'feed_forward'.*LayerwiseFeedForward"),
        ("class_heads", "own_class_heads", "ClassHeads, got 'own_class_heads' .* or null"),
        ("class_heads", BoxHeads(embed_dim=4), "ClassHeads, got BoxHeads"),
        ("box_heads", ClassHeads(embed_dim=4, num_classes=2), "BoxHeads, got ClassHeads"),
        ("merge", "append", "Merge, got 'append' .*ms_detr.assigners.AppendMissing"),
        ("merge", AppendMissing, "Merge, got .*AppendMissing"),
    ],
)
def test_parts_of_another_class_are_named(name, value, message):
    parts = {
        "assigner": HungarianAssigner(costs=MatchCosts(c=FocalCost(1.0))),
        "terms": LossTerms(c=FocalLoss(1.0)),
    }
    assert Supervision(**parts).class_heads is None
    with pytest.raises(ValueError, match=f"^{name} of a supervision must be of class {message}"):
        Supervision(**{**parts, name: value})


def test_a_set_holds_supervisions():
    with pytest.raises(ValueError, match=r"supervisions.mixed must be .* None .*'~model.superv"):
        SupervisionSet(mixed=None)
