"""The main program of a server's child: it plans command lines, or draws one sweep.

Started by `children` as `python -m promptlab.serve.child`. Orders come as JSON lines on stdin,
events leave as JSON lines on stdout; what the sweep itself prints goes to the log that an order
names. The end of stdin means that the server has died: then a child that draws ends at once, and
the store keeps what was acknowledged.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.commands.sweep import draw_arguments
from promptlab.errors import (
    EXIT_INTERRUPTED,
    PromptlabError,
    RunLockedError,
    SweepInterruptedError,
)
from promptlab.flow.summary import Session, shorten
from promptlab.flow.sweep import Invocation
from promptlab.flow.watching import Watch
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.redaction import redact_text
from promptlab.workers.messages import Preview
from promptlab.workers.resident import DESK_URGENT

FLUSH_S = 1.0  # images of an entry are acknowledged so often, unless its command line says it
EVENT_S = 0.25  # between two events on images
LOCKED_S = 1.0  # between two looks at a run folder that another process writes
NUM_PROMPTS = 8
MAX_ROWS = 20_000  # the page of a larger sweep begins empty: its rows would weigh tens of MB

# What a sweep imports as it goes; importing it beforehand makes an order start at once.
_NEEDED = (
    *("hydra._internal.hydra", "hydra._internal.utils", "promptlab.configs.launcher"),
    *("promptlab.configs.compose", "promptlab.report.sheet", "promptlab.tracking.follow"),
    *("promptlab.workers.dispatch", "pyarrow.parquet", "PIL.Image", "yaml"),
)


class Events:
    """The way to the server."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def send(self, event: str, **values: Any) -> None:
        """Send one event."""
        with self._lock:
            self._file.write(json.dumps({"event": event, **values}) + "\n")


class Reporter(Watch):
    """Sends what a sweep reports."""

    def __init__(self, events: Events, rows_path: str | None, wants_previews: bool) -> None:
        self._events, self._rows_path = events, rows_path
        self.wants_previews = wants_previews
        self._waiting: dict[str, int] | None = None  # counts that are not sent yet
        self._sent_at = 0.0

    def planned(
        self,
        plan: Plan,
        num_pending: int,
        summary: str,
        paths: RunPaths,
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        """Send the plan's counts and words; write its pending rows into their file."""
        has_rows = self._rows_path is not None and num_pending <= MAX_ROWS
        if self._rows_path is not None and has_rows:
            _write_rows(self._rows_path, rows)
        prompts = list(dict.fromkeys(cell.prompt for cell in plan.cells))
        self._events.send(
            "planned",
            num_images=plan.num_images,
            num_cells=len(plan.cells),
            num_pending=num_pending,
            prompts=[shorten(prompt) for prompt in prompts[:NUM_PROMPTS]],
            summary=redact_text(summary),
            run_folder=paths.root,
            rows=self._rows_path if has_rows else None,
        )

    def drawn(self, session: Session, num_pending: int) -> None:
        """Send the counts, now and then."""
        self._waiting = {
            "num_drawn": session.num_drawn,
            "num_failed": len(session.errors),
            "num_pending": session.num_drawn + num_pending,
        }
        if time.monotonic() - self._sent_at >= EVENT_S:
            self.flush()

    def previewed(self, preview: Preview) -> None:
        """Send an unfinished image."""
        png = base64.b64encode(preview.body).decode()
        self._events.send("preview", image_id=preview.image_id, step=preview.step, png=png)

    def flush(self) -> None:
        """Send the latest counts."""
        if self._waiting is not None:
            self._events.send("drawn", **self._waiting)
            self._waiting, self._sent_at = None, time.monotonic()


def _write_rows(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    aside = f"{path}.new"
    with open(aside, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, default=str) + "\n")
    os.replace(aside, path)


def main() -> None:
    """Carry out orders: plans one after the other, or one sweep, which is the last."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.WARNING)
    events = Events()
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    is_busy = threading.Event()
    stdin = os.fdopen(os.dup(0), "rb")
    _point(0, os.open(os.devnull, os.O_RDONLY))
    _point(1, os.dup(2))

    def listen() -> None:
        for line in stdin:
            orders.put(json.loads(line))
        if is_busy.is_set():
            os._exit(1)
        orders.put(None)

    threading.Thread(target=listen, name="promptlab-orders", daemon=True).start()
    for module in _NEEDED:
        importlib.import_module(module)
    try:
        while (order := orders.get()) is not None:
            is_busy.set()
            _carry_out(order, events)
            if not order["plan_only"]:
                return
            is_busy.clear()
    except KeyboardInterrupt:
        return


def _carry_out(order: Mapping[str, Any], events: Events) -> None:
    if order["log"] is not None:
        Path(order["log"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _point(1, os.dup(log))
        _point(2, log)
    os.environ[DESK_URGENT] = "1" if order["is_urgent"] else ""
    reporter = Reporter(events, order["rows"], wants_previews=order["is_urgent"])
    try:
        code, error = _draw(order, reporter), ""
    except (SweepInterruptedError, KeyboardInterrupt) as interruption:
        code, error = EXIT_INTERRUPTED, str(interruption)
    except PromptlabError as mistake:
        code, error = 1, str(mistake)
    except SystemExit as end:  # of an argument parser, which has printed why
        code, error = 1, f"The command line cannot be read (exit code {end.code}); see the log."
    except Exception as failure:
        traceback.print_exc()
        code, error = 1, f"{type(failure).__name__}: {failure}"
    reporter.flush()
    if error:
        print(f"promptlab: {redact_text(error)}", file=sys.stderr)
    events.send("ended", code=code, error=redact_text(error))


def _draw(order: Mapping[str, Any], reporter: Reporter) -> int:
    """Plan or draw a command line; one whose run folder another process writes waits for it."""
    arguments: Sequence[str] = order["argv"]
    is_said = any("flush_s" in argument for argument in arguments)
    invocation = Invocation(
        run_folder=order["run_folder"], watch=reporter, flush_s=None if is_said else FLUSH_S
    )
    if order["plan_only"]:
        arguments = ["--plan", *arguments]
    while True:
        try:
            return draw_arguments(arguments, invocation)[0]
        except RunLockedError as error:
            print(f"Waiting: {error}", file=sys.stderr)
            time.sleep(LOCKED_S)


def _point(descriptor: int, target: int) -> None:
    """Let a file descriptor stand for another one, which is closed."""
    os.dup2(target, descriptor)
    os.close(target)


if __name__ == "__main__":
    main()
