"""One process writes a run folder at a time.

Takes the path of a lock file, holds it until released or until the process is gone. Locally the
kernel's own file lock decides, so that no dead process ever blocks, whether it was killed or the
machine restarted; the text in the file only names the holder in messages. An object store has no
such lock: there it is a lease, renewed while the process lives and free a minute after it died. A
writer that could not renew it in time, because its machine slept, looks before it writes again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from promptlab.errors import RunLockedError
from promptlab.store.storage import RemoteStorage

log = logging.getLogger(__name__)

CheckLock = Callable[[], None]  # raises RunLockedError if the lock is another's by now

LEASE_S = 60.0  # a lease that was not renewed for this long is free
RENEWAL_S = 15.0
_MAX_NAME_BYTES = 4096  # of the text that names the holder
_LOCKED_BYTE = 2**30
_POLL_S = 0.2  # between two looks at a lock that another holds
_SETTLING_S = 0.5  # when two take a stale lease at once, the last to write wins and both reread


@contextlib.contextmanager
def hold_lock(path: str) -> Iterator[CheckLock]:
    """Hold the lock at `path`; raises RunLockedError if another living process does.

    Gives a function to call before each write: a lease may have run out since.
    """
    with _hold_lease(path) if "://" in path else _hold_file_lock(path) as check:
        yield check


@contextlib.contextmanager
def wait_for_lock(path: str, patience_s: float) -> Iterator[None]:
    """Hold the lock at `path` as soon as it is free; raises RunLockedError after `patience_s`."""
    give_up_at = time.monotonic() + patience_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold_lock(path))
                break
            except RunLockedError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(_POLL_S)
        yield


def _describe_self() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def _refuse(path: str, text: bytes) -> RunLockedError:
    folder = path.rsplit("/", 1)[0]
    try:
        holder = json.loads(text)
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"  # it holds the lock and has not written its name yet
    return RunLockedError(
        f"The run folder {folder} is being written by {who}. Only one process may write a run: "
        "wait for it or stop it, then run the same command again; it resumes."
    )


@contextlib.contextmanager
def _hold_file_lock(path: str) -> Iterator[CheckLock]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        is_ours = _try_lock(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if not is_ours:
            raise _refuse(path, os.read(descriptor, _MAX_NAME_BYTES))
        # The file stays when the lock goes: deleting it would let two processes lock two files.
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_describe_self()).encode())
        yield lambda: None  # the kernel takes no lock away
    finally:
        os.close(descriptor)  # frees the lock


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        # Windows locks bytes, and nobody else can read them: one far behind the holder's name.
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _hold_lease(url: str) -> Iterator[CheckLock]:
    lease = _Lease(url)
    lease.take()
    stop = threading.Event()
    renewal = threading.Thread(target=lease.renew_until, args=(stop,), daemon=True)
    renewal.start()
    try:
        yield lease.check
    finally:
        stop.set()
        renewal.join()
        lease.release()


class _Lease:
    """An object that says who writes, and until when that holds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.filesystem = RemoteStorage(url).filesystem
        self.owner = uuid.uuid4().hex
        self.expires_at = 0.0  # seconds since 1970: this clock counts sleep, too
        self._lock = threading.Lock()  # two threads renew: the lease's own, and that of a writer

    def take(self) -> None:
        held = self._read()
        if held is None and self._create():
            return
        held = self._read()
        if held is not None and not _is_stale(held):
            raise _refuse(self.url, json.dumps(held).encode())
        self._write()
        time.sleep(_SETTLING_S)
        held = self._read()
        if held is None or held.get("owner") != self.owner:
            raise _refuse(self.url, json.dumps(held).encode())

    def renew_until(self, stop: threading.Event) -> None:
        while not stop.wait(RENEWAL_S):
            try:
                self.renew()
            except RunLockedError:
                return  # the writer finds out before it writes again
            except Exception as error:  # a store that does not answer for a moment ends no sweep
                log.warning("Could not renew the lock %s: %s", self.url, error)

    def check(self) -> None:
        """Raise RunLockedError if the lease ran out and another process has taken it since."""
        if time.time() > self.expires_at:
            self.renew()

    def renew(self) -> None:
        """Write the lease again if it is still ours; raises RunLockedError if it is not."""
        with self._lock:
            held = self._read()
            if held is None or held.get("owner") != self.owner:
                self.expires_at = 0.0
                raise RunLockedError(
                    f"The lock of the run folder {self.url.rsplit('/', 1)[0]} ran out while this "
                    f"process was suspended for more than {LEASE_S:.0f} s, and another process has "
                    "written the folder since. What is not stored yet is dropped: run the same "
                    "command again when the other one is done; it resumes."
                )
            self._write()

    def release(self) -> None:
        held = self._read()
        if held is not None and held.get("owner") == self.owner:
            self.filesystem.rm_file(self.url)

    def _create(self) -> bool:
        """Write the lease if there is none, in one step where the store can do that."""
        try:
            self._write(mode="create")
        except FileExistsError:
            return False
        return True

    def _write(self, **options: str) -> None:
        expires_at = time.time() + LEASE_S
        lease = {**_describe_self(), "owner": self.owner, "expires_at": expires_at}
        self.filesystem.pipe_file(self.url, json.dumps(lease).encode(), **options)
        self.expires_at = expires_at  # a renewal that could not be written is none

    def _read(self) -> dict[str, Any] | None:
        self.filesystem.invalidate_cache()
        try:
            return json.loads(self.filesystem.cat_file(self.url))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}


def _is_stale(held: dict[str, Any]) -> bool:
    if float(held.get("expires_at", 0)) < time.time():
        return True
    return held.get("host") == socket.gethostname() and not _is_alive(int(held.get("pid", 0)))


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # there, asking would send the process Ctrl-C; its lease runs out in a minute
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
