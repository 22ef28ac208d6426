"""Positives of an auxiliary head as queries: where they start, what they are to answer."""

from __future__ import annotations

import pytest
import torch
from small_models import item
from supervision.small_heads import BASES, BATCH, CentreHead, build, config, leaves_positions, made

from ms_detr.layers import sine_features
from ms_detr.structures import Targets
from ms_detr.supervision.auxiliary import UNUSED
from ms_detr.supervision.sources import (
    BoxEmbedding,
    CollaborativeQueries,
    FeatureEmbedding,
    FilledPositives,
    PositionedBoxEmbedding,
    PositivesOnly,
    SourceContext,
)


def given(model, batch=BATCH) -> SourceContext:
    images = model.preprocess(batch)
    sizes = tuple(images.image_sizes)
    memory, _ = model.encode(images.tensor, images.image_sizes)
    targets = Targets.from_instances([image["instances"] for image in batch])
    queries, proposals = model.queries(memory)
    pyramid = model.supervisions.pyramid(memory, sizes)
    return SourceContext(memory, targets, model.queries, queries, proposals, sizes, pyramid)


def true_pairs(head: CentreHead, context: SourceContext) -> list[list[tuple[int, int]]]:
    """(candidate, object) of every image: cells whose centre lies in an object, the last one."""
    pyramid, found, first = context.pyramid, [], 0
    corners = pyramid.boxes_of(context.targets).tolist()
    anchors = head.grid(pyramid).boxes_A4.tolist()
    for image, count in enumerate(context.targets.counts):
        pairs = []
        for cell, (x0, y0, x1, y1) in enumerate(anchors):
            if not pyramid.on_image_BS[image, cell]:
                continue
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            inside = [
                index
                for index in range(first, first + count)
                if corners[index][0] <= x < corners[index][2]
                and corners[index][1] <= y < corners[index][3]
            ]
            pairs += [(cell, inside[-1])] if inside else []
        found.append(pairs)
        first += count
    return found


@pytest.mark.parametrize("base", BASES)
def test_positives_become_queries_that_know_their_objects(base):
    model = build(base)
    context, source = given(model), model.supervisions["first"].source
    extra = source(context)
    expected = true_pairs(source.head, context)
    most = max(map(len, expected))
    assert extra.queries.content_BNC.shape == (2, most, 32) and most > len(expected[1]) > 0
    known = extra.known
    assert known.valid_P.all() and known.labelled_P.all()
    assert known.counts == tuple(map(len, expected))
    assert known.normalizer == sum(map(len, expected))
    anchors_A4 = source.head.grid(context.pyramid).boxes_A4
    points = context.primary.reference_BNr.shape[-1] == 2
    for image, pairs in enumerate(expected):
        mine = known.image_P == image
        assert sorted(known.target_P[mine].tolist()) == sorted(index for _, index in pairs)
        assert extra.counted_BN[image].sum() == len(pairs)
        height, width = context.sizes[image]
        wanted = []
        for cell, index in pairs:
            x0, y0, x1, y1 = anchors_A4[cell].tolist()
            box = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height]
            box += [] if points else [(x1 - x0) / width, (y1 - y0) / height]
            wanted.append([index, *(min(max(number, 0.000999), 0.999001) for number in box)])
        found = torch.cat(
            [
                known.target_P[mine, None],
                extra.queries.reference_BNr[image, known.query_P[mine]],
            ],
            1,
        )
        torch.testing.assert_close(
            torch.tensor(sorted(found.tolist())), torch.tensor(sorted(wanted)), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("base", BASES)
def test_contents_and_positions_are_made_of_boxes_and_features(base):
    """Equation 4, with the LayerNorms of the released code."""
    model = build(base)
    source = model.supervisions["first"].source
    context = given(model)
    torch.manual_seed(5)
    queries = source(context).queries
    torch.manual_seed(5)
    candidates = source.head(context.pyramid, context.targets).candidates
    selected = source.selection(candidates.object_BA)
    for image, slot in (selected.object_BN >= 0).nonzero().tolist():
        cell = selected.candidate_BN[image, slot]
        x0, y0, x1, y1 = candidates.boxes_BA4[image, cell]
        height, width = context.sizes[image]
        box = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width]
        box = torch.stack([*box, (y1 - y0) / height]).clamp(0.000999, 0.999001)
        sines = torch.cat([sine_features(number, 16, 10000.0) for number in box])
        embedded = source.boxes.norm(source.boxes.projection(sines))
        token = context.pyramid.tokens_BSC[image, cell]
        content = embedded[-32:] + source.features.norm(source.features.projection(token))
        torch.testing.assert_close(queries.content_BNC[image, slot], content, atol=1e-3, rtol=1e-3)
        if leaves_positions(base):
            assert queries.pos_BNC is None and len(embedded) == 32
        else:
            torch.testing.assert_close(
                queries.pos_BNC[image, slot], embedded[:32], atol=1e-3, rtol=1e-3
            )


def test_without_features_contents_follow_from_boxes():
    model = build("dino", features=None)
    source, context = model.supervisions["first"].source, given(model)
    extra = source(context)
    expected = source.boxes(extra.queries.reference_BNr)[0].masked_fill(
        ~extra.counted_BN[..., None], 0.0
    )
    assert torch.equal(extra.queries.content_BNC, expected)


def test_what_fills_up_a_batch_is_alike_and_not_counted():
    model = build("deformable_detr_pp")
    extra = model.supervisions["first"].source(given(model))
    filled = ~extra.counted_BN
    assert filled.any() and (extra.queries.content_BNC[filled] == 0).all()
    assert (extra.queries.reference_BNr[filled] == 0.5).all()
    assert len(extra.queries.pos_BNC[filled].unique(dim=0)) == 1


