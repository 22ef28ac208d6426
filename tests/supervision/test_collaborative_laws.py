"""Laws of collaborative training: heads and their positives teach, and touch nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import item, load, shrink
from supervision.small_heads import BASES, BATCH, build, config, entry, made
from supervision.test_groups import addition, decoded

from ms_detr.structures import Queries
from ms_detr.structures.query_groups import PRIMARY, slices
from ms_detr.supervision import SupervisionSet

TWO = ("first", "second")


def with_mixed(base: str, names: tuple[str, ...]):
    """MS-DETR's one-to-many supervision and collaborative entries on one decoder."""
    node = config(base, names)
    addition("mixed", "mix_c")(node)
    return made(node)


def share(model, other) -> None:
    """Gives a model all weights of another one that it knows."""
    state = other.state_dict()
    model.load_state_dict({name: state[name] for name in model.state_dict()}, strict=True)


@pytest.mark.parametrize("base", BASES)
def test_primary_states_do_not_depend_on_the_heads(base):
    model = build(base, TWO)
    states = decoded(model, BATCH)[2]
    assert [group.name for group in states.groups][-2:] == list(TWO)
    images = model.preprocess(BATCH)
    alone, _ = model.detect(images.tensor, images.image_sizes)
    for tap in ("output", "internal"):
        for one, other in zip(states.of(PRIMARY).taps[tap], alone.taps[tap]):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("base", BASES)
def test_one_pass_equals_one_pass_per_group(base):
    """The queries of a head see each other, and nobody else."""
    model = build(base, TWO)
    memory, queries, states = decoded(model, BATCH)
    for group, place in slices(queries.groups):
        if group.name not in TWO:
            continue
        parts = (queries.content_BNC, queries.pos_BNC, queries.reference_BNr)
        own = Queries(*(None if part is None else part[:, place] for part in parts))
        alone = model.decoder(own, memory, model.heads)
        for tap, layers in alone.taps.items():
            for one, other in zip(layers, states.of(group.name).taps[tap]):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        disturbed = own.content_BNC.clone()
        disturbed[:, -1] += 1
        after = model.decoder(replace(own, content_BNC=disturbed), memory, model.heads)
        assert not torch.equal(after.taps["output"][-1][:, 0], alone.taps["output"][-1][:, 0])


@pytest.mark.parametrize("base", BASES)
def test_every_parameter_learns(base):
    model = build(base, TWO)
    losses = model(BATCH)
    names = [name for name, _ in model.supervisions.named()]
    assert {key.split("/")[0] for key in losses} == set(names)
    for name in TWO:
        layers = {key.split("/")[1] for key in losses if key.startswith(f"{name}/")}
        assert layers == {"encoder", "0", "1"}
        assert {f"{name}/encoder/class", f"{name}/encoder/giou"} <= losses.keys()
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    for part in (model.supervisions.adapter, *(model.supervisions[name].source for name in TWO)):
        for name, parameter in part.named_parameters():
            # nothing of the small pyramid is left for some levels' factors
            assert parameter.grad.any() or name == "head.tower.scales", name


@pytest.mark.parametrize("base", BASES)
def test_deployed_weights_have_no_trace_of_the_heads(base):
    model = build(base, TWO)
    plain = made(config(base, ()))
    plain.supervisions = None
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("supervisions.")}
    plain.load_state_dict(state, strict=True)
    with torch.no_grad():
        found, expected = model.eval()(BATCH), plain.eval()(BATCH)
        model.supervisions = None
        without = model(BATCH)
    for one, *others in zip(found, expected, without):
        for other in others:
            one_, other_ = one["instances"], other["instances"]
            assert torch.equal(one_.scores, other_.scores)
            assert torch.equal(one_.pred_boxes.tensor, other_.pred_boxes.tensor)
            assert torch.equal(one_.pred_classes, other_.pred_classes)


def test_inference_asks_no_head():
    model = build("deformable_detr_pp").eval()
    called = []
    for module in model.supervisions.modules():
        module.register_forward_hook(lambda module, *_: called.append(module))
    with torch.no_grad():
        model(BATCH)
    assert not called


@pytest.mark.parametrize("base", BASES)
def test_deleting_an_entry_removes_its_losses_and_changes_no_other(base):
    model = build(base, TWO)
    if "denoising" in model.supervisions:
        del model.supervisions["denoising"]  # its noise is drawn from the same generator
    before = model(BATCH)
    del model.supervisions["second"]
    after = model(BATCH)
    assert set(after) == {key for key in before if not key.startswith("second/")}
    for key, loss in after.items():
        torch.testing.assert_close(loss, before[key], atol=1e-5, rtol=1e-5)
    del model.supervisions["first"]
    rest = model(BATCH)
    assert set(rest) == {key for key in before if key.split("/")[0] not in TWO}
    for key, loss in rest.items():
        torch.testing.assert_close(loss, before[key], atol=1e-5, rtol=1e-5)


