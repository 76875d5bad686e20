"""The process that follows a sweep and logs it to MLflow.

Reads words on stdin: "part" when there is a new part, "finish" when the sweep is over; the end of
stdin without "finish" means that the sweep is gone, and so it goes too. Writes one JSON object a
line on stdout. Runs with low priority: drawing comes first.

    python -m promptlab.tracking.follower '{"run": "runs/…", "options": {…}}'
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.paths import RunPaths
from promptlab.store.reader import read_run
from promptlab.tracking.client import BulkClient
from promptlab.tracking.explain import describe_failure, describe_lost
from promptlab.tracking.marks import hold_tracking_lock
from promptlab.tracking.options import TrackingOptions
from promptlab.tracking.syncing import Syncer

NICENESS = 19  # drawing waits for its slowest core: niceness 10 took a tenth of one
SHORTEST_PAUSE_S = 3.0  # between two writes: each costs its share of calls, whatever it carries
RETRY_S = (5.0, 60.0)  # after a failure: first wait, longest wait

Message = dict[str, Any]


class Follower:
    """Follows one run folder until its sweep ends."""

    def __init__(self, paths: RunPaths, options: TrackingOptions) -> None:
        self._paths = paths
        self._options = options
        self._words: queue.Queue[str] = queue.Queue()
        self._syncer: Syncer | None = None
        self._is_behind = False
        self._next_at = 0.0  # not to be tried before
        self._wait_s = RETRY_S[0]
        self._written_at = time.monotonic()

    def run(self) -> int:
        """Log what comes until told to finish; return the exit code."""
        threading.Thread(target=self._listen, daemon=True).start()
        with hold_tracking_lock(self._paths):
            self._get_ready()
            while True:
                word = self._next_word()
                if word == "gone":
                    return 0
                if word == "finish":
                    return 0 if self._try(is_final=True) else 1
                self._is_behind = True
                if time.monotonic() >= self._next_at:
                    self._try(is_final=False)

    def _get_ready(self) -> None:
        """Import MLflow and look into it before there is anything to log."""
        with contextlib.suppress(Exception):  # the first write will meet it again, and say so
            self._syncer = self._open_syncer()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "finish":  # nothing is drawn any more, and MLflow's import may be
                set_session_niceness(0)  # what the end of the sweep waits for
            self._words.put(line.strip())
        self._words.put("gone")

    def _next_word(self) -> str:
        """Return the latest word, waiting for one; "part" when it is time for what is left."""
        timeout = max(0.0, self._next_at - time.monotonic()) if self._is_behind else None
        try:
            words = [self._words.get(timeout=timeout)]
        except queue.Empty:
            return "part"
        while not self._words.empty():
            words.append(self._words.get())
        return "finish" if "finish" in words else words[-1]

    def _try(self, *, is_final: bool) -> bool:
        """Log what is there; on failure say so and forget what was known of MLflow."""
        try:
            if self._syncer is None:
                self._syncer = self._open_syncer()
            syncer = self._syncer
            # While there is drawing, its threads have the other cores.
            syncer.client.num_threads = BulkClient.num_threads if is_final else 1
            num_written = syncer.sync_images(lambda count: tell({"logged": count}))
            if is_final:
                syncer.finish()
                if syncer.num_lost:
                    tell({"warning": describe_lost(self._paths, syncer.num_lost)})
                tell({"finished": True})
        except Exception as error:
            tell({"warning": _explain(self._options, self._paths, error), "finished": True})
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

        Its modules are objects by the hundred thousand that stay: looking for garbage among them
        takes a fifth of the import, and again and again afterwards.
        """
        gc.disable()
        try:
            return Syncer(read_run(self._paths), self._options)
        finally:
            gc.freeze()
            gc.enable()


def pause(num_written: int, seconds: float, num_missing: int, longest_s: float) -> float:
    """Return how long to wait before writing again, in seconds, at most `longest_s`.

    So many images came in so many seconds, and so many are still to come. Before the end the pauses
    get shorter: what is not written when the last image comes is what the sweep waits for.
    """
    seconds_left = num_missing * seconds / max(1, num_written)
    return min(longest_s, max(SHORTEST_PAUSE_S, seconds_left / 2))


def _explain(options: TrackingOptions, paths: RunPaths, error: Exception) -> str:
    if isinstance(error, PromptlabError):
        return f"{error} Then: promptlab sync {paths.root}"
    return describe_failure(options, paths, error)


def tell(message: Message) -> None:
    """Send one message to the sweep, if it is still there."""
    with contextlib.suppress(OSError):
        os.write(_OUTPUT, (json.dumps(message) + "\n").encode())


def set_session_niceness(niceness: int) -> None:
    """Say what this session's processes get where Linux shares the processor between sessions.

    There (autogroups) the niceness of a process counts among those of its own session alone. Unlike
    that of a process it may be taken back, which the end of a sweep needs: beside busy programs,
    a process of the lowest priority would not come to its end.
    """
    with contextlib.suppress(OSError):  # no Linux, no autogroups, or a sandbox
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


_OUTPUT = 1


def main() -> int:
    """Follow the run folder that the one argument names."""
    global _OUTPUT
    _OUTPUT = os.dup(1)  # what libraries print must not mix with messages
    os.dup2(2, 1)
    os.nice(NICENESS)
    set_session_niceness(NICENESS)
    logging.disable(logging.WARNING)
    arguments = json.loads(sys.argv[1])
    follower = Follower(RunPaths(arguments["run"]), TrackingOptions(**arguments["options"]))
    return follower.run()


if __name__ == "__main__":
    # All is written and told. Taking MLflow's modules down would take a second, which a sweep that
    # has ended would wait for.
    os._exit(main())
