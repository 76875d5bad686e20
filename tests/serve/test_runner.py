"""The runner: every entry is drawn once, whatever is killed, cancelled or stopped meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.serve.children import Children
from promptlab.serve.entries import Entry
from promptlab.serve.queue import Queue
from promptlab.serve.runner import Runner
from tests.serve.conftest import rows_of, runs_of
from tests.store.sweeping import essence

PAINT = ("-m", "model=paint", "tracking=null")


@pytest.fixture
def entries(folder: Path, tmp_path: Path) -> Iterator[Queue]:
    """Open a queue of its own."""
    found = Queue(tmp_path / "queue.sqlite")
    yield found
    found.close()


@pytest.fixture
def runner(entries: Queue, children: Children) -> Iterator[Runner]:
    """Draw the queue's entries."""
    found = Runner(entries, children, "one")
    found.start()
    yield found
    found.stop()


def add(entries: Queue, name: str, *argv: str, num_images: int | None = None) -> int:
    line = (*PAINT, f"name={name}", *argv)
    return entries.add(line, num_images=num_images).entry_id


def wait(entries: Queue, entry_id: int, is_reached: Callable[[Entry], bool]) -> Entry:
    """Return an entry once it is as asked."""
    end_at = time.monotonic() + 90
    while True:
        entry = entries.get(entry_id)
        assert entry is not None
        if is_reached(entry):
            return entry
        assert time.monotonic() < end_at, entry
        time.sleep(0.05)


def ended(entry: Entry) -> bool:
    return entry.ended_at is not None


def has_drawn(entry: Entry) -> bool:
    return entry.num_drawn > 0


def test_entries_are_drawn_and_say_how_they_ended(runner: Runner, entries: Queue):
    good = add(entries, "good", "subject=a fox,a robot", "seeds=3")
    bad = add(entries, "bad", "subject=a cat,a robot cat", "seeds=2", "model.fails_on=robot")
    wrong = add(entries, "wrong", "temperature=99")
    entry = wait(entries, good, ended)
    assert (entry.status, entry.error, entry.attempt) == ("done", "", 1)
    assert (entry.num_images, entry.num_pending, entry.num_drawn) == (6, 6, 6)
    assert [Path(entry.run_folder or "")] == runs_of("good")
    entry = wait(entries, bad, ended)
    assert (entry.status, entry.num_drawn, entry.num_failed) == ("failed", 4, 2)
    assert "robot cannot be painted" in entry.error
    entry = wait(entries, wrong, ended)
    assert entry.status == "failed"
    assert "temperature=99" in entry.error


@pytest.mark.slow
def test_a_small_entry_does_not_wait_for_a_large_one_which_can_be_cancelled(
    runner: Runner, entries: Queue
):
    large = add(entries, "large", "subject=a", "seeds=2000", "model.delay_s=0.03", num_images=2000)
    wait(entries, large, has_drawn)
    next_large = add(entries, "next", "subject=a", "seeds=100", num_images=100)
    small = add(entries, "small", "subject=b", "seeds=3", "model.delay_s=0.03", num_images=3)
    assert wait(entries, small, ended).status == "done"
    found = [entries.get(number) for number in (large, next_large)]
    assert [entry and entry.status for entry in found] == ["drawing", "waiting"]
    assert entries.cancel(next_large)
    assert entries.cancel(large)
    asked_at = time.time()
    entry = wait(entries, large, ended)
    assert entry.status == "cancelled"
    (run,) = runs_of("large")
    newest = max(row["created_at"] for row in rows_of(run)).timestamp()
    assert newest - asked_at < 5  # 1 s, and what a busy machine adds
    assert 0 < len(rows_of(run)) < 2000


