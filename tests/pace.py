"""CPU time in units that are the same on a slow machine and on a fast one."""

from __future__ import annotations

import time
from collections.abc import Callable


def costs_less(function: Callable[[], object], loops: float) -> bool:
    """Tell whether `function` takes less CPU time than so many bare loops of a million turns.

    Each try times one loop right beside the function, and the least of either counts: a machine
    that is slow, or busy for a moment, is so for both. A loop takes 15 to 40 ms.
    """
    fastest_loop = fastest = float("inf")
    for _ in range(5):
        fastest_loop = min(fastest_loop, _cpu_time(_loop))
        fastest = min(fastest, _cpu_time(function))
        if fastest < loops * fastest_loop:
            return True
    return False


def _loop() -> None:
    for _ in range(1_000_000):
        pass


def _cpu_time(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start
