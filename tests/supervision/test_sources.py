"""Where extra queries come from: references, contents, known pairs, noise."""

from __future__ import annotations

import pytest
import torch
from small_models import build, item

from ms_detr.queries import AnchorQueries, LearnedQueries
from ms_detr.structures import Targets
from ms_detr.supervision.sources import (
    ContrastiveNoisedBoxes,
    NextMixedProposals,
    NextProposals,
    NoisedBoxes,
    OwnEmbeddings,
    OwnQueries,
    ReleasedContrastiveNoisedBoxes,
    SourceContext,
)

BATCH = [item(64, 80, 3, seed=1), item(48, 60, 1, seed=2), item(48, 60, 0)]


def context(name: str = "models/deformable_detr.py", batch=BATCH):
    model = build(name)
    images = model.preprocess(batch)
    memory, _ = model.encode(images.tensor, images.image_sizes)
    targets = Targets.from_instances([image["instances"] for image in batch])
    queries, proposals = model.queries(memory)
    return SourceContext(
        memory, targets, model.queries, queries, proposals, tuple(images.image_sizes)
    )


def test_next_proposals_continue_the_ranking():
    given = context()
    found = NextProposals(num_queries=20)(given).queries
    initializer = given.initializer
    tokens = initializer.ranked(given.proposals, 0, initializer.num_queries + 20)
    together = initializer.queries_of(given.proposals, tokens)
    for name in ("content_BNC", "pos_BNC", "reference_BNr"):
        both = torch.cat([getattr(given.primary, name), getattr(found, name)], 1)
        torch.testing.assert_close(both, getattr(together, name))
    assert not found.reference_BNr.requires_grad


def test_next_proposals_end_with_the_tokens():
    given = context()
    tokens = given.memory.tokens_BSC.shape[1]
    found = NextProposals(num_queries=10 * tokens)(given).queries
    assert found.content_BNC.shape[1] == tokens - given.initializer.num_queries


def test_next_mixed_proposals_have_contents_of_their_own():
    given = context("models/deformable_detr_pp.py")
    source = NextMixedProposals(num_queries=7, embed_dim=32)
    found = source(given).queries
    assert torch.equal(found.content_BNC, source.content.weight.expand(3, -1, -1))
    plain = NextProposals(num_queries=7)(given).queries
    assert torch.equal(found.reference_BNr, plain.reference_BNr)
    assert torch.equal(found.pos_BNC, plain.pos_BNC)


def test_own_learned_queries_differ_from_block_to_block():
    given = context("models/deformable_detr_one_stage.py")
    found = OwnQueries(queries=LearnedQueries(num_queries=6, embed_dim=32), blocks=3)(given)
    assert found.blocks == 3 and found.queries.content_BNC.shape == (3, 18, 32)
    blocks = found.queries.content_BNC.chunk(3, 1)
    assert not torch.equal(blocks[0], blocks[1]) and not torch.equal(blocks[1], blocks[2])
    assert found.proposals is None


def test_own_embeddings_share_the_layer_of_the_primary_queries():
    given = context("models/deformable_detr_one_stage.py")
    source = OwnEmbeddings(queries=LearnedQueries(num_queries=6, embed_dim=32), blocks=2)
    queries = source(given).queries
    assert [name for name, _ in source.named_parameters()] == [
        "embeddings.0.weight",
        "embeddings.1.weight",
    ]
    pos = torch.cat([embedding.weight[:, :32] for embedding in source.embeddings])
    points = given.initializer.reference_points(pos).sigmoid()
    torch.testing.assert_close(queries.reference_BNr[0], points)
    assert torch.equal(queries.pos_BNC[1], pos) and not torch.equal(pos[:6], pos[6:])


def test_own_embeddings_are_learned_vectors():
    with pytest.raises(ValueError, match="queries of OwnEmbeddings"):
        OwnEmbeddings(queries=AnchorQueries(num_queries=6, embed_dim=32))


