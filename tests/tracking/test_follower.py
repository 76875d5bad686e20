"""The process beside a sweep: when it writes to MLflow."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab.errors import TrackingError
from promptlab.paths import RunPaths
from promptlab.tracking import TrackingOptions, follower
from promptlab.tracking.follower import SHORTEST_PAUSE_S, Follower, pause
from promptlab.tracking.messages import News

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


class ScriptedSyncer:
    """Fails as often as it is told to; then writes one image."""

    num_left = num_missing = num_deleted = num_lost = 0

    def __init__(self, num_failures: list[int]) -> None:
        self.client = SimpleNamespace(num_threads=0)
        self._num_failures = num_failures
        self.is_finished = False

    def sync_images(self, _: object) -> int:
        if self._num_failures[0]:
            self._num_failures[0] -= 1
            raise ConnectionError("away")
        return 1

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[News]:
    told: list[News] = []
    monkeypatch.setattr(follower, "tell", told.append)
    return told


def test_after_a_failure_mlflow_is_asked_anew_and_the_waits_double_up_to_the_longest(
    told: list[News], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Follower(RunPaths("runs/a"), TrackingOptions())
    num_failures, opened, waits = [6], [], []

    def open_syncer() -> ScriptedSyncer:
        opened.append(ScriptedSyncer(num_failures))
        return opened[-1]

    monkeypatch.setattr(process, "_open_syncer", open_syncer)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for _ in range(6):
        assert not process._try(is_final=False)
        waits.append(process._next_at - 1000.0)
    assert waits == [5, 10, 20, 40, 60, 60]
    assert len(opened) == 6, "what was known of MLflow is forgotten"
    assert all(not news.is_finished and "cannot be reached" in news.warning for news in told)
    assert process._try(is_final=False)
    assert not opened[-1].is_finished
    num_failures[0] = 1
    assert not process._try(is_final=False)
    assert process._next_at - 1000.0 == 5, "after a success the first wait is short again"
    assert process._try(is_final=True)
    assert opened[-1].is_finished
    assert told[-1] == News(is_finished=True)


def test_a_last_try_that_fails_ends_the_waiting(
    told: list[News], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Follower(RunPaths("runs/a"), TrackingOptions())
    monkeypatch.setattr(process, "_open_syncer", lambda: ScriptedSyncer([1]))
    assert not process._try(is_final=True)
    (news,) = told
    assert news.is_finished
    assert news.warning is not None


def test_what_is_lost_or_deleted_is_told_when_all_is_written(
    told: list[News], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Follower(RunPaths("runs/a"), TrackingOptions())
    syncer = ScriptedSyncer([0])
    syncer.num_deleted, syncer.num_lost = 2, 3
    monkeypatch.setattr(process, "_open_syncer", lambda: syncer)
    assert process._try(is_final=True)
    warnings = [news.warning for news in told if news.warning]
    assert len(warnings) == 2
    assert "2 MLflow runs of runs/a were deleted" in warnings[0]
    assert "MLflow lacks 3 images" in warnings[1]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (["part"], "part"),
        (["part", "part", "finish"], "finish"),
        (["part", "finish", "gone"], "finish"),
        (["part", "gone"], "gone"),
    ],
)
def test_an_order_to_finish_is_followed_whatever_comes_with_it(
    orders: list[str], expected: str
) -> None:
    process = Follower(RunPaths("runs/a"), TrackingOptions())
    for order in orders:
        process._orders.put(order)
    assert process._next_order() == expected
    assert process._orders.empty()


def test_it_tries_again_by_itself_only_while_something_is_not_written() -> None:
    process = Follower(RunPaths("runs/a"), TrackingOptions())
    process._is_behind = True  # and no order comes
    assert process._next_order() == "part"
