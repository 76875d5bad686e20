"""What a bias audit found, for the page: how often each word was the nearest, by subject.

Takes runs, returns JSON-ready values. Counts nothing: `promptlab score --words` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from promptlab.scores.bias import WARNING
from promptlab.scores.summary import ALL, SHARE, read_shares

if TYPE_CHECKING:
    from promptlab.store import Run


def find_shares(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one entry a run that was audited: its groups, each with its words by their share."""
    found = []
    for run in runs:
        rows = read_shares(run.paths)
        groups: dict[tuple[str, str], list[list[Any]]] = {}
        sizes = {}
        for row in rows:
            key, word = (row.axis, row.value), row.measure.removeprefix(SHARE)
            groups.setdefault(key, []).append([word, row.estimate, row.low, row.high])
            sizes[key] = row.num_images
        if rows:
            found.append(
                {
                    "run": run.paths.name,
                    "warning": WARNING.format(name=rows[0].scorer),
                    "groups": [
                        {
                            "name": "all images" if axis == ALL else value,
                            "num_images": sizes[axis, value],
                            "words": sorted(words, key=lambda word: -word[1]),
                        }
                        for (axis, value), words in groups.items()
                    ],
                }
            )
    return found
