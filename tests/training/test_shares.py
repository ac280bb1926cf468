"""Who has which rows of a batch."""

import pytest

from hpa_search.training.ranks import ALONE, Ranks, joined_ranks


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_all_rows_once_or_all_rows_each(count, world):
    shares = [list(range(count))[share_of(rank, world, count)] for rank in range(world)]
    if count < world:
        assert all(share == list(range(count)) for share in shares)
    else:
        assert sum(shares, []) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def share_of(rank, world, count):
    return Ranks(rank, world, object()).share(count)


def test_several_need_a_group():
    with pytest.raises(ValueError, match="rank 0 of 2"):
        Ranks(0, 2)
    assert joined_ranks() == ALONE
