"""What is written is whole, and on the disk before anybody is told so."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from promptlab import atomic
from promptlab.errors import RunLockedError
from promptlab.paths import RunPaths
from promptlab.store import StoreOptions, lock, open_store, read_run
from promptlab.store.storage import LocalStorage, open_storage
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan, drawn

NO_PID = 2**22 + 1  # no process of this machine has this number


@pytest.fixture
def steps(monkeypatch) -> list[tuple[str, int]]:
    """What the process asks of the disk: ("sync" or "rename", inode), in order."""
    recorded: list[tuple[str, int]] = []
    sync, replace = os.fsync, os.replace

    def record_sync(descriptor):
        recorded.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def record_rename(old, new):
        recorded.append(("rename", os.stat(old).st_ino))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_rename)
    return recorded


def inode(path) -> int:
    return os.stat(path).st_ino


def test_every_file_is_on_the_disk_before_it_gets_its_name_and_its_folder_after(tmp_path, steps):
    LocalStorage().write_files({str(tmp_path / name): b"bytes" for name in ("a.png", "b.png")})
    a, b = inode(tmp_path / "a.png"), inode(tmp_path / "b.png")
    assert steps == [
        *(("sync", a), ("rename", a), ("sync", b), ("rename", b)),
        ("sync", inode(tmp_path)),
    ]


def test_a_part_is_on_the_disk_before_it_gets_its_name_and_its_folder_after(tmp_path, steps):
    path = tmp_path / "part-000000.parquet"
    with LocalStorage().publish(str(path)) as aside:
        with open(aside, "wb") as file:
            file.write(b"rows")
        assert not path.exists()
    assert path.read_bytes() == b"rows"
    assert steps == [
        *(("sync", inode(path)), ("rename", inode(path))),
        ("sync", inode(tmp_path)),
    ]


def test_a_new_name_is_on_the_disk_when_it_is_given(tmp_path, steps):
    (tmp_path / "old").write_bytes(b"x")
    LocalStorage().rename(str(tmp_path / "old"), str(tmp_path / "new"))
    assert steps == [("rename", inode(tmp_path / "new")), ("sync", inode(tmp_path))]


def test_two_processes_that_write_one_file_at_once_do_not_write_into_each_others(
    tmp_path, monkeypatch
):
    path = tmp_path / "index.html"
    with atomic.replacing(str(path), is_durable=False) as first:
        Path(first).write_text("the first page")
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: NO_PID)
            with atomic.replacing(str(path), is_durable=False) as second:
                Path(second).write_text("the second")
            assert path.read_text() == "the second"
    assert path.read_text() == "the first page"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_working_folder_is_written_like_any_other(tmp_path, monkeypatch, steps):
    monkeypatch.chdir(tmp_path)
    LocalStorage().write_files({"a.png": b"bytes"})
    assert (tmp_path / "a.png").read_bytes() == b"bytes"
    assert steps[-1] == ("sync", inode(tmp_path))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"old")

    def fail():
        with LocalStorage().publish(str(path)) as aside:
            with open(aside, "wb") as file:
                file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("sweep.yaml", b"old")
    ]


@pytest.mark.parametrize("is_local", [True, False])
def test_a_file_that_another_process_deleted_keeps_no_other_from_being_deleted(tmp_path, is_local):
    root = str(tmp_path) if is_local else f"memory://{time.time_ns()}"
    storage = open_storage(root)
    storage.write_files({f"{root}/{name}": b"x" for name in "abc"})
    storage.delete_files(f"{root}/{name}" for name in ("a", "gone", "b"))
    assert list(storage.list_sizes(root)) == ["c"]


def test_only_what_interrupted_writes_left_is_removed(tmp_path):
    for name in (".a.png.tmp", "b.png", ".hidden", "c.tmp"):
        (tmp_path / name).write_bytes(b"x")
    LocalStorage().remove_leftovers(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [".hidden", "b.png", "c.tmp"]


def test_a_disk_that_takes_only_a_part_of_a_write_gets_the_rest(tmp_path, monkeypatch):
    class Small(io.FileIO):
        def write(self, data):
            return super().write(bytes(data)[:3])

    monkeypatch.setattr("builtins.open", lambda path, mode, buffering: Small(path, mode))
    atomic.write_files({str(tmp_path / "a.png"): b"ten bytes!"}, is_durable=True)
    monkeypatch.undo()
    assert (tmp_path / "a.png").read_bytes() == b"ten bytes!"


def test_a_file_that_need_not_be_durable_waits_for_no_disk(tmp_path, steps):
    with atomic.replacing(str(tmp_path / "index.html"), is_durable=False) as aside:
        Path(aside).write_text("page")
    assert steps == [("rename", inode(tmp_path / "index.html"))]


@pytest.fixture
def lease(monkeypatch) -> str:
    """Return the URL of a lock on an object store, where time runs thirty times as fast."""
    for name in ("LEASE_S", "RENEWAL_S", "_SETTLING_S"):
        monkeypatch.setattr(lock, name, getattr(lock, name) / 30)
    return f"memory://{time.time_ns()}/.lock"


def write_lease(url: str, **changes: object) -> None:
    """Write the lease that another writer took just now."""
    held = {"pid": 1, "host": "elsewhere", "since": "?", "owner": "another"}
    held |= {"expires_at": time.time() + lock.LEASE_S, **changes}
    fsspec.filesystem("memory").pipe_file(url, json.dumps(held).encode())


def refuse(*_: object, **__: object) -> None:
    raise OSError("the store does not answer")


def let_leases_run_out(monkeypatch) -> None:
    """Set the clock to after the end of every lease."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 1.1 * lock.LEASE_S)


