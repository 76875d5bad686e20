"""The process that follows a sweep and logs it to MLflow.

Reads orders on stdin and writes news on stdout (messages.py). The end of stdin without "finish"
means that the sweep has died, and then the follower ends too. Runs with low priority: drawing
comes first.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import sys
import threading
import time
from pathlib import Path

from promptlab.errors import PromptlabError, RunLockedError
from promptlab.paths import RunPaths
from promptlab.store.reader import read_run
from promptlab.tracking.client import BulkClient
from promptlab.tracking.explain import describe_deleted, describe_failure, describe_lost
from promptlab.tracking.marks import hold_tracking_lock
from promptlab.tracking.messages import News, Order
from promptlab.tracking.options import TrackingOptions
from promptlab.tracking.syncing import Syncer

NICENESS = 19  # drawing waits for its slowest core: niceness 10 took a tenth of one
SHORTEST_PAUSE_S = 3.0  # between two writes: each costs its share of calls, whatever it carries
RETRY_S = (5.0, 60.0)  # after a failure: first wait, longest wait


class Follower:
    """Follows one run folder until its sweep ends."""

    def __init__(self, paths: RunPaths, options: TrackingOptions) -> None:
        self._paths = paths
        self._options = options
        self._orders: queue.Queue[str] = queue.Queue()
        self._syncer: Syncer | None = None
        self._is_behind = False
        self._next_at = 0.0  # not to be tried before
        self._wait_s = RETRY_S[0]
        self._written_at = time.monotonic()

    def run(self) -> int:
        """Log images until the sweep ends; return the exit code."""
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            with hold_tracking_lock(self._paths):
                return self._follow()
        except RunLockedError as error:  # another process logs this run to MLflow
            tell(News(warning=_explain(self._options, self._paths, error), is_finished=True))
            return 1

    def _follow(self) -> int:
        self._get_ready()
        while True:
            order = self._next_order()
            if order == "gone":
                return 0
            if order == "finish":
                return 0 if self._try(is_final=True) else 1
            self._is_behind = True
            if time.monotonic() >= self._next_at:
                self._try(is_final=False)

    def _get_ready(self) -> None:
        """Import MLflow and open its store before there is anything to log; report what fails."""
        try:
            self._syncer = self._open_syncer()
        except Exception as error:  # the first write tries again
            tell(News(warning=_explain(self._options, self._paths, error)))

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            order = Order.from_line(line)
            if order.kind == "finish":
                set_session_niceness(0)  # drawing is over, and the sweep waits for this process
            self._orders.put(order.kind)
        self._orders.put("gone")

    def _next_order(self) -> str:
        """Return the latest order, waiting for one; "part" when it is time to try again."""
        timeout = max(0.0, self._next_at - time.monotonic()) if self._is_behind else None
        try:
            orders = [self._orders.get(timeout=timeout)]
        except queue.Empty:
            return "part"
        while not self._orders.empty():
            orders.append(self._orders.get())
        return "finish" if "finish" in orders else orders[-1]

    def _try(self, *, is_final: bool) -> bool:
        """Log what MLflow lacks; on failure report it and forget what was known of MLflow."""
        try:
            if self._syncer is None:
                self._syncer = self._open_syncer()
            syncer = self._syncer
            # While there is drawing, its threads have the other cores.
            syncer.client.num_threads = BulkClient.num_threads if is_final else 1
            num_written = syncer.sync_images(lambda _: tell(News(num_left=syncer.num_left)))
            if is_final:
                syncer.finish()
                if syncer.num_deleted:
                    tell(News(warning=describe_deleted(self._paths, syncer.num_deleted)))
                if syncer.num_lost:
                    tell(News(warning=describe_lost(self._paths, syncer.num_lost)))
                tell(News(is_finished=True))
        except Exception as error:
            tell(
                News(
                    warning=_explain(self._options, self._paths, error),
                    is_finished=is_final,
                )
            )
            self._syncer = None
            self._next_at = time.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, RETRY_S[1])
            return False
        self._is_behind, self._wait_s = False, RETRY_S[0]
        now = time.monotonic()
        self._next_at = now + pause(
            num_written, now - self._written_at, syncer.num_missing, self._options.flush_s
        )
        self._written_at = now
        return True

    def _open_syncer(self) -> Syncer:
        """Import MLflow and ask it what it holds.

        MLflow's modules are hundreds of thousands of objects that stay for good. Garbage collection
        over them takes a fifth of the import's time, and would take it again later.
        """
        gc.disable()
        try:
            return Syncer(read_run(self._paths), self._options)
        finally:
            gc.freeze()
            gc.enable()


def pause(num_written: int, seconds: float, num_missing: int, longest_s: float) -> float:
    """Return how long to wait before writing again, in seconds, at most `longest_s`.

    `num_written` images came in `seconds`, `num_missing` are still to come. Before the end the
    pauses get shorter, because the sweep waits for the images that are not written when the last
    one is drawn.
    """
    seconds_left = num_missing * seconds / max(1, num_written)
    return min(longest_s, max(SHORTEST_PAUSE_S, seconds_left / 2))


def _explain(options: TrackingOptions, paths: RunPaths, error: Exception) -> str:
    if isinstance(error, PromptlabError):
        return f"{error} Then: promptlab sync {paths.root}"
    return describe_failure(options, paths, error)


def tell(news: News) -> None:
    """Send news to the sweep, if it still exists."""
    with contextlib.suppress(OSError):
        os.write(_OUTPUT, news.to_line())


def set_session_niceness(niceness: int) -> None:
    """Set the CPU priority of this process's session (Linux autogroup).

    With autogroups a process's own niceness counts only among the processes of its session. Unlike
    that, a session's priority may be raised again, which the end of a sweep needs: beside busy
    programs, a process of the lowest priority would hardly ever run.
    """
    with contextlib.suppress(OSError):  # no Linux, no autogroups, or a sandbox
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


_OUTPUT = 1


def main() -> int:
    """Follow the run folder that the first order names."""
    global _OUTPUT
    _OUTPUT = os.dup(1)  # what libraries print must not mix with messages
    os.dup2(2, 1)
    os.nice(NICENESS)
    set_session_niceness(NICENESS)
    logging.disable(logging.WARNING)
    order = Order.from_line(sys.stdin.buffer.readline())
    follower = Follower(RunPaths(order.run), TrackingOptions(**order.options))
    return follower.run()


if __name__ == "__main__":
    # Everything is written and reported. Unloading MLflow's modules would take a second, and the
    # sweep would wait for it.
    os._exit(main())