class MovedHead(CentreHead):
    """Queries start from boxes that are learned."""

    def __init__(self, **options):
        super().__init__(**options)
        self.moves = torch.nn.Parameter(torch.ones(4))

    def query_boxes(self, grid):
        return super().query_boxes(grid) * self.moves


def test_references_are_proper_boxes_and_have_no_gradient():
    """Anchors of the coarsest level are larger than the image."""
    node = config("dino")
    node.supervisions.first.source.head._target_ = MovedHead
    model = made(node)
    extra = model.supervisions["first"].source(given(model))
    references = extra.queries.reference_BNr
    assert references.min() > 0 and references.max() < 1 and not references.requires_grad
    assert (references > 0.99).any()


def test_background_is_taught_but_no_box():
    model = build("deformable_detr_pp", selection=FilledPositives(least=200))
    source, context = model.supervisions["first"].source, given(model)
    extra = source(context)
    number = len(context.pyramid.tokens_BSC[0])
    assert extra.counted_BN.shape == (2, number)  # all candidates there are
    assert torch.equal(extra.counted_BN.sum(1), context.pyramid.on_image_BS.sum(1))
    assert len(extra.known.image_P) == sum(map(len, true_pairs(source.head, context)))
    filled = source(context)
    only = build("deformable_detr_pp").supervisions["first"].source(context)
    assert filled.known.normalizer == only.known.normalizer


def test_losses_of_the_head_are_weighted_by_layers():
    """The paper's sum over decoder layers, and the released factor 12 = 2 * 6."""
    node = config("deformable_detr_pp")
    node.decoder.num_layers = 6
    model = made(node)
    source, context = model.supervisions["first"].source, given(model)
    assert (source.weight, source.num_layers) == (2.0, 6)
    raw = source.head(context.pyramid, context.targets).losses
    assert set(raw) == {"class", "giou"}
    for term, loss in source(context).losses.items():
        torch.testing.assert_close(loss, 12 * raw[term])


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (40, 2)], ids=["none", "one", "many"])
@pytest.mark.parametrize("selection", [PositivesOnly(most=7), FilledPositives(most=7, least=3)])
def test_few_and_many_objects(selection, counts):
    model = build("deformable_detr_pp", selection=selection)
    batch = [item(64, 80, count, seed=count) for count in counts]
    context = given(model, batch)
    extra = model.supervisions["first"].source(context)
    positives = list(map(len, true_pairs(model.supervisions["first"].source.head, context)))
    number = min(max(positives), 7)
    if isinstance(selection, FilledPositives):
        number = max(number, 3)
    assert extra.queries.content_BNC.shape[1] == number
    assert extra.known.counts == tuple(min(count, 7) for count in positives)
    assert extra.known.normalizer == max(1, sum(extra.known.counts))
    losses = model(batch)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_objects_that_no_candidate_finds():
    """A head without positives, though there are objects."""
    model = build("dino")
    source = model.supervisions["first"].source
    source.head.assign = lambda grid, boxes: torch.full_like(grid.token_A, UNUSED)
    extra = source(given(model))
    assert extra.queries.content_BNC.shape[1] == 0 and extra.known.normalizer == 1
    losses = model(BATCH)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["first/0/class"] == losses["first/0/l1"] == 0


@pytest.mark.parametrize(
    "base, name, value, message",
    [
        ("dino", "head.num_classes", 7, "head.num_classes is 7, but model.heads.num_classes is 5"),
        ("dino", "num_layers", 6, "num_layers is 6, but model.decoder.num_layers is 2"),
        (
            "dino",
            "boxes._target_",
            PositionedBoxEmbedding,
            "boxes is a Positioned.*DINOQueries, leave these.*make it a .*sources.BoxEmbedding",
        ),
        (
            "conditional_detr_r50",
            "boxes._target_",
            BoxEmbedding,
            "boxes is a BoxEmb.*ConditionalQ.*, bring pos.* a .*sources.PositionedBoxEmbedding",
        ),
    ],
)
def test_parts_that_do_not_fit_the_detector_are_named(base, name, value, message):
    node = config(base)
    source = node.supervisions.first.source
    *way, last = name.split(".")
    for part in way:
        source = source[part]
    source[last] = value
    with pytest.raises(ValueError, match=f"^model.supervisions.first.source.{message}"):
        made(node)


def test_strides_of_a_head_are_those_of_the_maps():
    node = config("dino")
    node.supervisions.first.source.head.strides = [8, 16, 32, 64]
    with pytest.raises(ValueError, match="strides"):
        made(node)(BATCH)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("head", None, "head of Coll.* must be of class AuxiliaryHead, got None .*ATSSHead"),
        ("selection", 300, "selection of .* Selection, got 300 .*sources.PositivesOnly"),
        ("boxes", FeatureEmbedding(embed_dim=32), "boxes of .* BoxEmbedding, got Feature"),
        (
            "features",
            BoxEmbedding(embed_dim=32),
            "features of .* FeatureEmbedding, got BoxEmbedding",
        ),
        ("weight", -1.0, "weight of CollaborativeQueries must be .* at least 0, got -1.0"),
        ("num_layers", 0, "num_layers of CollaborativeQueries must be a whole .* got 0"),
    ],
)
def test_parts_of_another_class_are_named(name, value, message):
    parts = {
        "head": CentreHead(num_classes=5, strides=[8]),
        "selection": PositivesOnly(),
        "boxes": BoxEmbedding(embed_dim=32),
    }
    assert CollaborativeQueries(**parts).features is None
    with pytest.raises(ValueError, match=message):
        CollaborativeQueries(**parts | {name: value})
