"""Self-attention of query groups against the definition of who sees whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ms_detr.layers import QuerySelfAttention
from ms_detr.structures.query_groups import QueryGroup, find

GROUPS = {
    "one": [("primary", 5, 1, ())],
    "two blind": [("primary", 4, 1, ()), ("hybrid", 7, 1, ())],
    "blocks": [("primary", 3, 1, ()), ("group", 9, 3, ())],
    "blocks of another size": [("primary", 4, 1, ()), ("group", 6, 3, ())],
    "denoising": [("primary", 4, 1, ()), ("denoising", 6, 2, ("primary",))],
    "one block that sees others": [
        ("primary", 4, 1, ()),
        ("first", 3, 1, ("primary",)),
        ("second", 2, 1, ("first", "primary")),
    ],
    "everything": [
        ("denoising", 8, 4, ("primary",)),
        ("primary", 4, 1, ()),
        ("none", 0, 3, ("primary",)),
        ("group", 6, 2, ()),
        ("hybrid", 5, 1, ()),
    ],
}


def groups_of(name: str) -> tuple[QueryGroup, ...]:
    return tuple(QueryGroup(*group) for group in GROUPS[name])


def may_see(groups, row: int, column: int) -> bool:
    """The rule, for one query and one key, with nothing but loops."""
    owners = []
    for group in groups:
        for number in range(group.size):
            owners.append((group, number // (group.size // group.blocks)))
    (group, block), (other, other_block) = owners[row], owners[column]
    if group.name == other.name:
        return block == other_block
    return other.name in group.sees


def reference(attention: QuerySelfAttention, content, pos, groups):
    """torch's own attention over all queries, with the rule as a mask."""
    total = content.shape[1]
    theirs = nn.MultiheadAttention(content.shape[2], attention.num_heads, batch_first=True)
    theirs.to(content.dtype).load_state_dict(attention.state_dict())
    hidden = torch.tensor([[not may_see(groups, i, j) for j in range(total)] for i in range(total)])
    key = content + pos
    return theirs(key, key, content, attn_mask=hidden, need_weights=False)[0]


def example(groups, dtype=torch.float64):
    torch.manual_seed(0)
    attention = QuerySelfAttention(8, 2).to(dtype)
    nn.init.normal_(attention.in_proj_bias)
    nn.init.normal_(attention.out_proj.bias)
    total = sum(group.size for group in groups)
    content, pos = torch.randn(2, 2, total, 8, dtype=dtype).unbind(0)
    return attention, content.requires_grad_(), pos.requires_grad_()


@pytest.mark.parametrize("name", GROUPS)
def test_equals_one_masked_attention(name):
    groups = groups_of(name)
    attention, content, pos = example(groups)
    ours = attention(content, pos, groups)
    theirs = reference(attention, content, pos, groups)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), (content, pos)),
        torch.autograd.grad((theirs * weights).sum(), (content, pos)),
    ):
        torch.testing.assert_close(one, other)


def test_without_groups_everyone_sees_everyone():
    groups = groups_of("one")
    attention, content, pos = example(groups)
    assert torch.equal(attention(content, pos), attention(content, pos, groups))


def test_what_changes_when_a_query_changes():
    """Queries that may not see another one keep their result to the bit."""
    groups = groups_of("everything")
    attention, content, pos = example(groups)
    before = attention(content, pos, groups)
    for changed in range(content.shape[1]):
        other = content.detach().clone()
        other[:, changed] += 1
        same = (attention(other, pos, groups) == before).flatten(2).all(-1).all(0)
        assert same.tolist() == [not may_see(groups, i, changed) for i in range(len(same))]


def test_dropout_is_for_training():
    groups = groups_of("blocks")
    attention, content, pos = example(groups)
    attention.dropout = 0.5
    attention.train()
    assert not torch.equal(attention(content, pos, groups), attention(content, pos, groups))
    attention.eval()
    assert torch.equal(attention(content, pos, groups), attention(content, pos, groups))


def test_heads_must_divide_channels():
    with pytest.raises(ValueError, match="multiple of num_heads, got 10 and 4"):
        QuerySelfAttention(10, 4)


def test_a_group_is_made_of_equal_blocks():
    with pytest.raises(ValueError, match="'group' of 7 queries cannot be 3 equal blocks"):
        QueryGroup("group", 7, blocks=3)


def test_groups_are_found_by_name():
    groups = groups_of("everything")
    assert find(groups, "group") == slice(12, 18)
    with pytest.raises(ValueError, match="no query group 'mixed'; there are: denoising, primary"):
        find(groups, "mixed")
