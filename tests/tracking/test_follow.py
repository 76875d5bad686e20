"""The sweep's side: how long it waits for its follower, and what it says."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from promptlab.paths import RunPaths
from promptlab.tracking import follow
from promptlab.tracking.follow import Tracking
from promptlab.tracking.messages import News
from promptlab.tracking.options import TrackingOptions


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Tracking:
    monkeypatch.setattr(follow, "PATIENCE_S", 1.0)
    monkeypatch.setattr(follow, "REPORT_S", 0.0)
    return Tracking(RunPaths("runs/a"), TrackingOptions())


def test_it_waits_for_a_slow_follower_as_long_as_there_is_progress(
    tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    def report() -> None:
        for num_left in (4, 3, 2, 1):
            time.sleep(0.4)
            tracking._news.put(News(num_left=num_left))
        tracking._news.put(News(is_finished=True))
        tracking._news.put(None)

    threading.Thread(target=report, daemon=True).start()
    with caplog.at_level(logging.INFO):
        assert tracking._wait()
    assert "Writing to MLflow: 1 images left." in caplog.messages
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_it_gives_up_on_a_follower_that_says_nothing(tracking: Tracking) -> None:
    tracking._news.put(News(num_left=4))
    assert not tracking._wait()


def test_a_follower_that_ended_without_finishing_is_reported_once(
    tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    tracking._news.put(News(num_left=4))
    tracking._news.put(None)
    with caplog.at_level(logging.WARNING):  # its progress may be shown since an earlier sweep
        assert tracking._wait()
        tracking._warn("another problem")
    (message,) = caplog.messages
    assert message.startswith("Tracking has stopped. Bring MLflow up to date later")
    assert message.endswith("promptlab sync runs/a")
