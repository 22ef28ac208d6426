"""Laws of extra query groups: they learn, the primary queries never notice."""

from __future__ import annotations

import copy
import itertools
from functools import cache

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, item, load, shrink

from ms_detr.assigners import BlockwiseAssigner
from ms_detr.queries import AnchorQueries, LearnedQueries
from ms_detr.structures import Queries, Targets
from ms_detr.structures.query_groups import PRIMARY, slices
from ms_detr.supervision import Supervision, SupervisionSet
from ms_detr.supervision.sources import OwnQueries, SourceContext, joined

BATCH = [item(64, 80, 3, seed=1), item(48, 60, 2, seed=2)]
BASES = ("deformable_detr", "deformable_detr_pp", "deformable_detr_one_stage")
ADDITIONS = {
    "mixed": ("mixed", "mix_c", {}),
    "group": ("group", "add_group", {"groups": 3}),
    "hybrid": ("hybrid", "add_hybrid", {"num_queries": 15, "repeats": 2}),
    "dn": ("denoising", "add_denoising", {"groups": 2}),
    "cdn": ("denoising", "add_contrastive_denoising", {"pairs": 7}),
    "co": ("collaborative", "add_atss", {}),
}
NEEDS_BOXES = {"dn", "cdn"}
SETS = [(name,) for name in ADDITIONS] + [
    pair for pair in itertools.combinations(ADDITIONS, 2) if pair != ("dn", "cdn")
]
SETS += [("mixed", "group", "hybrid", "cdn", "co")]
OTHERS = ("dino", "dab_detr_r50", "dab_deformable_detr_r50", "conditional_detr_r50")
POINTS = ("one_stage", "conditional")  # start from points: no noise of boxes


def fitting(base: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """What of the additions can be trained with a base."""
    points = any(part in base for part in POINTS)
    return tuple(name for name in names if not (points and name in NEEDS_BOXES))


CASES = list(itertools.product(BASES, SETS))
CASES += itertools.product(OTHERS, [("group", "hybrid", "dn"), ("mixed", "cdn", "co")])
CASES = dict.fromkeys((base, fitting(base, names)) for base, names in CASES)
CASES = [(base, names) for base, names in CASES if names]


@cache
def addition(path: str, name: str):
    return LazyConfig.load(str(CONFIGS / f"common/supervision/{path}.py"), name)


def config(base: str, names: tuple[str, ...]):
    node = shrink(load(f"models/{base}.py").model)
    node.encoder.dropout = 0.0
    if NEEDS_BOXES & set(names):
        node.supervisions.pop("denoising", None)  # DINO has one
    for name in names:
        path, function, options = ADDITIONS[name]
        addition(path, function)(node, **options)
    return node


def build(base: str, names: tuple[str, ...]):
    torch.manual_seed(0)
    return instantiate(config(base, names)).train()


def decoded(model, batch=BATCH):
    """Everything that a training step makes before the losses."""
    images = model.preprocess(batch)
    memory, _ = model.encode(images.tensor, images.image_sizes)
    targets = Targets.from_instances([image["instances"] for image in batch])
    primary, proposals = model.queries(memory)
    context = SourceContext(
        memory, targets, model.queries, primary, proposals, tuple(images.image_sizes)
    )
    torch.manual_seed(1)  # the noise of denoising queries
    queries = joined(primary, model.supervisions.extra_queries(context))
    return memory, queries, model.decoder(queries, memory, model.heads)


@pytest.mark.parametrize("base, names", CASES)
def test_primary_states_do_not_depend_on_the_set(base, names):
    model = build(base, names)
    states = decoded(model)[2]
    images = model.preprocess(BATCH)
    alone, _ = model.detect(images.tensor, images.image_sizes)
    primary = states.of(PRIMARY) if states.groups else states
    for tap in ("output", "internal"):
        for one, other in zip(primary.taps[tap], alone.taps[tap]):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("base, names", CASES)
def test_every_parameter_learns_and_losses_are_named_after_their_supervision(base, names):
    model = build(base, names)
    losses = model(BATCH)
    assert {key.split("/")[0] for key in losses} == {name for name, _ in model.supervisions.named()}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("base, names", CASES)
def test_deployed_weights_have_no_trace_of_the_set(base, names):
    """Weights without "supervisions." are those of the base, and detect the same."""
    model = build(base, names)
    plain_names = ("mixed",) if "mixed" in names else ()  # it sets the class of the layer
    plain = instantiate(config(base, plain_names))
    plain.supervisions = None
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("supervisions.")}
    plain.load_state_dict(state, strict=True)
    with torch.no_grad():
        found, expected = model.eval()(BATCH), plain.eval()(BATCH)
    for one, other in zip(found, expected):
        assert torch.equal(one["instances"].scores, other["instances"].scores)
        assert torch.equal(one["instances"].pred_boxes.tensor, other["instances"].pred_boxes.tensor)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (40, 2)], ids=["none", "one", "many"])