@pytest.mark.parametrize("name", ["deformable_detr", "deformable_detr_pp"])
def test_own_two_stage_queries_choose_for_themselves(name):
    given = context(f"models/{name}.py")
    source = OwnQueries(queries=given.initializer.fresh(), blocks=2)
    found = source(given)
    first, second = found.queries.reference_BNr.chunk(2, 1)
    assert not torch.equal(first, second)
    tokens = given.memory.tokens_BSC.shape[1]
    assert found.proposals.blocks == 2 and found.proposals.boxes_BS4.shape[1] == 2 * tokens
    initializer = source.initializers[1]
    alone, proposals = initializer(given.memory)
    assert torch.equal(alone.reference_BNr, second)
    assert torch.equal(proposals.boxes_BS4, found.proposals.boxes_BS4[:, tokens:])
    like = given.initializer
    assert {n: p.shape for n, p in initializer.named_parameters()} == {
        n: p.shape for n, p in like.named_parameters()
    }
    assert (like.temperature, like.num_queries) == (initializer.temperature, 12)


def test_without_noise_denoising_starts_from_the_truth():
    given = context()
    torch.manual_seed(0)
    source = NoisedBoxes(
        num_classes=5, embed_dim=32, num_groups=2, box_noise=0.0, flip_probability=0.0
    )
    found = source(given)
    targets = given.targets
    assert (found.blocks, found.sees) == (2, ("primary",))
    # images of 3, 1 and 0 objects: rows of 3, twice
    counted = [[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0] * 6]
    assert found.counted_BN.int().tolist() == counted
    reference = found.queries.reference_BNr  # the boxes, through their logits
    torch.testing.assert_close(reference[0], targets.boxes_G4[:3].repeat(2, 1))
    torch.testing.assert_close(reference[1, [0, 3]], targets.boxes_G4[3:].repeat(2, 1))
    assert (reference[1, [1, 2, 4, 5]] == 0.5).all() and (reference[2] == 0.5).all()
    contents = source.labels(targets.labels_G[:3]).repeat(2, 1)
    assert torch.equal(found.queries.content_BNC[0], contents)
    assert (found.queries.content_BNC[1, [1, 2, 4, 5]] == 0).all()
    known = found.known
    assert known.image_P.tolist() == [0, 0, 0, 1] * 2
    assert known.query_P.tolist() == [0, 1, 2, 0, 3, 4, 5, 3]
    assert known.target_P.tolist() == [0, 1, 2, 3] * 2
    assert known.valid_P.all() and known.labelled_P.all() and known.normalizer == 2 * 4
    around = given.initializer.around(found.queries.reference_BNr)
    assert torch.equal(found.queries.pos_BNC, around.pos_BNC)


def test_noise_of_dn_detr_stays_in_its_limits():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.1]]).repeat(4000, 1)
    source = NoisedBoxes(num_classes=5, box_noise=0.4)
    torch.manual_seed(0)
    noisy = source.noisy_boxes(boxes, torch.zeros(4000, dtype=torch.bool))
    change = (noisy - boxes) / torch.tensor([0.2, 0.1, 0.2, 0.1])
    limit = torch.tensor([0.2, 0.2, 0.4, 0.4])
    assert (change.abs() <= limit + 1e-5).all()
    assert (change.abs().amax(0) > 0.95 * limit).all()
    torch.testing.assert_close(change.mean(0), torch.zeros(4), atol=0.02, rtol=0)


