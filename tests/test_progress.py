"""How far a sweep is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from promptlab import progress
from promptlab.progress import format_seconds, show_progress


def test_a_terminal_shows_images_per_second_and_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show_progress(5) as count:
        for _ in range(5):
            count("this process")
    shown = capsys.readouterr().err
    assert "image/s" in shown
    assert "5/5" in shown
    assert "this process" not in shown


def test_a_terminal_shows_the_speed_of_each_worker_if_there_are_several(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    with show_progress(3) as count:
        for worker in ("gpu 1", "gpu 0", "gpu 1"):
            count(worker)
    assert re.search(r"gpu 0 \S+/s, gpu 1 \S+/s", capsys.readouterr().err)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: seconds since the sweep began."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_where_there_is_no_terminal_a_line_now_and_then_does(caplog, clock):
    with caplog.at_level("INFO", logger="promptlab.progress"), show_progress(100) as count:
        for second in range(1, 101):
            clock[0] = float(second)
            count("here")
    assert caplog.messages == [
        "30 of 100 images, 1.00 images/s, 70 s left",
        "60 of 100 images, 1.00 images/s, 40 s left",
        "90 of 100 images, 1.00 images/s, 10 s left",
    ]


def test_a_line_says_the_speed_of_each_worker_if_there_are_several(caplog, clock):
    with caplog.at_level("INFO", logger="promptlab.progress"), show_progress(10) as count:
        for worker in ("gpu 1", "gpu 0", "gpu 1"):
            clock[0] += 10.0
            count(worker)
    assert caplog.messages == [
        "3 of 10 images, 0.10 images/s (gpu 0 0.0333/s, gpu 1 0.0667/s), 70 s left"
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5399, "90 min")),
        *((5400, "1.5 h"), (3 * 3600, "3.0 h"), (48 * 3600, "2.0 days"), (4 * 86400, "4.0 days")),
    ],
)
def test_durations_are_told_in_one_unit(seconds, text):
    assert format_seconds(seconds) == text
