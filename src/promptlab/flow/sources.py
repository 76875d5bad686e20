"""The images that others are drawn from: found in earlier runs, read when they are handed out.

Takes image_ids and the folder of runs, returns sources and parents. Draws and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from promptlab.errors import StoreError
from promptlab.planning.parents import Parent
from promptlab.records import Request, Source
from promptlab.store import Run, find_image, list_runs, read_run

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Sources:
    """Sources below a folder of runs; each run is read once."""

    runs_dir: str
    _places: dict[str, tuple[Run, pa.Table, int]] = field(default_factory=dict)  # by image_id: row
    _unread: list[str] | None = None  # run folders, newest first; None: not listed yet
    _kept: dict[str, Run] = field(default_factory=dict)  # image_id -> the run with those pixels

    def parent(self, image_id: str) -> Parent:
        """Return an image as a parent; the id may be shortened. StoreError if no run holds it."""
        run, row = self.locate(image_id)
        if row["sha256"] is None:
            raise StoreError(f"The image {row['image_id']} failed: there is nothing to draw from.")
        self._kept[row["image_id"]] = run
        return parent_of_row(run, row)

    def find(self, image_id: str, sha256: str | None = None) -> Source:
        """Return an image as a source, without its bytes.

        With `sha256`, it is the image with those pixels where several runs hold the id: images of
        a model that is not deterministic.
        """
        source = self.parent(image_id).source
        if sha256 in (None, source.sha256):
            return source
        for folder in list_runs(self.runs_dir):
            run = read_run(folder)
            for row in run.rows():
                if (row["image_id"], row["sha256"]) == (source.image_id, sha256):
                    self._kept[source.image_id] = run
                    return parent_of_row(run, row).source
        return source

    def hold(self, run: Run, parents: list[Parent]) -> None:
        """Take in parents that are known already, and the run that holds them."""
        self._kept.update((parent.source.image_id, run) for parent in parents)

    def with_bytes(self, request: Request) -> Request:
        """Return the request with the bytes of its source; one without a source as it is."""
        source = request.source
        if source is None or source.png:
            return request
        if source.image_id not in self._kept:
            self.find(source.image_id, source.sha256)
        png = self._kept[source.image_id].image_bytes(source.image_id)
        if png is None:
            raise StoreError(f"The PNG of the image {source.image_id} is gone.")
        return replace(request, source=replace(source, png=png))

    def locate(self, image_id: str) -> tuple[Run, dict[str, Any]]:
        """Return the newest run that holds an image, and its row; the id may be shortened."""
        if self._unread is None:
            self._unread = list(list_runs(self.runs_dir))
        while image_id not in self._places and self._unread:
            run = read_run(self._unread.pop(0))
            table = run.table()
            for number, known in enumerate(table["image_id"].to_pylist()):
                self._places.setdefault(known, (run, table, number))
        if image_id not in self._places:
            return find_image(image_id, self.runs_dir)  # a shortened id, or the error
        run, table, number = self._places[image_id]
        return run, table.slice(number, 1).to_pylist()[0]


def parent_of_row(run: Run, row: dict[str, Any]) -> Parent:
    """Return a row of a run as a parent."""
    models = run.record.models.values()
    drawer = next((m for m in models if m.fingerprint == row["model_fingerprint"]), None)
    is_repeatable = drawer is None or drawer.is_deterministic is not False
    source = Source(row["image_id"], row["sha256"], is_repeatable=is_repeatable)
    axes = {axis.name: row[axis.column] for axis in run.axes}
    return Parent(source, row, axes)
