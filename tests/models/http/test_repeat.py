"""How long to wait is a function of headers and numbers."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from promptlab.models.http.repeat import MAX_BACKOFF_S, backoff, wait_asked

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Sat, 28 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 28 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 28 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Sat, 99 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_a_server_asks_to_wait_in_seconds_in_milliseconds_or_until_a_date(headers, seconds):
    assert wait_asked(headers, NOW) == seconds


def test_a_wait_doubles_with_jitter_up_to_a_minute():
    chance = random.Random(0)
    for num_tries in range(1, 40):
        longest = min(MAX_BACKOFF_S, 0.5 * 2 ** (num_tries - 1))
        waits = [backoff(num_tries, 0.5, chance) for _ in range(20)]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 1
