"""What a run folder holds already: one entry per request, and which rows are outdated.

Takes parts and keys; answers what is done and counts by status. Lives in memory, a few hundred
bytes a row; knows no plan and no image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from promptlab.store.parts import Key, Part, read_part
from promptlab.store.storage import Storage


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows a run folder holds, by status."""

    ok: int = 0
    flagged: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Rows of any status."""
        return self.ok + self.flagged + self.failed


class RowIndex:
    """The latest row of each request: its status and the part it lies in."""

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[str, str]] = {}  # (status, part name)
        self._num_by_status = Counter[str]()
        self.superseded: defaultdict[str, set[Key]] = defaultdict(set)  # by part name

    def add(self, part_name: str, keys: Sequence[Key], statuses: Sequence[str]) -> None:
        """Enter the rows of a part that is later than all before."""
        for key, status in zip(keys, statuses, strict=True):
            older = self._entries.get(key)
            if older is not None and older[1] != part_name:
                self.superseded[older[1]].add(key)
            if older is not None:
                self._num_by_status[older[0]] -= 1
            self._num_by_status[status] += 1
            self._entries[key] = (status, part_name)

    def read(self, storage: Storage, part: Part) -> None:
        """Enter the rows of a part on disk."""
        table = read_part(storage, part, (), ["cell_id", "seed", "status"])
        keys = zip(table["cell_id"].to_pylist(), table["seed"].to_pylist(), strict=True)
        self.add(part.name, list(keys), table["status"].to_pylist())

    def moved(self, part: Part) -> None:
        """Note that a part took over all rows of those it replaces."""
        gone = set(part.replaces)
        for key, (status, name) in self._entries.items():
            if name in gone:
                self._entries[key] = (status, part.name)
        for name in gone:
            self.superseded.pop(name, None)

    def status(self, key: Key) -> str | None:
        """Return the status of a request's row; None if there is no row."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    @property
    def counts(self) -> Counts:
        """The rows by status."""
        count = self._num_by_status
        return Counts(ok=count["ok"], flagged=count["flagged"], failed=count["failed"])
