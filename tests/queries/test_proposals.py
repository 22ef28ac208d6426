"""Anchors of the first stage, and the queries chosen among its proposals."""

import torch

from ms_detr.queries import (
    DINOQueries,
    EncoderProposals,
    LearnedQueries,
    MixedSelectionQueries,
    TwoStageQueries,
)
from ms_detr.structures import FeaturePyramid, padding_mask


def pyramid(sizes=((32, 32), (20, 16)), channels=16):
    torch.manual_seed(0)
    maps = [torch.randn(2, channels, 8, 8), torch.randn(2, channels, 4, 4)]
    mask = padding_mask(list(sizes), torch.zeros(2, 3, 32, 32))
    return FeaturePyramid.from_maps(
        maps, mask, lambda _, v, shape, dtype: torch.zeros(len(v), shape[0] * shape[1], channels)
    )


def test_anchor_sits_on_its_cell_and_doubles_with_the_level():
    anchors, valid = EncoderProposals(embed_dim=16).anchors(pyramid())
    torch.testing.assert_close(anchors[0, 0], torch.tensor([1 / 16, 1 / 16, 0.05, 0.05]))
    torch.testing.assert_close(anchors[0, 64 + 5], torch.tensor([3 / 8, 3 / 8, 0.1, 0.1]))
    # second image: 16 of 32 pixels wide, so 4 of 8 cells; the first centre is at 1 / 8
    torch.testing.assert_close(anchors[1, 0, :1], torch.tensor([1 / 8]))
    assert valid[0].all()
    assert valid[1, :64].view(8, 8).nonzero().tolist() == [
        [y, x] for y in range(5) for x in range(4)
    ]


def test_tokens_without_anchor_are_all_image_and_have_one_score():
    proposals = EncoderProposals(embed_dim=16, num_outputs=3)(pyramid())
    nowhere = ~proposals.valid_BS
    assert nowhere.any()
    assert (proposals.boxes_BS4[nowhere] == 1).all() and (proposals.anchors_BS4[nowhere] == 1).all()
    assert len(proposals.logits_BSK[nowhere].unique(dim=0)) == 1


def test_queries_are_the_best_proposals_and_never_padding():
    torch.manual_seed(0)
    memory = pyramid()
    queries, proposals = TwoStageQueries(
        proposals=EncoderProposals(embed_dim=16), num_queries=6, embed_dim=16
    )(memory)
    for image in range(2):
        score = proposals.logits_BSK[image, :, 0].detach().clone()
        score[~proposals.valid_BS[image]] = -1e9
        best = score.argsort(descending=True)[:6]
        assert torch.equal(queries.reference_BNr[image], proposals.boxes_BS4[image, best])
        assert proposals.valid_BS[image, best].all()
    assert not queries.reference_BNr.requires_grad
    assert queries.content_BNC.requires_grad and queries.pos_BNC.requires_grad


def test_an_image_with_few_tokens_gets_few_queries():
    for cls in (TwoStageQueries, MixedSelectionQueries):
        module = cls(proposals=EncoderProposals(embed_dim=16), num_queries=900, embed_dim=16)
        queries, _ = module(pyramid())
        assert queries.content_BNC.shape == queries.pos_BNC.shape == (2, 80, 16)
        assert torch.isfinite(queries.pos_BNC).all()


def test_mixed_selection_learns_contents_and_keeps_positions():
    torch.manual_seed(0)
    options = {"num_queries": 6, "embed_dim": 16}
    both = [
        cls(proposals=EncoderProposals(embed_dim=16), **options)
        for cls in (TwoStageQueries, MixedSelectionQueries)
    ]
    both[1].load_state_dict(both[0].state_dict(), strict=False)
    memory = pyramid()
    (pure, _), (mixed, _) = (module(memory) for module in both)
    assert torch.equal(pure.pos_BNC, mixed.pos_BNC)
    assert torch.equal(mixed.content_BNC, both[1].content.weight.expand(2, -1, -1))


def test_learned_contents_of_dino_begin_small():
    """Uniformly distributed within Xavier's limits, in the released code; normally with H-DETR."""
    torch.manual_seed(0)
    options = {"proposals": EncoderProposals(embed_dim=16), "num_queries": 80, "embed_dim": 16}
    limit = (6 / (80 + 16)) ** 0.5
    size = DINOQueries(**options).content.weight.abs()
    assert 0.98 * limit < size.max() <= limit
    assert 0.9 < MixedSelectionQueries(**options).content.weight.std() < 1.1


def test_learned_queries_do_not_look_at_the_image():
    torch.manual_seed(0)
    module = LearnedQueries(num_queries=7, embed_dim=16)
    memory = pyramid()
    queries, proposals = module(memory)
    again, _ = module(memory.with_tokens(memory.tokens_BSC + 1))
    assert proposals is None
    assert queries.reference_BNr.shape == (2, 7, 2)
    assert torch.equal(queries.content_BNC, again.content_BNC)
    assert torch.equal(queries.reference_BNr[0], queries.reference_BNr[1])
