"""The pace of a host: learned from refusals, paused when it fails, lost after too long."""

from __future__ import annotations

import logging
import threading

import pytest

from promptlab.errors import ModelLostError
from promptlab.models.http.pace import Pace
from promptlab.models.http.service import CallError, StoppedError
from tests.models.http.conftest import FastClock

NEVER = threading.Event()


def make_pace(most: int = 4, **further) -> Pace:
    return Pace("example.org", most, clock=FastClock(), **further)


def send(pace: Pace, failure: CallError | None = None, name: str = "a") -> float:
    """Send one request, which fails or is answered; return when it went."""
    sent_at = pace.enter(NEVER)
    if failure is None:
        pace.succeeded()
    else:
        pace.failed(sent_at, failure, name)
    pace.leave()
    return sent_at


def test_no_more_requests_than_allowed_are_in_flight():
    pace = make_pace(most=2)
    pace.enter(NEVER)
    pace.enter(NEVER)
    third = threading.Thread(target=pace.enter, args=(NEVER,), daemon=True)
    third.start()
    third.join(0.05)
    assert (third.is_alive(), pace.in_flight) == (True, 2)
    pace.leave()
    third.join(5)
    assert (third.is_alive(), pace.in_flight) == (False, 2)


def test_requests_of_a_limited_host_are_that_far_apart():
    pace = make_pace(per_minute=30)
    times = [send(pace) for _ in range(5)]
    assert times == [0, 2, 4, 6, 8]


def test_a_busy_host_is_left_alone_for_as_long_as_it_asks():
    pace = make_pace()
    send(pace, CallError("busy", "429", 20.0))
    assert send(pace) == 20


def test_a_busy_host_is_asked_by_half_as_many_and_takes_that_back_slowly():
    pace = make_pace(most=8)
    send(pace, CallError("busy", "429"))
    assert pace.allowed == 4
    for _ in range(10):
        send(pace)
    assert 4 < pace.allowed < 8
    for _ in range(40):
        send(pace)
    assert pace.allowed == 8


def test_requests_that_were_in_flight_together_are_one_lesson():
    pace = make_pace(most=8)
    together = [pace.enter(NEVER) for _ in range(6)]
    for sent_at in together:
        pace.failed(sent_at, CallError("busy", "429"), "a")
    assert pace.allowed == 4


def test_the_distance_between_requests_is_learned_until_a_host_has_enough():
    """A host that takes one request in ten seconds and says no more than 429."""
    pace, last, num_refused = make_pace(), -100.0, []
    for _ in range(60):
        sent_at = pace.enter(NEVER)
        is_refused = sent_at - last < 10
        num_refused.append(is_refused)
        if is_refused:
            pace.failed(sent_at, CallError("busy", "429", 1.0), "a")
        else:
            last = sent_at
            pace.succeeded()
        pace.leave()
    assert sum(num_refused[30:]) < sum(num_refused[:30])
    assert sum(num_refused[30:]) <= 8


def test_a_host_that_is_down_pauses_with_a_message_and_longer_each_time(caplog):
    caplog.set_level(logging.INFO, "promptlab")
    pace = make_pace()
    times = [send(pace, CallError("down", "ConnectError")) for _ in range(6)]
    assert times == [0, 0, 0, 5, 15, 35]
    assert pace.is_paused
    assert "example.org fails request after request (ConnectError)" in caplog.text
    send(pace)
    assert not pace.is_paused
    assert "example.org answers again" in caplog.text


def test_one_request_that_always_fails_pauses_nothing_and_three_do():
    pace = make_pace()
    for _ in range(20):
        send(pace, CallError("broken", "500"), "a")
    assert not pace.is_paused
    send(pace, CallError("broken", "500"), "b")
    send(pace, CallError("lost", "ReadTimeout"), "c")
    assert pace.is_paused


def test_a_host_that_never_answers_again_is_lost_after_the_patience_of_the_sweep():
    pace = make_pace(patience_s=600)
    failure, num_failures = CallError("down", "refused"), 0
    while pace.clock.now() < 300:
        send(pace, failure)
        num_failures += 1
    with pytest.raises(ModelLostError, match=r"example.org: no answer for 1\d minutes \(refused\)"):
        send(pace, failure)
    assert num_failures < 12
    pace.leave()
    pace.begin()
    send(pace, CallError("down", "refused"))


def test_a_wait_of_hours_is_a_quota_and_ends_the_sweep():
    with pytest.raises(ModelLostError, match="asks to wait 120 minutes"):
        send(make_pace(), CallError("busy", "429", 7200.0))


def test_the_end_of_a_sweep_ends_every_wait():
    pace, stop = make_pace(), threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        pace.enter(stop)
