"""The process beside a sweep: when it writes to MLflow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab.errors import TrackingError
from promptlab.tracking import TrackingOptions
from promptlab.tracking.follower import SHORTEST_PAUSE_S, pause

LONGEST = 15.0  # s


def test_far_from_the_end_it_writes_seldom_and_before_the_end_more_often() -> None:
    # 20 images a second
    assert pause(300, 15.0, 10_000, LONGEST) == LONGEST
    assert pause(300, 15.0, 200, LONGEST) == 5.0
    assert pause(100, 5.0, 20, LONGEST) == SHORTEST_PAUSE_S


@given(st.integers(0, 10**6), st.floats(0, 1e6), st.integers(0, 10**6), st.floats(0, 100))
def test_a_pause_is_never_longer_than_asked_for_nor_shorter_than_need_be(
    num_written: int, seconds: float, num_missing: int, longest_s: float
) -> None:
    pause_s = pause(num_written, seconds, num_missing, longest_s)
    assert min(longest_s, SHORTEST_PAUSE_S) <= pause_s <= longest_s


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_negative_number_of_seconds_is_refused(seconds: float) -> None:
    with pytest.raises(TrackingError, match="at least 0 seconds"):
        TrackingOptions(flush_s=seconds)