@pytest.mark.parametrize("base", BASES[:2])
def test_few_and_many_objects(base, counts):
    """40 objects are more than the 12 primary queries."""
    model = build(base, ("mixed", "group", "hybrid", "cdn"))
    losses = model([item(64, 80, count, seed=count) for count in counts])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_order_of_the_entries_is_irrelevant():
    model = build("deformable_detr_pp", ("mixed", "group", "hybrid"))
    before = model(BATCH)
    entries = dict(model.supervisions.items())
    model.supervisions = SupervisionSet(**dict(reversed(entries.items())))
    after = model(BATCH)
    assert list(before) != list(after) and set(before) == set(after)
    for key, loss in before.items():
        torch.testing.assert_close(loss, after[key], atol=1e-5, rtol=1e-5)


def test_deleting_an_entry_changes_no_other():
    model = build("deformable_detr_pp", ("mixed", "group", "hybrid"))
    before = model(BATCH)
    del model.supervisions["hybrid"]
    after = model(BATCH)
    assert set(after) == {key for key in before if not key.startswith("hybrid/")}
    for key, loss in after.items():
        torch.testing.assert_close(loss, before[key], atol=1e-5, rtol=1e-5)


def test_one_pass_equals_one_pass_per_group():
    """Groups, and the blocks of a group, that see only themselves could as well go alone."""
    model = build("deformable_detr_pp", ("group", "hybrid"))
    memory, queries, states = decoded(model)
    for group, place in slices(queries.groups):
        size = group.size // group.blocks
        for block in range(group.blocks):
            own = slice(place.start + block * size, place.start + (block + 1) * size)
            parts = (queries.content_BNC, queries.pos_BNC, queries.reference_BNr)
            alone = model.decoder(Queries(*(x[:, own] for x in parts)), memory, model.heads)
            for tap, layers in alone.taps.items():
                for one, other in zip(layers, states.taps[tap]):
                    torch.testing.assert_close(one, other[:, own], atol=1e-5, rtol=1e-5)


def test_what_a_group_does_to_the_others():
    """Each query of each group is disturbed: only those that may see it change."""
    model = build("deformable_detr_pp", ("group", "dn"))
    memory, queries, states = decoded(model)
    places = {group.name: place for group, place in slices(queries.groups)}
    before = states.taps["output"][-1]
    for name, place in places.items():
        content = queries.content_BNC.clone()
        content[:, place] += 1
        disturbed = Queries(content, queries.pos_BNC, queries.reference_BNr, queries.groups)
        after = model.decoder(disturbed, memory, model.heads).taps["output"][-1]
        changed = {
            other: not torch.equal(after[:, own], before[:, own]) for other, own in places.items()
        }
        sees = {other: other == name or (other, name) == ("denoising", PRIMARY) for other in places}
        assert changed == sees, name


def test_group_losses_are_an_average():
    """With the primary queries in every group the average is the loss of the primary ones."""
    node = config("deformable_detr_one_stage", ("group",))
    model = instantiate(node).train()
    state = model.queries.embedding.state_dict()
    for embedding in model.supervisions["group"].source.embeddings:
        embedding.load_state_dict(state)
    losses = model(BATCH)
    model.supervisions = SupervisionSet(one_to_one=model.supervisions["one_to_one"])
    model.supervisions["one_to_one"].weight = 1.0
    for key, loss in model(BATCH).items():
        both = losses[key] + losses[key.replace("one_to_one", "group")]
        torch.testing.assert_close(both, loss)
        torch.testing.assert_close(losses[key], loss / 3)