def test_noise_of_dino_parts_positives_and_negatives():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.1]]).repeat(4000, 1)
    extra = torch.arange(4000) % 2 == 1
    source = ContrastiveNoisedBoxes(num_classes=5, box_noise=0.4)
    torch.manual_seed(0)
    noisy = source.noisy_boxes(boxes, extra)

    def corners(box):
        return torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)

    shift = (corners(noisy) - corners(boxes)) / torch.tensor([0.1, 0.05, 0.1, 0.05])
    for which, low, high in ((~extra, 0.0, 0.4), (extra, 0.4, 0.8)):
        size = shift[which].abs()
        assert (size >= low - 1e-5).all() and (size <= high + 1e-5).all()
        assert (size.amax(0) > high - 0.01).all() and (size.amin(0) < low + 0.01).all()
        assert ((shift[which] > 0).float().mean(0) - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("kind", [NoisedBoxes, ContrastiveNoisedBoxes])
def test_noisy_references_stay_in_the_image_and_have_a_size(kind):
    """Also those of negatives whose corners have passed each other."""
    source = kind(num_classes=5, embed_dim=32, box_noise=1.0)
    torch.manual_seed(0)
    found = source(context(batch=[item(64, 80, 6, seed=seed) for seed in range(3)]))
    reference = found.queries.reference_BNr
    assert reference.shape[1] >= 30
    assert ((reference > 0.0009) & (reference < 0.9991)).all()


def test_contrastive_denoising_teaches_the_first_copy_only():
    given = context()
    source = ContrastiveNoisedBoxes(num_classes=5, embed_dim=32, num_pairs=7)
    found = source(given)
    # 7 pairs, at most 3 objects: 2 blocks of 3 positives and 3 negatives
    assert found.blocks == 2 and found.queries.reference_BNr.shape == (3, 12, 4)
    known = found.known
    valid = known.valid_P
    assert known.query_P[valid].tolist() == [0, 1, 2, 0, 6, 7, 8, 6]
    assert known.query_P[~valid].tolist() == [3, 4, 5, 3, 9, 10, 11, 9]
    assert torch.equal(known.labelled_P, valid) and known.normalizer == 2 * 4
    assert found.counted_BN[1].int().tolist() == [1, 0, 0] * 4
    assert ReleasedContrastiveNoisedBoxes(num_classes=5, embed_dim=32)(given).counted_BN is None


@pytest.mark.parametrize("most, blocks", [(0, 100), (1, 100), (7, 14), (60, 1), (500, 1)])
def test_more_objects_less_blocks(most, blocks):
    assert ContrastiveNoisedBoxes(num_classes=5, num_pairs=100).num_blocks(most) == blocks


def test_labels_flip_as_often_as_told():
    source = NoisedBoxes(num_classes=4, flip_probability=0.2)
    torch.manual_seed(0)
    labels = torch.full((20000,), 2)
    noisy = source._noisy_labels(labels)
    share = torch.bincount(noisy, minlength=4) / len(labels)
    torch.testing.assert_close(share, torch.tensor([0.05, 0.05, 0.85, 0.05]), atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", [NoisedBoxes, ContrastiveNoisedBoxes])
def test_batch_without_objects_has_no_denoising_queries_but_a_gradient(kind):
    given = context(batch=[item(64, 80, 0), item(48, 60, 0)])
    source = kind(num_classes=5, embed_dim=32)
    found = source(given)
    assert found.queries.content_BNC.shape == (2, 0, 32)
    assert len(found.known.image_P) == 0 and found.known.normalizer >= 1
    found.queries.content_BNC.sum().backward()
    assert (source.labels.weight.grad == 0).all()


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (NoisedBoxes, {"box_noise": 1.5}, "box_noise of NoisedBoxes must be a number in"),
        (NoisedBoxes, {"num_groups": 2.5}, "num_groups of NoisedBoxes must be a whole"),
        (ContrastiveNoisedBoxes, {"num_pairs": 2.5}, "num_pairs of ContrastiveNoisedBoxes must"),
        (NoisedBoxes, {"num_groups": 0}, "num_groups of NoisedBoxes must be a whole"),
        (NoisedBoxes, {"flip_probability": 2.0}, "flip_probability of NoisedBoxes must be a num"),
        (ContrastiveNoisedBoxes, {"num_pairs": 0}, "num_pairs of ContrastiveNoisedBoxes must be"),
        (ContrastiveNoisedBoxes, {"box_noise": -1.0}, "box_noise of ContrastiveNoisedBoxes must"),
    ],
)
def test_settings_are_checked(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(num_classes=5, **options)


@pytest.mark.parametrize("kind", [OwnQueries, OwnEmbeddings])
@pytest.mark.parametrize("blocks", [0, 1.5, True])
def test_number_of_blocks_is_checked(kind, blocks):
    with pytest.raises(ValueError, match="blocks of Own.* must be a whole number of at least 1"):
        kind(queries=LearnedQueries(num_queries=3), blocks=blocks)


def test_number_of_next_proposals_is_checked():
    with pytest.raises(
        ValueError, match="num_queries of NextProposals must be a whole number of at least 1"
    ):
        NextProposals(num_queries=0)