def test_a_lease_outlives_its_time_while_its_process_does(lease):
    with lock.hold_lock(lease):
        time.sleep(1.5 * lock.LEASE_S)
        with pytest.raises(RunLockedError), lock.hold_lock(lease):
            pass
    with lock.hold_lock(lease):
        pass


def test_a_lease_is_renewed_often_enough_to_lose_two_renewals():
    assert 3 * lock.RENEWAL_S < lock.LEASE_S


@pytest.mark.parametrize("pid", [1, NO_PID])
def test_a_lease_of_another_machine_is_free_only_when_it_has_run_out(lease, monkeypatch, pid):
    write_lease(lease, pid=pid)
    with pytest.raises(RunLockedError, match="on elsewhere"), lock.hold_lock(lease):
        pass
    let_leases_run_out(monkeypatch)
    with lock.hold_lock(lease):
        pass


def test_a_lease_that_another_took_meanwhile_is_not_released(lease):
    with lock.hold_lock(lease):
        write_lease(lease)
    assert fsspec.filesystem("memory").exists(lease)


def test_a_writer_that_slept_past_its_lease_stops(lease, monkeypatch):
    paths = RunPaths(lease.removesuffix("/.lock"))
    monkeypatch.setattr(lock, "RENEWAL_S", 60.0)  # asleep, it renews nothing

    def sleep_while_another_writes():
        with open_store(paths, make_plan()) as store:
            first, *others = store.pending("painter")
            store.add(drawn(first))
            store.flush()
            let_leases_run_out(monkeypatch)
            draw_plan(paths, make_plan())
            for request in others:
                store.add(drawn(request))
            store.flush()

    with pytest.raises(RunLockedError, match=r"ran out.*run the same command again"):
        sleep_while_another_writes()
    names = set(open_storage(paths.root).list_sizes(paths.images_parquet))
    assert read_run(paths).num_rows == 8
    assert names == {"part-000002.parquet"}, "the sleeper has written nothing after waking"
    with lock.hold_lock(lease):
        pass


def test_a_lease_that_ran_out_and_that_nobody_took_is_renewed(lease, monkeypatch):
    monkeypatch.setattr(lock, "RENEWAL_S", 60.0)
    with lock.hold_lock(lease) as check:
        let_leases_run_out(monkeypatch)
        check()
        with pytest.raises(RunLockedError), lock.hold_lock(lease):
            pass


def test_a_lease_of_a_living_process_of_another_user_is_not_free(lease, monkeypatch):
    def refuse_to_tell(pid: int, signal: int) -> None:
        raise PermissionError(1, "not your process")

    monkeypatch.setattr(os, "kill", refuse_to_tell)
    write_lease(lease, host=socket.gethostname())
    with pytest.raises(RunLockedError), lock.hold_lock(lease):
        pass


def test_a_renewal_that_was_not_written_is_none(lease, monkeypatch):
    monkeypatch.setattr(lock, "RENEWAL_S", 60.0)
    with lock.hold_lock(lease) as check:
        let_leases_run_out(monkeypatch)
        with monkeypatch.context() as broken:
            broken.setattr(MemoryFileSystem, "pipe_file", refuse)
            with pytest.raises(OSError, match="does not answer"):
                check()
        write_lease(lease)  # another writer found that the lease had run out
        with pytest.raises(RunLockedError):
            check()


def test_a_lease_is_renewed_again_once_a_store_answers_again(lease, monkeypatch):
    monkeypatch.setattr(lock, "RENEWAL_S", 0.01)
    refused, renewed = threading.Event(), threading.Event()
    pipe_file = MemoryFileSystem.pipe_file

    def refuse_once(self: object, *args: object, **options: object) -> None:
        if not refused.is_set():
            refused.set()
            refuse()
        pipe_file(self, *args, **options)
        renewed.set()

    with lock.hold_lock(lease):
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse_once)
        assert renewed.wait(10)


def test_a_lease_is_given_back_after_its_last_renewal(lease, monkeypatch):
    monkeypatch.setattr(lock, "RENEWAL_S", 0.01)
    begun, ended = threading.Event(), threading.Event()
    pipe_file = MemoryFileSystem.pipe_file

    def write_slowly(self: object, *args: object, **options: object) -> None:
        begun.set()
        time.sleep(0.2)
        pipe_file(self, *args, **options)
        ended.set()

    with lock.hold_lock(lease):
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", write_slowly)
        assert begun.wait(10)
    assert ended.wait(10)
    assert not fsspec.filesystem("memory").exists(lease)


def test_a_writer_that_slept_past_its_lease_merges_no_parts_of_another(lease, monkeypatch):
    paths = RunPaths(lease.removesuffix("/.lock"))
    monkeypatch.setattr(lock, "RENEWAL_S", 60.0)

    def sleep_before_leaving():
        with open_store(paths, make_plan(), StoreOptions(part_rows=1)) as store:
            for request in store.pending("painter"):
                store.add(drawn(request))
            store.flush()
            let_leases_run_out(monkeypatch)
            write_lease(lease)

    with pytest.raises(RunLockedError, match="ran out"):
        sleep_before_leaving()
    assert len(open_storage(paths.root).list_sizes(paths.images_parquet)) == 8


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_writing_for_an_object_store_leaves_nothing_on_this_machine(
    tmp_path, monkeypatch, is_interrupted
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    url = f"memory://{time.time_ns()}/part-000000.parquet"
    storage = open_storage(url)
    with contextlib.suppress(KeyboardInterrupt), storage.publish(url) as aside:
        Path(aside).write_bytes(b"rows")
        if is_interrupted:
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert storage.list_sizes(url.rpartition("/")[0]) == (
        {} if is_interrupted else {"part-000000.parquet": 4}
    )
