"""The desk: sweeps share resident workers, small ones first, and nobody's end hurts another."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from promptlab.errors import ModelError, ModelLostError
from promptlab.serve.desk import Desk
from promptlab.serve.seats import PATIENCE_S, Sweep, turn
from promptlab.workers.blocks import Blocks, Work
from promptlab.workers.dispatch import Dispatcher
from promptlab.workers.messages import Block, Loaded, Message, ModelCall, Ready
from promptlab.workers.options import WorkerOptions
from promptlab.workers.resident import DESK, DESK_KEY, resident_hosts
from tests.workers.conftest import Drawing, draw_with, make_work, pixels_alone

LOADING = "tests.serve.models.LoadingModel"
DEADLY = "tests.workers.models.DeadlyModel"


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Open a desk with one worker, which this process's sweeps find."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = Desk(1)
    found.start()
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    yield found
    found.stop()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Give threads for sweeps that run at once."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


def draw(work: Work, **options: Any) -> Drawing:
    """Draw work at the desk."""
    return draw_with(resident_hosts(len(work.requests)), work, **options)


def slow(num: int, name: str, delay_s: float = 0.02) -> Work:
    """Return work that takes a while."""
    return make_work([f"{name} {n}" for n in range(num)], delay_s=delay_s)


def started(pool: ThreadPoolExecutor, work: Work) -> tuple[Drawing, Future[None]]:
    """Return a sweep that has drawn its first image and is not finished."""
    drawing, has_begun = Drawing(), threading.Event()

    def deliver(drawn: Any, worker: str) -> None:
        drawing.deliver(drawn, worker)
        has_begun.set()

    hosts = resident_hosts(len(work.requests))
    future = pool.submit(Dispatcher(hosts, Blocks([work]), deliver, WorkerOptions()).run)
    assert has_begun.wait(30)
    return drawing, future


def worker_pid(desk: Desk) -> int:
    (worker,) = desk._workers.values()
    return worker.host.pid


def test_a_sweep_at_the_desk_draws_what_it_draws_alone(desk: Desk):
    work = make_work(30)
    assert draw(work).pixels == pixels_alone(work)


def test_one_model_is_loaded_once_for_sweeps_that_follow_each_other(desk: Desk, tmp_path):
    for number in range(3):
        prompts = [f"prompt {number} {n}" for n in range(5)]
        draw(make_work(prompts, LOADING, notes=str(tmp_path / "loads")))
    assert (tmp_path / "loads").read_text() == "load\n"


def test_a_small_sweep_does_not_wait_for_a_large_one(desk: Desk, pool: ThreadPoolExecutor):
    large = slow(300, "large")
    drawing, future = started(pool, large)
    small = slow(4, "small")
    drawn, num_of_large = draw(small), len(drawing.images)
    assert not future.done()
    assert num_of_large < 250
    assert drawn.pixels == pixels_alone(make_work([r.prompt for r in small.requests]))
    future.result()
    assert len(drawing.pixels) == 300


def test_two_sweeps_with_the_same_images_both_get_them(desk: Desk, pool: ThreadPoolExecutor):
    works = [slow(40, "prompt", 0.005) for _ in range(2)]
    first, second = (pool.submit(draw, work) for work in works)
    assert first.result().pixels == second.result().pixels == pixels_alone(works[0])


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_every_sweep_ends_well(
    desk: Desk, pool: ThreadPoolExecutor
):
    drawing, future = started(pool, slow(100, "large"))
    other = pool.submit(draw, slow(100, "other"))
    time.sleep(0.3)
    os.kill(worker_pid(desk), signal.SIGKILL)
    future.result()
    assert len(drawing.pixels) == len(other.result().pixels) == 100
    assert not drawing.errors


def test_a_request_that_ends_its_worker_fails_alone_and_in_its_own_sweep(
    desk: Desk, pool: ThreadPoolExecutor
):
    other = pool.submit(draw, slow(60, "other"))
    bad = draw(make_work(["a fox", "poison", "a robot"], DEADLY))
    assert set(bad.errors) == {"poison"}
    assert len(bad.pixels) == 3
    assert not other.result().errors
    assert len(other.result().pixels) == 60


def test_a_worker_that_draws_for_nobody_is_not_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("promptlab.serve.desk.ABANDONED_S", 0.5)
    left = slow(8, "left", delay_s=30)
    (host,) = resident_hosts(8)
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    host.start(messages.put)

    def wait_for(kind: type[Message]) -> None:
        while not isinstance(messages.get(timeout=30), kind):
            pass  # a heartbeat

    wait_for(Ready)
    planned = left.planned
    call = ModelCall(planned.node, "paint", planned.model.fingerprint, planned.numerics)
    host.send(Block(call, tuple(left.requests)))
    wait_for(Loaded)
    host.kill()
    assert len(draw(make_work(3)).pixels) == 3


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(
    desk: Desk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("promptlab.serve.desk.SILENT_S", 2.0)
    drawing, future = started(pool, slow(60, "large"))
    os.kill(worker_pid(desk), signal.SIGSTOP)
    future.result()
    assert len(drawing.pixels) == 60
    assert not drawing.errors


def test_a_model_that_cannot_be_loaded_ends_its_own_sweep_alone(desk: Desk):
    with pytest.raises(ModelError, match="weights of paint are not here"):
        draw(make_work(3, weights_missing=True))
    assert len(draw(make_work(3)).pixels) == 3


def test_nobody_without_the_key_gets_a_seat(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(DESK_KEY, "00" * 32)
    with pytest.raises(ModelLostError, match="cannot be reached"):
        resident_hosts(1)
    monkeypatch.setenv(DESK_KEY, desk.environment[DESK_KEY])
    assert len(resident_hosts(1)) == 1


def test_a_sweep_hears_that_the_desk_is_closed(desk: Desk, pool: ThreadPoolExecutor):
    _, future = started(pool, slow(200, "large"))
    desk.stop()
    with pytest.raises(ModelError, match="no worker is left"):
        future.result()
    assert not os.path.exists(os.environ[DESK])


def test_a_desk_stops_although_its_accepting_thread_has_ended(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Desk, "_accept", lambda desk: None)
    desk = Desk(1)
    desk.start()
    stopping = threading.Thread(target=desk.stop, daemon=True)
    stopping.start()
    stopping.join(30)
    assert not stopping.is_alive()


def sweep(num_left: int, number: int = 0, served_at: float = 0.0, is_urgent: bool = False) -> Sweep:
    return Sweep(num_left, is_urgent, number, served_at)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (sweep(3), sweep(5)),
        (sweep(5, number=1), sweep(5, number=2)),
        (sweep(500, is_urgent=True), sweep(5)),
        (sweep(5, is_urgent=True), sweep(500, is_urgent=True)),
    ],
)
def test_urgent_sweeps_then_small_ones_then_early_ones_have_their_turn(first: Sweep, second: Sweep):
    assert turn([first, second], now=1.0) is turn([second, first], now=1.0) is first


def test_a_sweep_that_waits_long_has_its_turn_before_urgent_ones():
    old, new = sweep(5000), sweep(1, served_at=10.0, is_urgent=True)
    assert turn([old, new], now=PATIENCE_S - 1) is new
    assert turn([old, new], now=PATIENCE_S) is old
