"""The sweep's side of tracking: start a process that follows the run folder, tell it, wait.

Takes a run folder and options; a second process reads each part once it is on disk and logs it
to MLflow (follower.py). So importing MLflow, encoding thumbnails and waiting for a server cost the
drawing process nothing, and nothing that goes wrong with tracking can reach it: a problem is one
warning, and `promptlab sync` makes up for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO

from promptlab.machine import own_session
from promptlab.paths import RunPaths
from promptlab.store.storage import open_storage
from promptlab.tracking.database import is_deleted
from promptlab.tracking.location import (
    bind_run,
    database_of,
    experiment_of,
    read_record,
    resolve_tracking_uri,
)
from promptlab.tracking.marks import is_tracked
from promptlab.tracking.messages import News, Order
from promptlab.tracking.options import TrackingOptions

log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # wait no longer at the end of a sweep without any sign of progress
REPORT_S = 10.0  # between two lines on how much is left
LAST_WORDS_S = 2.0  # a follower that closed its pipe ends within this time
_POLL_S = 0.1


class Tracking:
    """A follower of one run folder; made by `open_tracking`."""

    def __init__(self, paths: RunPaths, options: TrackingOptions) -> None:
        self._paths = paths
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None  # what the follower prints, for its last words
        self._news: queue.Queue[News | None] = queue.Queue()  # None: the follower has ended
        self._is_warned = False
        self._has_rows = False  # that MLflow may lack

    def begin(self) -> None:
        """Start the follower, whose import of MLflow takes seconds, before the first part exists.

        While a model is loaded there are cores to spare. Never raises.
        """
        self._order(None)

    def notify(self, _stored: object = None) -> None:
        """Tell the follower that images are on disk; never blocks on MLflow, never raises."""
        self._has_rows = True
        self._order(Order("part"))

    def _order(self, order: Order | None) -> None:
        if not self._options.enabled:
            return
        try:
            if self._process is None:
                self._process = self._start()
            if order is not None:
                self._send(order)
        except OSError as error:
            self._warn(f"Tracking has stopped ({self._last_words() or error}). {self._advice()}")

    def _start(self) -> subprocess.Popen[bytes]:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        process = subprocess.Popen(
            # -P: modules of the working directory are the user's and have nothing to do with this
            [sys.executable, "-P", "-m", "promptlab.tracking.follower"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            **own_session(),  # Ctrl-C in a terminal ends the drawing, not the tracking
        )
        assert process.stdout is not None
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()
        self._process = process
        root = self._paths.root
        # Options go through the pipe: a URI may hold a password, and anyone can list arguments.
        options = dataclasses.asdict(self._options)
        options["uri"] = resolve_tracking_uri(self._options.uri)
        options["experiment"] = experiment_of(self._options)
        bind_run(self._paths, options["uri"], options["experiment"])
        self._send(Order("follow", root if "://" in root else os.path.abspath(root), options))
        return process

    def _send(self, order: Order) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.closed:
            process.stdin.write(order.to_line())

    def _listen(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            with contextlib.suppress(ValueError):
                news = News.from_line(line)
                if news.warning is not None:
                    self._warn(news.warning)
                self._news.put(news)
        self._news.put(None)

    def _last_words(self) -> str:
        """Return the last line that the follower printed before it died; "" if it printed none."""
        if self._process is None or self._stderr is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_S)
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""

    def _warn(self, text: str) -> None:
        if not self._is_warned:
            self._is_warned = True
            log.warning("%s", text)

    def _advice(self) -> str:
        return f"Bring MLflow up to date later with: promptlab sync {self._paths.root}"

    def close(self) -> None:
        """Let the follower finish; wait for it as long as it makes progress."""
        if not self._has_rows and self._options.enabled and self._is_behind():
            self.notify()
        process = self._process
        if process is None:
            self._report_deleted()
            return
        try:
            if not self._has_rows:
                return
            with contextlib.suppress(OSError):
                self._send(Order("finish"))
            if not self._wait():
                self._warn(f"MLflow is slow; tracking was left unfinished. {self._advice()}")
        except KeyboardInterrupt:
            self._warn(f"Interrupted while MLflow was being written. {self._advice()}")
            raise
        finally:
            if process.poll() is None:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, self._stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _report_deleted(self) -> None:
        """Warn if MLflow's local database shows nothing of a run that it once held."""
        stored = read_record(self._paths)
        if not self._options.enabled or stored is None or stored.experiment_id is None:
            return
        database = database_of(resolve_tracking_uri(self._options.uri))
        if database is not None and is_deleted(database, stored.experiment_id):
            self._warn(
                "The experiment of this sweep was deleted in MLflow and stays deleted. To log it "
                f"again: promptlab sync --restore {self._paths.root}"
            )

    def _is_behind(self) -> bool:
        """Tell whether an earlier session left rows that MLflow lacks."""
        try:
            storage = open_storage(self._paths.root)
            return bool(storage.list_sizes(self._paths.images_parquet)) and not is_tracked(
                self._paths, self._options
            )
        except OSError:
            return False

    def _wait(self) -> bool:
        """Return whether the follower finished."""
        is_finished = False
        told_at = heard_at = time.monotonic()
        while True:
            try:
                news = self._news.get(timeout=_POLL_S)
            except queue.Empty:
                if time.monotonic() - heard_at > PATIENCE_S:
                    return False
                continue
            if news is None:
                if not is_finished:
                    words = self._last_words()
                    said = f" ({words})" if words else ""
                    self._warn(f"Tracking has stopped{said}. {self._advice()}")
                return True
            heard_at = time.monotonic()
            is_finished = is_finished or news.is_finished
            if news.num_left and heard_at - told_at > REPORT_S:
                told_at = heard_at
                log.info("Writing to MLflow: %d images left.", news.num_left)


@contextlib.contextmanager
def open_tracking(
    paths: RunPaths,
    options: TrackingOptions = TrackingOptions(),  # noqa: B008  frozen
) -> Iterator[Tracking]:
    """Follow a run folder while it is written; on leaving, wait while MLflow makes progress.

    The follower starts with `begin`, or with the first part; a sweep with nothing to do
    starts none unless an earlier session left MLflow behind.
    """
    tracking = Tracking(paths, options)
    try:
        yield tracking
    finally:
        tracking.close()
