"""How long to wait before a call is repeated: functions of headers and numbers alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_BACKOFF_S = 60.0  # between two tries of one request


def wait_asked(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that a server asks to wait: in ms, in seconds or until a date.

    None without such a header or with one that says nothing sensible.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


def backoff(num_tries: int, first_s: float, chance: random.Random) -> float:
    """Return the seconds before the next try: doubled each time, with jitter from half on."""
    longest = min(MAX_BACKOFF_S, first_s * 2 ** min(num_tries - 1, 30))
    return longest * (0.5 + 0.5 * chance.random())
