"""The sweep's side of tracking: start a process that follows the run folder, tell it, wait.

Takes a run folder and options; a second process reads each part once it is on disk and logs it
to MLflow (follower.py). So importing MLflow, encoding thumbnails and waiting for a server cost the
drawing process nothing, and nothing that goes wrong with tracking can reach it: a problem is one
warning, and `promptlab sync` makes up for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from promptlab.paths import RunPaths
from promptlab.store.storage import open_storage
from promptlab.tracking.marks import is_tracked
from promptlab.tracking.options import TrackingOptions, resolve_tracking_uri

log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # wait no longer at the end of a sweep without any sign of progress
_POLL_S = 0.1


class Tracking:
    """A follower of one run folder; made by `open_tracking`."""

    def __init__(self, paths: RunPaths, options: TrackingOptions) -> None:
        self._paths = paths
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._is_warned = False
        self._has_news = False  # for MLflow

    def begin(self) -> None:
        """Start the follower, whose import of MLflow takes seconds, before the first part is there.

        While a model is loaded there are cores to spare. Never raises.
        """
        self._tell_follower(None)

    def notify(self, _stored: object = None) -> None:
        """Say that images are on disk; never blocks on MLflow, never raises."""
        self._has_news = True
        self._tell_follower("part")

    def _tell_follower(self, word: str | None) -> None:
        if not self._options.enabled:
            return
        try:
            if self._process is None:
                self._process = self._start()
            if word is not None:
                self._tell(word)
        except OSError as error:
            self._warn(f"Tracking has stopped ({error}). {self._advice()}")

    def _start(self) -> subprocess.Popen[bytes]:
        options = dataclasses.asdict(self._options)
        options["uri"] = resolve_tracking_uri(self._options.uri)
        arguments = json.dumps({"run": os.path.abspath(self._paths.root), "options": options})
        if "://" in self._paths.root:
            arguments = json.dumps({"run": self._paths.root, "options": options})
        process = subprocess.Popen(
            [sys.executable, "-m", "promptlab.tracking.follower", arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal ends the drawing, not the tracking
        )
        assert process.stdout is not None
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()
        return process

    def _tell(self, word: str) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.closed:
            process.stdin.write(f"{word}\n".encode())

    def _listen(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "warning" in message:
                    self._warn(message["warning"])
                self._messages.put(message)
        self._messages.put({"ended": True})

    def _warn(self, text: str) -> None:
        if not self._is_warned:
            self._is_warned = True
            log.warning("%s", text)

    def _advice(self) -> str:
        return f"Bring MLflow up to date later with: promptlab sync {self._paths.root}"

    def close(self) -> None:
        """Let the follower finish and wait for it as long as it gets on."""
        if not self._has_news and self._options.enabled and self._is_behind():
            self.notify()
        process = self._process
        if process is None:
            return
        try:
            if not self._has_news:
                return
            with contextlib.suppress(OSError):
                self._tell("finish")
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
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

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
        """Return whether the follower came to its end."""
        is_finished = False
        told_at = heard_at = time.monotonic()
        while True:
            try:
                message = self._messages.get(timeout=_POLL_S)
            except queue.Empty:
                if time.monotonic() - heard_at > PATIENCE_S:
                    return False
                continue
            heard_at = time.monotonic()
            if "left" in message and heard_at - told_at > 10:
                told_at = heard_at
                log.info("Writing to MLflow: %d images left.", message["left"])
            is_finished = is_finished or bool(message.get("finished"))
            if message.get("ended"):
                if not is_finished:
                    self._warn(f"Tracking has stopped. {self._advice()}")
                return True


@contextlib.contextmanager
def open_tracking(
    paths: RunPaths,
    options: TrackingOptions = TrackingOptions(),  # noqa: B008  frozen
) -> Iterator[Tracking]:
    """Follow a run folder while it is written; on leaving, wait for MLflow as it gets on.

    The follower starts when it is told to begin, or with the first part; a sweep with nothing to do
    starts none unless an earlier session left MLflow behind.
    """
    tracking = Tracking(paths, options)
    try:
        yield tracking
    finally:
        tracking.close()
