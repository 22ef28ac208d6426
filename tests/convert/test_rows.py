"""Classes and queries: which official rows are ours."""

from __future__ import annotations

import pytest
import torch
from official_states import official, ours, same
from small_models import build

from ms_detr.convert import CheckpointError, to_official, to_ours

PERSON, BICYCLE, TOOTHBRUSH = 1, 2, 90
UNUSED = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83]


def test_outputs_go_by_category_id():
    state = official("models/ms_detr_a.py")
    found = to_ours(state).state
    for theirs, mine in (
        ("class_embed.1", "heads.class_heads.1"),
        ("class_embed_o2m.0", "supervisions.mixed.class_heads.0"),
    ):
        for leaf in ("weight", "bias"):
            their_rows, our_rows = state[f"{theirs}.{leaf}"], found[f"{mine}.{leaf}"]
            assert len(their_rows) == 91 and len(our_rows) == 80
            for category, index in ((PERSON, 0), (BICYCLE, 1), (13, 11), (TOOTHBRUSH, 79)):
                assert torch.equal(their_rows[category], our_rows[index])


def test_unused_outputs_travel_beside_the_model():
    state = official("models/ms_detr.py")
    rest = to_ours(state).extras["rest"]
    assert torch.equal(rest["class_embed.0.weight"], state["class_embed.0.weight"][UNUSED])


def test_object_output_of_the_first_stage_stays_first():
    state = official("models/ms_detr.py")
    found = to_ours(state).state["queries.proposals.class_head.weight"]
    assert torch.equal(found, state["class_embed.2.weight"][:80])


def test_outputs_that_do_not_exist_never_score():
    made = to_official(ours("models/ms_detr.py")).state
    weight, bias = made["class_embed.1.weight"], made["class_embed.1.bias"]
    logits = weight[UNUSED] @ torch.randn(weight.shape[1], 100) * 100 + bias[UNUSED, None]
    assert (logits.sigmoid() < 1e-40).all() and torch.isfinite(logits).all()
    first_stage = made["class_embed.2.bias"]
    assert len(first_stage) == 91 and (first_stage[80:] == -100).all()


def test_first_stage_with_a_single_output():
    state = ours("models/ms_detr.py")
    for leaf in ("weight", "bias"):
        key = f"queries.proposals.class_head.{leaf}"
        state[key] = state[key][:1].clone()
    made = to_official(state)
    assert len(made.state["class_embed.2.weight"]) == 91
    assert any("never score" in note for note in made.notes)
    assert same(to_ours(made.state).state, state)


@pytest.mark.parametrize("num_classes, classes", [(80, "keep"), (20, "coco"), (250, "coco")])
def test_other_numbers_of_classes_are_kept(num_classes, classes):
    state = ours("models/ms_detr.py", num_classes)
    made = to_official(state, classes=classes).state
    assert len(made["class_embed.0.bias"]) == num_classes
    converted = to_ours(made)
    assert same(converted.state, state)
    assert any("kept" in note for note in converted.notes)


def test_91_classes_can_be_kept():
    state = official("models/ms_detr.py")
    converted = to_ours(state, classes="keep")
    assert len(converted.state["heads.class_heads.0.bias"]) == 91
    assert same(to_official(converted.state, converted.extras).state, state)
    build("models/ms_detr.py", num_classes=91).load_state_dict(converted.state)


def test_rows_set_aside_must_fit():
    converted = to_ours(official("models/ms_detr.py"))
    with pytest.raises(CheckpointError, match=r"class_embed\.0\.weight.*\(11, 32\)"):
        to_official(converted.state, converted.extras, classes="keep")
    with pytest.raises(CheckpointError, match=r"class_embed\.2\.bias"):
        to_official(ours("models/ms_detr_one_stage.py"), converted.extras)


def test_only_deployed_queries_of_a_hybrid_model_are_ours():
    state = official("models/deformable_detr_pp.py")
    converted = to_ours(state, family="h-detr", num_queries=8)
    assert torch.equal(converted.state["queries.content.weight"], state["query_embed.weight"][:8])
    assert len(converted.extras["rest"]["query_embed.weight"]) == 4
    assert same(to_official(converted.state, converted.extras).state, state)
    for number in (0, 13):
        with pytest.raises(CheckpointError, match=f"{number} queries"):
            to_ours(state, family="h-detr", num_queries=number)


def test_heads_of_several_widths_are_refused():
    state = official("models/ms_detr.py")
    for key in ("class_embed.1.weight", "transformer.decoder.class_embed.1.weight"):
        state[key] = state[key][:80]
    with pytest.raises(CheckpointError, match=r"class_embed\.1\.weight has shape \(80, 32\)"):
        to_ours(state)


def test_unknown_choice():
    with pytest.raises(CheckpointError, match="classes"):
        to_ours(official("models/ms_detr.py"), classes="voc")
    with pytest.raises(CheckpointError, match="family"):
        to_ours(official("models/ms_detr.py"), family="dino")
