"""The process beside a sweep: when it writes to MLflow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from promptlab.tracking.worker import PAUSE_S, pause

SHORTEST, LONGEST = PAUSE_S


def test_far_from_the_end_it_writes_seldom_and_before_the_end_more_often() -> None:
    # 20 images a second
    assert pause(300, 15.0, num_missing=10_000) == LONGEST
    assert pause(300, 15.0, num_missing=200) == 5.0
    assert pause(100, 5.0, num_missing=20) == SHORTEST


@given(st.integers(0, 10**6), st.floats(0, 1e6), st.integers(0, 10**6))
def test_a_pause_is_never_shorter_nor_longer_than_it_may_be(
    num_written: int, seconds: float, num_missing: int
) -> None:
    assert SHORTEST <= pause(num_written, seconds, num_missing) <= LONGEST
