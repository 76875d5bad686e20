"""A count, a list, a range: what `seeds` may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab.errors import ConfigError
from promptlab.planning.seeds import MAX_NUM_SEEDS, MAX_SEED, parse_seeds


@pytest.mark.parametrize(
    ("value", "seeds"),
    [
        (3, (0, 1, 2)),
        ("3", (3,)),
        ([5, 3], (5, 3)),
        ("0-3", (0, 1, 2, 3)),
        ("7-7", (7,)),
        ("0-2,9", (0, 1, 2, 9)),
        (["0-2", 1, 5], (0, 1, 2, 5)),
        (" 1 - 2 ".replace(" ", ""), (1, 2)),
        ([MAX_SEED], (MAX_SEED,)),
        ("auto", (0, 1)),
        (f"5-{MAX_NUM_SEEDS + 4}", tuple(range(5, MAX_NUM_SEEDS + 5))),
    ],
)
def test_seeds_are_read_in_order_without_duplicates(value, seeds):
    assert parse_seeds(value) == seeds


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 2.5, True, None, "", [], "a", "1-", "-1", [-1], [True], ["a"], "3-1", {"a": 1}),
        *([MAX_SEED + 1], "0-9999999999", 10**9, f"0-{MAX_NUM_SEEDS}", MAX_NUM_SEEDS + 1),
    ],
)
def test_anything_else_is_an_error_that_says_what_is_expected(value):
    with pytest.raises(ConfigError, match="seed"):
        parse_seeds(value)


# Counts in their range are small, so that no example is a list of a million seeds.
WHOLE = st.one_of(st.integers(max_value=50), st.integers(min_value=MAX_SEED))


@given(st.one_of(st.text(), WHOLE, st.lists(st.one_of(st.integers(), st.text()))))
def test_no_value_breaks_it(value):
    try:
        seeds = parse_seeds(value)
    except ConfigError:
        return
    assert len(set(seeds)) == len(seeds) > 0
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