def test_mixed_supervision_of_a_group():
    """Any supervision may teach the queries of another one's source."""
    node = config("deformable_detr", ("mixed", "group"))
    mixed_group = copy.deepcopy(node.supervisions.mixed)
    mixed_group.group = "group"
    mixed_group.assigner = L(BlockwiseAssigner)(assigner=mixed_group.assigner)
    node.supervisions.mixed_group = mixed_group
    model = instantiate(node).train()
    losses = model(BATCH)
    gradients = torch.autograd.grad(
        sum(loss for key, loss in losses.items() if key.startswith("mixed_group/")),
        [
            model.supervisions["group"].source.initializers[1].projection.weight,
            model.supervisions["mixed_group"].branch.layers[0].linear1.weight,
        ],
    )
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_weight_scales_all_terms():
    model = build("deformable_detr_pp", ("hybrid",))
    before = model(BATCH)
    model.supervisions["hybrid"].weight = 0.5
    after = model(BATCH)
    for key, loss in before.items():
        torch.testing.assert_close(after[key], loss * (0.5 if key.startswith("hybrid/") else 1))


def entry(**options) -> Supervision:
    node = config("deformable_detr", ()).supervisions.one_to_one
    node.update(options)
    return instantiate(node)


def test_groups_are_named_in_complaints():
    with pytest.raises(ValueError, match="extra.group is 'nobody'; it must be 'primary'"):
        SupervisionSet(one_to_one=entry(), extra=entry(group="nobody"))
    with pytest.raises(ValueError, match="cannot be called 'primary'"):
        SupervisionSet(primary=entry())
    with pytest.raises(ValueError, match="weight of a supervision must be a finite number of at"):
        entry(weight=-1.0)


def test_known_pairs_are_needed_where_there_is_no_assigner():
    for group in ("primary", "group"):
        node = config("deformable_detr_one_stage", ("group",))
        node.supervisions.one_to_one.update(assigner=None, group=group)
        with pytest.raises(ValueError, match=rf"one_to_one.assigner is None.*queries \({group}\)"):
            instantiate(node)


def test_a_proposal_supervision_needs_an_assigner():
    node = config("deformable_detr", ())
    node.supervisions.proposals.assigner = None
    with pytest.raises(ValueError, match="proposals.assigner is None"):
        instantiate(node)


def test_denoising_queries_may_be_taught_by_an_assigner_as_well():
    node = config("deformable_detr", ("dn",))
    node.supervisions.denoising.assigner = node.supervisions.one_to_one.assigner
    losses = instantiate(node).train()(BATCH)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_denoising_is_added_once():
    with pytest.raises(ValueError, match="has model.supervisions.denoising already; delete it"):
        config("deformable_detr_pp", ("dn", "cdn"))


def test_group_detr_has_groups():
    node = config("deformable_detr_pp", ())
    with pytest.raises(ValueError, match="at least 2 groups, the primary one included, got 1"):
        addition("group", "add_group")(node, groups=1)


def test_proposals_are_taught_where_there_are_some():
    """Groups of the next proposals, and of noised boxes, make none of their own."""
    node = config("deformable_detr", ("hybrid",))
    node.supervisions.proposals.group = "hybrid"
    with pytest.raises(ValueError, match="proposals of group 'hybrid', but the source .* none"):
        instantiate(node).train()(BATCH)
    node = config("deformable_detr", ("dn",))
    node.supervisions.proposals.update(group="denoising", assigner=None)
    with pytest.raises(ValueError, match="proposals.assigner is None"):
        instantiate(node)


def with_own(base: str, queries) -> torch.nn.Module:
    """The model with a second set of queries of another class."""
    node = config(base, ())
    node.supervisions.other = copy.deepcopy(node.supervisions.one_to_one)
    node.supervisions.other.source = L(OwnQueries)(queries=queries)
    return instantiate(node).train()


def test_queries_of_different_classes_are_joined_if_they_are_alike():
    points = L(LearnedQueries)(num_queries=5, embed_dim=32)
    with pytest.raises(ValueError, match="other.source start from references of 2 numbers, the de"):
        with_own("deformable_detr", points)(BATCH)
    anchors = L(AnchorQueries)(num_queries=5, embed_dim=32)
    with pytest.raises(
        ValueError, match="^the detector's queries bring position embeddings, those"
    ):
        with_own("deformable_detr", anchors)(BATCH)
    boxes = config("deformable_detr", ()).queries
    boxes.update(embed_dim=32)
    boxes.proposals.update(embed_dim=32, num_outputs=5)
    with pytest.raises(ValueError, match="^those of model.supervisions.other.source queries bring"):
        with_own("dab_deformable_detr_r50", boxes)(BATCH)
    assert with_own("dab_deformable_detr_r50", anchors)(BATCH)["other/0/l1"] > 0
