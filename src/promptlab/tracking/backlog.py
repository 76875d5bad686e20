"""Which images of a run folder MLflow still lacks: a record apart from the logging itself.

Takes the parts that a run folder has at a moment and the rows of one part; returns the part to
read next and the rows of it to log. Knows no MLflow and reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from promptlab.store.parts import Key, Part

Row = dict[str, Any]


class Backlog:
    """The parts and images of one run, as far as MLflow is known to hold them."""

    def __init__(self) -> None:
        self.done: set[Key] = set()  # images that MLflow holds
        self.lost: set[Key] = set()  # images that no file holds any more
        self._read_parts: set[str] = set()  # by name; all of them was offered
        self._part = ""  # the part that is being logged
        self._num_left_of_part = 0  # its images to log

    def next_part(self, parts: Sequence[Part]) -> Part | None:
        """Return the first part that may hold missing images; None when there is none."""
        return next(iter(self._open_parts(parts)), None)

    def _open_parts(self, parts: Sequence[Part]) -> Iterable[Part]:
        for part in parts:
            if part.replaces and self._read_parts.issuperset(part.replaces):
                self._read_parts.add(part.name)
            if part.name not in self._read_parts:
                yield part

    def missing(self, part: Part, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of a part whose images are to be logged."""
        missing = [row for row in rows if is_drawn(row) and not self._knows(row)]
        self._part, self._num_left_of_part = part.name, len(missing)
        return missing

    def _knows(self, row: Row) -> bool:
        key = key_of(row)
        return key in self.done or key in self.lost

    def mark_done(self, keys: Iterable[Key]) -> None:
        """Note that MLflow holds these images."""
        new = set(keys) - self.done
        self._num_left_of_part = max(0, self._num_left_of_part - len(new))
        self.done |= new

    def close(self, part: Part) -> None:
        """Note that all of a part was offered to MLflow, which may have refused some of it."""
        self._part, self._num_left_of_part = "", 0
        self._read_parts.add(part.name)

    def num_left(self, parts: Sequence[Part]) -> int:
        """Return how many images wait to be logged, at most: those of unread parts may be done."""
        return sum(
            self._num_left_of_part if part.name == self._part else part.num_rows
            for part in self._open_parts(parts)
        )


def is_drawn(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has an image."""
    return row["status"] != "failed"


def key_of(row: Mapping[str, Any]) -> Key:
    """Return what identifies a row within its run."""
    return row["cell_id"], row["seed"]
