"""The values of the key `seeds`: a count, a list, or a range.

Takes a config value, returns the seeds in order. Knows nothing else.
"""

from __future__ import annotations

import re
from typing import Any

from promptlab.configs.settings import AUTO
from promptlab.errors import ConfigError

FIRST_SEEDS = 2  # of seeds=auto: those of every cell, before anything is known
MAX_SEED = 2**63 - 1  # the largest value of a signed 64-bit column
MAX_NUM_SEEDS = 1_000_000  # a slip such as seeds=0-999999999 must not fill memory

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Return the seeds that a value names, without duplicates.

    8 means 0 to 7; [3, 5] and "3,5" mean those; "0-63" means 0 to 63; "0-3,10" mixes both. "auto"
    means the first seeds of a sweep that goes on in rounds.
    """
    if value == AUTO:
        return tuple(range(FIRST_SEEDS))
    if isinstance(value, bool) or value is None or isinstance(value, float):
        raise _not_seeds(value)
    if isinstance(value, int):
        if value < 1:
            raise ConfigError(
                f"seeds={value}: a count must be at least 1. For one certain seed write "
                f"seeds=[{max(value, 0)}]."
            )
        _check_number(value, value)
        return tuple(range(value))
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    seeds: dict[int, None] = {}
    for item in items:
        for seed in _item_range(item, value):
            seeds[seed] = None
    if not seeds:
        raise _not_seeds(value)
    return tuple(seeds)


def _item_range(item: Any, value: Any) -> range:
    match = _RANGE.fullmatch(str(item).strip())
    if match is None or isinstance(item, bool):
        raise _not_seeds(value)
    first = int(match[1])
    last = int(match[2]) if match[2] is not None else first
    if last < first:
        raise ConfigError(f"seeds={value}: the range {item} runs backwards; write {last}-{first}.")
    if last > MAX_SEED:
        raise ConfigError(f"seeds={value}: a seed is at most {MAX_SEED}.")
    _check_number(last - first + 1, value)
    return range(first, last + 1)


def _check_number(number: int, value: Any) -> None:
    if number > MAX_NUM_SEEDS:
        raise ConfigError(f"seeds={value}: at most {MAX_NUM_SEEDS:,} seeds a cell.")


def _not_seeds(value: Any) -> ConfigError:
    return ConfigError(
        f"seeds={value!r}: expected a count (8), a list ([3,5]) or a range (0-63) of whole "
        "numbers from 0 on, or auto (with until=…)."
    )
