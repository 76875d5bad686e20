"""Two programs on one machine in slices of seconds: its changes of pace fall on both alike.

Takes two commands; returns what each reported and when it ran. While one runs, the other is stopped
with all its descendants (found in Linux's /proc). A shared machine changes its pace by a sixth
within minutes, which two programs one after the other cannot be compared on.

A program prints a line once it is ready, waits for a line on stdin, does its work, and prints one
line of JSON: moments of `time.perf_counter`, by name, "started" among them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Program:
    """One of the two, and the slices of time in which it ran."""

    process: subprocess.Popen[str]
    slices: list[tuple[float, float]] = field(default_factory=list)
    moments: dict[str, float] | None = None  # its report

    @classmethod
    def start(cls, command: Sequence[str]) -> Program:
        """Start it; its first line says that it is ready."""
        pipe = subprocess.PIPE
        return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1))

    def begin(self) -> None:
        """Have it do its work."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")

    def run(self, seconds: float) -> None:
        """Let it run so long, or until it reports."""
        assert self.process.stdout is not None
        started_at = time.perf_counter()
        self.signal(signal.SIGCONT)
        is_done, _, _ = select.select([self.process.stdout], [], [], seconds)
        if is_done:
            self.moments = json.loads(self.read())
            self.process.wait()
        else:
            self.signal(signal.SIGSTOP)
        self.slices.append((started_at, time.perf_counter()))

    def read(self) -> str:
        """Return its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"A program ended without a word, exit code {self.process.wait()}.")
        return line

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all its descendants, those of a session of their own too."""
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        """Kill it if it still runs, and its descendants."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        with self.process:  # waits, and closes its pipes
            pass

    def ran_s(self, name: str) -> float:
        """Return how many seconds it ran from "started" to the moment of this name."""
        assert self.moments is not None
        since, until = self.moments["started"], self.moments[name]
        return sum(max(0.0, min(until, end) - max(since, start)) for start, end in self.slices)


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, parents first."""
    found = [pid]
    for one in found:  # grows meanwhile
        with contextlib.suppress(OSError):  # it has ended
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def run_in_slices(commands: Sequence[Sequence[str]], slice_s: float) -> list[Program]:
    """Run two programs in alternating slices until both have reported; the first goes first."""
    with contextlib.ExitStack() as stack:
        programs = []
        for command in commands:
            program = Program.start(command)
            stack.callback(program.end)
            program.read()
            program.signal(signal.SIGSTOP)
            program.begin()
            programs.append(program)
        while unfinished := [program for program in programs if program.moments is None]:
            for program in unfinished:
                program.run(slice_s)
    return programs
