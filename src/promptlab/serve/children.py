"""The child processes that plan and draw: one is always warm, so that a plan comes at once.

Takes command lines of `promptlab sweep`, returns plans and running children. A config is code and
Hydra is process-global, so neither is ever loaded in the server. Knows no queue.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from promptlab.errors import PromptlabError
from promptlab.planning.redraw import hydra_value

log = logging.getLogger(__name__)

PLAN_S = 30.0  # a plan that takes longer is given up
PLANNER_S = 20.0  # a child plans for so long: it may hold configs that were changed since
STOP_S = 5.0  # for a child without an order to end

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]


class PlanRefusedError(PromptlabError):
    """A command line cannot be drawn; the message is the command's own."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a command line would draw."""

    num_images: int
    num_cells: int
    num_pending: int  # those that no run has drawn yet
    prompts: tuple[str, ...]  # the first ones
    summary: str  # what --plan prints
    run_folder: str | None  # of a new run: where it would be written now
    rows: str | None = None

    @classmethod
    def of(cls, event: Event) -> Planned:
        """Return what an event says."""
        values = {field.name: event[field.name] for field in fields(cls)}
        return cls(**{**values, "prompts": tuple(values["prompts"])})


class Workplace(Protocol):
    """Where the resident workers are found; promptlab.serve.desk.Desk."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a child's environment says of it."""


class Child:
    """One process with a thread that hears it."""

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        self.started_at = time.monotonic()
        self._on_event: OnEvent = lambda event: None
        with open(log_path, "ab") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "promptlab.serve.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C in a terminal is for the server
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def order(
        self,
        argv: Sequence[str],
        on_event: OnEvent,
        *,
        plan_only: bool = False,
        log_path: str | None = None,
        rows_path: str | None = None,
        run_folder: str | None = None,
        is_urgent: bool = False,
    ) -> None:
        """Have a command line planned or drawn; `on_event` hears of it on another thread.

        The last event is "ended"; the code of a child that was killed is negative.
        """
        self._on_event = on_event
        order = {
            "argv": list(argv),
            "plan_only": plan_only,
            "log": log_path,
            "rows": rows_path,
            "run_folder": run_folder,
            "is_urgent": is_urgent,
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has died; its end is heard
            log.warning("A child process has died before its order.")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        has_ended = False
        with self._process.stdout as lines:
            for line in lines:
                event = json.loads(line)
                has_ended = event["event"] == "ended"
                self._on_event(event)
        code = self._process.wait()
        self._close_stdin()
        if not has_ended:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            error = f"The process of this entry ended with {reason}."
            self._on_event({"event": "ended", "code": min(code, -1), "error": error})

    def interrupt(self) -> None:
        """Do what Ctrl-C does: everything drawn is kept and the sheet is built.

        Windows sends Ctrl-C to no single process: there it is killed, and the store keeps what was
        acknowledged.
        """
        if sys.platform == "win32":
            self.kill()
        elif self.is_alive:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it now; what was acknowledged is kept."""
        self._process.kill()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended and its last event was heard; False: it has not yet."""
        self._listener.join(seconds)
        return not self._listener.is_alive()

    def close(self) -> None:
        """Let a child without an order end; it is killed if it does not."""
        self._close_stdin()
        if not self.wait(STOP_S):
            self.kill()
            self.wait()

    def _close_stdin(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()


class Children:
    """Starts children; made once a server."""

    def __init__(self, runs_dir: str, desk: Workplace, log_dir: str | Path) -> None:
        self._runs_dir, self._desk, self._log_dir = runs_dir, desk, Path(log_dir)
        self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._planning = threading.Lock()
        self._planner: tuple[Child, float] | None = None  # and when it planned first
        self._spare: Child | None = None
        self._is_closed = False
        with self._lock:
            self._spare = self._new()

    def plan(self, argv: Sequence[str], timeout_s: float = PLAN_S) -> Planned:
        """Return what a command line would draw; raises PlanRefusedError with what is wrong."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        give_up_at = time.monotonic() + timeout_s
        planned: Planned | None = None
        with self._planning:
            child = self._take_planner()
            child.order(self._complete(argv), events.put, plan_only=True)
            while True:
                try:
                    event = events.get(timeout=max(0.0, give_up_at - time.monotonic()))
                except queue.Empty:
                    self._drop_planner()
                    raise PlanRefusedError(
                        f"Its plan was not ready after {timeout_s:g} s. Ask for less, or try the "
                        "command in a terminal: promptlab sweep --plan …"
                    ) from None
                if event["event"] == "planned":
                    planned = Planned.of(event)
                elif event["event"] == "ended":
                    break
            if event["code"] < 0:
                self._drop_planner()
        if event["code"] != 0:
            raise PlanRefusedError(event["error"])
        if planned is None:
            raise PlanRefusedError("This command line draws nothing.")
        return planned

    def start(
        self,
        argv: Sequence[str],
        on_event: OnEvent,
        *,
        name: str,
        run_folder: str | None = None,
        is_urgent: bool = False,
    ) -> Child:
        """Draw a command line; `name` is that of its log and of the file of its pending rows.

        `run_folder` is where an earlier attempt has begun.
        """
        child = self._take_spare()
        child.order(
            self._complete(argv),
            on_event,
            log_path=str(self._log_dir / f"{name}.log"),
            rows_path=str(self._log_dir / f"{name}.rows.jsonl"),
            run_folder=run_folder,
            is_urgent=is_urgent,
        )
        return child

    def close(self) -> None:
        """End the children that have no order; the others are their owner's."""
        with self._lock:
            self._is_closed = True
            spare, self._spare = self._spare, None
        self._drop_planner()
        if spare is not None:
            spare.close()

    def _complete(self, argv: Sequence[str]) -> list[str]:
        """Return a command line that writes into the server's folder, unless it says where."""
        says_where = ("runs_dir=", "--resume", "--retry-failed")
        if self._runs_dir == "runs" or any(word.startswith(says_where) for word in argv):
            return list(argv)
        return [*argv, f"runs_dir={hydra_value(self._runs_dir)}"]

    def _take_planner(self) -> Child:
        now = time.monotonic()
        if self._planner is not None:
            child, since = self._planner
            if now - since < PLANNER_S and child.is_alive:
                return child
            self._drop_planner()
        child = self._take_spare()
        self._planner = child, now
        return child

    def _drop_planner(self) -> None:
        planner, self._planner = self._planner, None
        if planner is not None:
            planner[0].kill()

    def _take_spare(self) -> Child:
        with self._lock:
            if self._is_closed:
                raise PromptlabError("The server is being stopped.")
            child = self._spare
            if child is None or not child.is_alive:
                child = self._new()
            self._spare = self._new()
            return child

    def _new(self) -> Child:
        return Child(self._desk.environment, self._log_dir / "children.log")