@pytest.mark.slow
def test_what_a_stopped_runner_was_drawing_waits_and_is_resumed(entries: Queue, children: Children):
    number = add(entries, "stopped", "subject=a", "seeds=40", "model.delay_s=0.05", "reuse=false")
    first = Runner(entries, children, "first")
    first.start()
    wait(entries, number, has_drawn)
    first.stop()
    entry = entries.get(number)
    assert entry is not None
    assert entry.status == "waiting"
    (run,) = runs_of("stopped")
    kept = len(rows_of(run))
    second = Runner(entries, children, "second")
    second.start()
    entry = wait(entries, number, ended)
    second.stop()
    assert (entry.status, entry.attempt) == ("done", 2)
    assert entry.num_drawn == 40 - kept
    assert runs_of("stopped") == [run]
    assert len(rows_of(run)) == 40


@pytest.mark.slow
def test_an_entry_whose_process_is_killed_is_drawn_again_but_not_for_ever(
    runner: Runner, entries: Queue
):
    number = add(entries, "deadly", "subject=a", "seeds=400", "model.delay_s=0.05")
    for attempt in (1, 2, 3):
        wait(entries, number, lambda e, attempt=attempt: e.attempt == attempt and has_drawn(e))
        (drawing,) = runner._drawings
        drawing.child.kill()
    entry = wait(entries, number, ended)
    assert entry.status == "failed"
    assert "signal 9" in entry.error


@pytest.mark.slow
def test_two_runners_share_a_queue(runner: Runner, entries: Queue, children: Children):
    other = Runner(entries, children, "other")
    other.start()
    argv = ("subject=a", "seeds=4", "model.delay_s=0.2")
    numbers = [add(entries, f"shared{n}", *argv, num_images=4) for n in range(4)]
    found = [wait(entries, number, ended) for number in numbers]
    other.stop()
    assert [(entry.status, entry.attempt) for entry in found] == [("done", 1)] * 4
    assert {entry.owner for entry in found} == {"one", "other"}


SERVER = """\
import sys, time
from promptlab.serve import runner
from promptlab.serve.children import Children
from promptlab.serve.desk import Desk
from promptlab.serve.queue import Queue

runner.LEASE_S = 1.5
desk = Desk(1)
desk.start()
room = runner.Runner(Queue(sys.argv[1]), Children("runs", desk, ".serve"), sys.argv[2])
room.start()
print("started", flush=True)
time.sleep(1000)
"""


def start_server(path: Path, owner: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SERVER, str(path), owner]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    return process


@pytest.mark.slow
def test_nothing_is_lost_or_drawn_twice_when_the_server_is_killed(
    entries: Queue, folder: Path, tmp_path: Path
):
    slow = ("subject=a fox,a robot", "model.delay_s=0.04", "store.flush_s=0.2", "reuse=false")
    lines = [(f"hit{n}", *slow, f"seeds={seeds}") for n, seeds in enumerate((40, 5, 5))]
    numbers = [add(entries, *line, num_images=80) for line in lines]
    server = start_server(tmp_path / "queue.sqlite", "first")
    run_folder = Path(wait(entries, numbers[0], has_drawn).run_folder or "")
    while not rows_of(run_folder):
        time.sleep(0.05)
    os.kill(server.pid, signal.SIGKILL)
    server.communicate()
    kept = len(rows_of(run_folder))
    assert 0 < kept < 80
    server = start_server(tmp_path / "queue.sqlite", "second")
    found = [wait(entries, number, ended) for number in numbers]
    server.kill()
    server.communicate()
    assert [entry.status for entry in found] == ["done"] * 3
    assert found[0].attempt == 2
    assert found[0].num_pending == found[0].num_drawn == 80 - kept
    for name, *argv in lines:
        (run,) = runs_of(name)
        fast = [*PAINT, *argv, f"name={name}", "model.delay_s=0", "runs_dir=undisturbed"]
        assert main(["sweep", *fast]) == 0
        (alone,) = (folder / "undisturbed").glob(f"*_{name}")
        assert essence(rows_of(run)) == essence(rows_of(alone))
