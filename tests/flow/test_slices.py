"""Programs that are compared in slices of time run by turns, and only their own time counts."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

from benchmarks.slices import run_in_slices

# Works in a child that has a session of its own, for so many seconds of processor time.
PROGRAM = """
import json, subprocess, sys, time
print("ready", flush=True)
sys.stdin.readline()
started = time.perf_counter()
child = "import time\\nwhile time.process_time() < %s: pass" % sys.argv[1]
subprocess.run([sys.executable, "-c", child], start_new_session=True, check=True)
print(json.dumps({"started": started, "done": time.perf_counter()}), flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_only_one_of_two_programs_runs_at_a_time_and_each_to_its_end() -> None:
    commands = [[sys.executable, "-c", PROGRAM, seconds] for seconds in ("0.3", "0.9")]
    short, long = run_in_slices(commands, 0.1)
    assert 0.3 <= short.ran_s("done") < long.ran_s("done")
    assert long.ran_s("done") >= 0.9
    spans = sorted(short.slices + long.slices)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert len(long.slices) > len(short.slices) > 1
    assert long.moments is not None
    took = long.moments["done"] - long.moments["started"]
    assert took - long.ran_s("done") > 0.2, "the time of the other does not count"


def test_a_program_that_fails_is_said_and_the_other_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    waits = f"import os; open({str(pid_file)!r}, 'w').write(str(os.getpid())); print(1, flush=True)"
    fails = "raise SystemExit(3)"
    commands = [[sys.executable, "-c", f"{waits}; input()"], [sys.executable, "-c", fails]]
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_in_slices(commands, 0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
