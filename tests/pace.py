"""CPU time in units that are the same on a slow machine and on a fast one."""

from __future__ import annotations

import time
from collections.abc import Callable


def cost(function: Callable[[], object], tries: int = 5) -> float:
    """Return the CPU time of `function` in bare loops of a million turns.

    Each try times the loop right beside the function, and the least of either counts: a machine
    that is slow, or busy for a moment, is so for both. A loop takes 15 to 40 ms.
    """
    loops, seconds = [], []
    for _ in range(tries):
        loops.append(_cpu_time(_loop))
        seconds.append(_cpu_time(function))
    return min(seconds) / min(loops)


def _loop() -> None:
    for _ in range(1_000_000):
        pass


def _cpu_time(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start
