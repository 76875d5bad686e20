"""The main program of a process that waits for a sweep to die, and then ends what it left behind.

Started by `cluster` as `python -m promptlab.workers.orphans PID…`; the end of stdin means that the
sweep has ended. Ray's agents would live on for a minute.
"""

from __future__ import annotations

import subprocess
import sys

GRACE_S = 3.0  # for processes to end by themselves


def watch(pids: list[int]) -> subprocess.Popen[bytes]:
    """Have processes ended soon after this one, however it ends."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "promptlab.workers.orphans", *map(str, pids)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the sweep
    )


def main() -> None:
    """Wait for the end of stdin, then end the processes that are still the same ones."""
    import psutil

    processes = []
    for pid in map(int, sys.argv[1:]):
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    sys.stdin.buffer.read()
    for process in psutil.wait_procs(processes, GRACE_S)[1]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    main()