def test_order_of_the_entries_is_irrelevant():
    model = build("deformable_detr_pp", TWO)
    before = model(BATCH)
    entries = dict(model.supervisions.items())
    model.supervisions = SupervisionSet(**dict(reversed(entries.items())))
    after = model(BATCH)
    assert list(before) != list(after) and set(before) == set(after)
    for key, loss in before.items():
        torch.testing.assert_close(loss, after[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("base", ["deformable_detr_pp", "dab_detr_r50"])
def test_mixed_supervision_beside_the_heads(base):
    """Each changes no loss of the others, and the two add up."""
    both = with_mixed(base, TWO)
    losses = both(BATCH)
    assert {"mixed", *TWO} < {key.split("/")[0] for key in losses}
    mixed = with_mixed(base, ())
    share(mixed, both)
    alone = mixed(BATCH)
    assert set(losses) == set(alone) | {key for key in losses if key.split("/")[0] in TWO}
    for key, loss in alone.items():
        torch.testing.assert_close(loss, losses[key], atol=1e-5, rtol=1e-5)


def test_the_objective_is_the_papers():
    """Equation 6, written as a sum over layers: lambda 1 for queries, lambda 2 for heads."""
    node = config("deformable_detr_pp", TWO)
    node.decoder.num_layers = 6
    for name in TWO:
        node.supervisions[name].weight = 0.5  # lambda 1, not the paper's 1
        node.supervisions[name].source.weight = 3.0  # lambda 2, not the paper's 2
    model = made(node)
    losses = model(BATCH)
    for name in TWO:
        model.supervisions[name].weight = 1.0
        source = model.supervisions[name].source
        source.weight, source.num_layers = 1.0, 1
    plain = model(BATCH)
    objective = 0.0
    for layer in range(6):
        for key, loss in plain.items():
            name, where, _ = key.split("/")
            if name in TWO and where == "encoder":
                objective += 3.0 * loss  # in every layer
            elif where == str(layer):
                objective += (0.5 if name in TWO else 1.0) * loss
    torch.testing.assert_close(sum(losses.values()), objective)


def image_by_image():
    """A model whose images do not know of each other."""
    node = config("deformable_detr_pp", TWO)
    for part in (node.backbone.stem, *node.backbone.stages):
        part.norm = "FrozenBN"
    return made(node)


def test_an_image_without_objects_adds_nothing_to_the_queries():
    """Its queries fill up the batch."""
    model = image_by_image()
    for head in model.heads.class_heads:
        torch.nn.init.zeros_(head.bias)  # else they would be background already
    alone, both = model(BATCH[:1]), model([BATCH[0], item(64, 80, 0)])
    for name in TWO:
        for layer in range(2):
            for term in ("class", "l1", "giou"):
                key = f"{name}/{layer}/{term}"
                torch.testing.assert_close(both[key], alone[key], atol=1e-5, rtol=1e-4)


def test_an_update_in_parts():
    """Two parts that are alike are as much as both at once."""
    model = image_by_image()
    image = item(64, 80, 3, seed=1)
    whole, part = model([image] * 2), model([image], num_boxes=torch.tensor(6.0))
    for key, loss in whole.items():
        torch.testing.assert_close(2 * part[key], loss, atol=1e-5, rtol=1e-4)


def test_heads_teach_the_encoder():
    """Without any loss of the decoder."""
    model = build("deformable_detr_pp")
    losses = model(BATCH)
    sum(loss for key, loss in losses.items() if key.startswith("first/encoder/")).backward()
    for part in (model.backbone.stages[0], model.neck, model.encoder, model.supervisions.adapter):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.decoder.parameters())
    assert all(p.grad is None for p in model.supervisions["first"].source.boxes.parameters())


def test_losses_of_an_entry_do_not_see_the_other_head():
    model = build("deformable_detr_pp", TWO)
    losses = model(BATCH)
    sum(loss for key, loss in losses.items() if key.startswith("first/")).backward()
    others = [p.grad for p in model.supervisions["second"].source.parameters()]
    assert not any(grad.any() for grad in others if grad is not None)


@pytest.mark.parametrize("base", BASES)
def test_half_precision(base):
    model = build(base, TWO)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(BATCH)
    exact = model(BATCH)
    for key, loss in losses.items():
        assert torch.isfinite(loss), key
        if key.split("/")[1] == "encoder":
            assert loss.dtype == torch.float32
            torch.testing.assert_close(loss, exact[key], rtol=0.05, atol=0.05)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_more_of_the_same_head():
    """K entries: as many groups, named after them."""
    for count in (1, 3):
        names = tuple(f"head_{index}" for index in range(count))
        states = decoded(build("deformable_detr_pp", names))[2]
        assert [group.name for group in states.groups] == [PRIMARY, *names]


def test_the_group_of_a_head_can_be_taught_by_another_supervision():
    node = config("deformable_detr_pp")
    node.supervisions.more = entry("deformable_detr_pp")
    node.supervisions.more.update(source=None, group="first")
    losses = made(node)(BATCH)
    for layer in range(2):
        for term in ("class", "l1", "giou"):
            assert torch.equal(losses[f"more/{layer}/{term}"], losses[f"first/{layer}/{term}"])
    assert not any(key.startswith("more/encoder") for key in losses)


def test_a_detector_without_heads_is_what_it_was():
    node = shrink(load("models/deformable_detr_pp.py").model)
    assert made(node).supervisions.adapter is None
