"""The queue: claims that race, leases that run out, order, and processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from promptlab.serve.queue import MAX_LOST, Lease, Queue, QueueFullError

LEASE_S = 15.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue(tmp_path / ".serve" / "queue.sqlite", clock)


def claim(queue: Queue, owner: str = "a", max_images: int | None = None) -> tuple[Lease, int]:
    claimed = queue.claim(owner, LEASE_S, max_images)
    assert claimed is not None
    return claimed[0], claimed[1].entry_id


def order(queue: Queue) -> list[int]:
    return [entry.entry_id for entry in queue.entries() if entry.status == "waiting"]


def test_an_entry_comes_back_as_it_was_added(queue: Queue) -> None:
    argv = ("-m", "subject='a, b'", "style=noto", 'x="\n"')
    entry = queue.add(argv, who="Ann", source="page", num_images=8, of="0123456789abcdef")
    assert entry == queue.get(entry.entry_id)
    assert (entry.argv, entry.who, entry.source, entry.num_images) == (argv, "Ann", "page", 8)
    assert (entry.status, entry.attempt, entry.created_at) == ("waiting", 0, 1000.0)
    assert queue.get(99) is None


def test_entries_are_claimed_in_order_and_urgent_ones_first(queue: Queue) -> None:
    first, second = (queue.add(["x"]).entry_id for _ in range(2))
    urgent = queue.add(["x"], is_urgent=True).entry_id
    assert [claim(queue)[1] for _ in range(3)] == [urgent, first, second]
    assert queue.claim("a", LEASE_S) is None


def test_a_small_claim_leaves_large_and_unplanned_entries(queue: Queue) -> None:
    queue.add(["large"], num_images=65)
    unplanned = queue.add(["unplanned"]).entry_id
    small = queue.add(["small"], num_images=64).entry_id
    assert claim(queue, max_images=64)[1] == small
    assert queue.claim("a", LEASE_S, 64) is None
    lease, _ = claim(queue)
    assert queue.note(lease, num_pending=3)
    assert queue.release(lease)
    assert claim(queue, max_images=64)[1] == lease.entry_id
    assert claim(queue)[1] == unplanned


def test_a_lease_that_ran_out_is_anothers_and_the_late_owner_is_refused(
    queue: Queue, clock: Clock
) -> None:
    entry_id = queue.add(["x"]).entry_id
    late, _ = claim(queue, "a")
    clock.now += LEASE_S
    assert queue.claim("b", LEASE_S) is None, "the lease holds to its last moment"
    clock.now += 0.1
    lease, claimed = claim(queue, "b")
    assert claimed == entry_id
    assert queue.renew(late, LEASE_S) is None
    assert not queue.note(late, num_drawn=7)
    assert not queue.release(late)
    assert not queue.finish(late, "done")
    assert queue.finish(lease, "done")
    assert not queue.finish(lease, "failed", "twice")
    entry = queue.get(entry_id)
    assert entry is not None
    assert (entry.status, entry.owner, entry.error, entry.num_drawn) == ("done", "b", "", 0)


def test_a_renewed_lease_holds(queue: Queue, clock: Clock) -> None:
    queue.add(["x"])
    lease, _ = claim(queue)
    for _ in range(5):
        clock.now += LEASE_S - 1
        assert queue.renew(lease, LEASE_S) is not None
        assert queue.claim("b", LEASE_S) is None


def test_what_kills_its_server_again_and_again_fails(queue: Queue, clock: Clock) -> None:
    entry_id = queue.add(["x"]).entry_id
    for _ in range(MAX_LOST + 1):
        claim(queue)
        clock.now += LEASE_S + 1
    assert queue.claim("a", LEASE_S) is None
    entry = queue.get(entry_id)
    assert entry is not None
    assert entry.status == "failed"
    assert str(MAX_LOST) in entry.error


def test_a_server_that_is_stopped_and_started_often_fails_nothing(queue: Queue) -> None:
    queue.add(["x"])
    for _ in range(3 * MAX_LOST):
        assert queue.release(claim(queue)[0])
    assert queue.claim("a", LEASE_S) is not None


def test_cancelling_ends_what_waits_and_tells_who_draws(queue: Queue, clock: Clock) -> None:
    drawing, waiting = (queue.add(["x"]).entry_id for _ in range(2))
    lease, _ = claim(queue)
    assert queue.cancel(waiting)
    assert queue.cancel(drawing)
    ended = queue.get(waiting)
    assert ended is not None
    assert (ended.status, ended.ended_at, ended.is_cancelling) == ("cancelled", clock.now, False)
    renewed = queue.renew(lease, LEASE_S)
    assert renewed is not None
    assert (renewed.status, renewed.is_cancelling) == ("drawing", True)
    assert queue.finish(lease, "cancelled")
    assert not queue.cancel(drawing)
    assert not queue.cancel(waiting)
    assert not queue.cancel(99)


@pytest.mark.parametrize("end", ["release", "lease runs out"])
def test_a_cancelled_entry_is_not_drawn_again(queue: Queue, clock: Clock, end: str) -> None:
    entry_id = queue.add(["x"]).entry_id
    lease, _ = claim(queue)
    queue.cancel(entry_id)
    if end == "release":
        queue.release(lease)
    clock.now += LEASE_S + 1
    assert queue.claim("b", LEASE_S) is None
    entry = queue.get(entry_id)
    assert entry is not None
    assert (entry.status, entry.error, entry.ended_at is None) == ("cancelled", "", False)


def test_a_moved_entry_stands_where_it_was_put_however_often(queue: Queue) -> None:
    first, second, third = (queue.add(["x"]).entry_id for _ in range(3))
    assert queue.move(third, first)
    assert order(queue) == [third, first, second]
    assert queue.move(third, None)
    assert order(queue) == [first, second, third]
    for _ in range(40):  # a position between two others would run out of digits
        assert queue.move(third, second)
        assert queue.move(second, third)
    assert order(queue) == [first, second, third]
    assert [claim(queue)[1] for _ in range(3)] == [first, second, third]
    assert not queue.move(first, None), "it is being drawn"


def test_nothing_is_moved_before_an_urgent_or_unknown_entry(queue: Queue) -> None:
    entry_id = queue.add(["x"]).entry_id
    urgent = queue.add(["x"], is_urgent=True).entry_id
    assert not queue.move(entry_id, urgent)
    assert not queue.move(entry_id, 99)
    assert not queue.move(99, entry_id)
    assert order(queue) == [urgent, entry_id]


def test_entries_are_listed_as_a_person_reads_them(queue: Queue, clock: Clock) -> None:
    ids = [queue.add(["x"]).entry_id for _ in range(5)]
    for _ in range(2):
        clock.now += 1
        queue.finish(claim(queue)[0], "done")
    claim(queue)
    assert [entry.entry_id for entry in queue.entries()] == [ids[2], *ids[3:], ids[1], ids[0]]
    assert len(queue.entries(limit=2)) == 2


def test_the_version_changes_with_every_change_of_any_connection(
    queue: Queue, tmp_path: Path
) -> None:
    other = Queue(tmp_path / ".serve" / "queue.sqlite")
    seen = [queue.version()]

    def changed() -> bool:
        seen.append(queue.version())
        return seen[-1] != seen[-2] and other.version() == seen[-1]

    entry_id = other.add(["x"]).entry_id
    assert changed()
    lease, _ = claim(other)
    assert changed()
    other.renew(lease, LEASE_S)
    assert not changed(), "a renewal changes nothing that a person sees"
    other.note(lease, num_drawn=1)
    assert changed()
    other.cancel(entry_id)
    assert changed()
    other.finish(lease, "cancelled")
    assert changed()
    assert not changed()


def test_a_full_queue_says_so(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptlab.serve.queue.MAX_WAITING", 5)
    for _ in range(5):
        queue.add(["x"])
    with pytest.raises(QueueFullError, match="cancel some"):
        queue.add(["x"])
    claim(queue)
    queue.add(["x"])


def test_what_is_sent_twice_is_queued_once(queue: Queue, tmp_path: Path) -> None:
    first = queue.add(["x"], request_id="abc")
    other = Queue(tmp_path / ".serve" / "queue.sqlite")
    assert other.add(["x"], request_id="abc").entry_id == first.entry_id
    lease, _ = claim(queue)
    queue.finish(lease, "done")
    assert queue.add(["x"], request_id="abc").status == "done"
    assert queue.add(["x"]).entry_id != queue.add(["x"]).entry_id


def test_racing_threads_claim_each_entry_once(queue: Queue, clock: Clock, tmp_path: Path) -> None:
    ids = [queue.add(["x"]).entry_id for _ in range(60)]
    barrier = threading.Barrier(4)
    claimed: list[int] = []

    def take(mine: Queue) -> None:
        barrier.wait()
        while (found := mine.claim("a", LEASE_S)) is not None:
            claimed.append(found[1].entry_id)

    queues = [queue, queue, *(Queue(tmp_path / ".serve" / "queue.sqlite", clock) for _ in range(2))]
    threads = [threading.Thread(target=take, args=(mine,)) for mine in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == ids


WORKER = """
import sys, time
from promptlab.serve.queue import Queue
queue = Queue(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while (found := queue.claim("a", 60)) is not None:
    print(found[1].entry_id, flush=True)
    queue.finish(found[0], "done")
    queue.add(["added"], source="api")
    if sys.argv[2] == "stay" and found[1].entry_id > 20:
        while True:
            queue.add(["added"])
            queue.finish(queue.claim("a", 60)[0], "done")
    if found[1].entry_id > 40:
        break
"""


def start_worker(path: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_racing_processes_on_a_new_file_claim_each_entry_once(tmp_path: Path) -> None:
    path = tmp_path / ".serve" / "queue.sqlite"
    workers = [start_worker(path, "end") for _ in range(3)]  # they race to make the table, too
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    queue = Queue(path)
    for _ in range(40):
        queue.add(["x"])
    outputs = [worker.communicate("go\n", timeout=60)[0] for worker in workers]
    claimed = sorted(int(line) for output in outputs for line in output.split())
    assert len(claimed) == len(set(claimed))
    assert set(claimed) >= set(range(1, 41))
    assert [worker.returncode for worker in workers] == [0, 0, 0]


def test_a_killed_writer_leaves_a_whole_queue(tmp_path: Path) -> None:
    path = tmp_path / ".serve" / "queue.sqlite"
    queue = Queue(path)
    ids = {queue.add(["x"]).entry_id for _ in range(25)}
    worker = start_worker(path, "stay")
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    while int((worker.stdout.readline().split() or ["0"])[0].replace("ready", "0")) <= 20:
        pass
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    kept = {entry.entry_id for entry in queue.entries(100_000)}
    assert kept >= ids, "nothing is lost"
    queue.add(["more"])
    while (found := queue.claim("b", LEASE_S)) is not None:
        queue.finish(found[0], "done")
    assert {entry.status for entry in queue.entries(100_000)} <= {"done", "drawing"}


def test_only_the_owner_can_enter_the_folder(queue: Queue, tmp_path: Path) -> None:
    assert (tmp_path / ".serve").stat().st_mode & 0o777 == 0o700
