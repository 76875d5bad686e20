"""The run folder as its one writer sees it: parts, PNG files, sweep.yaml.

Takes finished rows and writes them; repairs on opening what a crash damaged. Knows no plan, no
queue and no model. Everything here expects the run's lock to be held.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.records import Scalar
from promptlab.run_record import RunRecord
from promptlab.store.compaction import TARGET_BYTES, TARGET_ROWS, compact, is_small
from promptlab.store.index import RowIndex
from promptlab.store.lock import CheckLock
from promptlab.store.part_writer import write_part
from promptlab.store.parts import (
    Key,
    Part,
    PartList,
    check_part,
    iter_intact_row_groups,
    list_parts,
    read_keys,
    rows_without,
)
from promptlab.store.pipeline import StoredImage
from promptlab.store.reader import read_record
from promptlab.store.schema import SCHEMA_VERSION, AxisColumn, rows_to_table
from promptlab.store.storage import Storage

log = logging.getLogger(__name__)

# Gets the images of each part once it is on disk, on the writing thread.
Listener = Callable[[Sequence[StoredImage]], None]


class RunFolder:
    """The files of one run, and an index of their rows."""

    def __init__(
        self,
        storage: Storage,
        paths: RunPaths,
        check_lock: CheckLock = lambda: None,
        *,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.paths = paths
        self.index = RowIndex()
        self.axes: tuple[AxisColumn, ...] = ()
        self.record = RunRecord()
        self._storage = storage
        self._check_lock = check_lock
        self._listeners = listeners
        found = self._repair()
        self.parts: list[Part] = list(found.parts)
        self._next_number = found.next_number
        self.axes = found.axes
        for part in self.parts:
            self.index.read(storage, part)

    def _repair(self) -> PartList:
        """Remove the leftovers of interrupted writes, set aside damaged parts."""
        storage, paths = self._storage, self.paths
        for folder in (paths.root, paths.images, paths.images_parquet):
            storage.make_folder(folder)
            storage.remove_leftovers(folder)
        found = list_parts(storage, paths.images_parquet)
        damaged = [part for part in found.parts if not self._is_intact(part, found)]
        num_kept = dict.fromkeys(found.unreadable, 0)
        for number, part in enumerate(damaged, start=found.next_number):
            num_kept[part.name] = self._rescue_rows(part, found, number)
        for name, num_rows in num_kept.items():
            storage.rename(
                f"{paths.images_parquet}/{name}", f"{paths.images_parquet}/.{name}.corrupt"
            )
            log.warning(
                "%s: set aside %s, damaged by a crash, a full disk or a failing one. %s",
                paths.images_parquet,
                name,
                f"{num_rows} of its images are whole and are kept, the others are drawn again."
                if num_rows
                else "Its images are drawn again.",
            )
        if damaged or found.unreadable:
            found = list_parts(storage, paths.images_parquet, found.parts)
        storage.delete_files(f"{paths.images_parquet}/{name}" for name in found.replaced)
        return found

    def _is_intact(self, part: Part, found: PartList) -> bool:
        """Look for damage: in all rows, and in the images that were written last.

        The images of the others are many gigabytes, and their PNG files are a second copy.
        """
        is_last = part is found.parts[-1]
        return check_part(self._storage, part, with_images=is_last or is_small(part))

    def _rescue_rows(self, damaged: Part, found: PartList, number: int) -> int:
        """Write the whole rows of a part as a new part that replaces it; return their number."""
        newer: set[Key] = set()  # rows drawn again since: the rescued part is later than theirs
        for part in found.parts:
            if part.number > damaged.number and check_part(self._storage, part, with_images=False):
                newer.update(read_keys(self._storage, part))
        groups = iter_intact_row_groups(self._storage, damaged, found.axes)
        tables = [table for group in groups if (table := rows_without(group, newer)).num_rows]
        if tables:
            path = self.paths.part(number)
            write_part(self._storage, path, tables, found.axes, replaces=[damaged.name])
        return sum(table.num_rows for table in tables)

    def write(self, batch: Sequence[StoredImage], *, embed_images: bool) -> None:
        """Write PNG files, then the part that acknowledges them, and merge small parts."""
        pngs = {item.row.path: item.png for item in batch}
        rows = [item.row for item in batch]
        embedded = [item.png if embed_images else None for item in batch]
        with explained(self.paths, self.index.counts.total):
            self._check_lock()
            self._storage.write_files(
                {
                    self.paths.join(path): png
                    for path, png in pngs.items()
                    if path is not None and png is not None
                }
            )
            self._check_lock()
            part = write_part(
                self._storage,
                self.paths.part(self._next_number),
                [rows_to_table(rows, embedded, self.axes)],
                self.axes,
            )
        self._next_number += 1
        self.parts.append(part)
        self.index.add(
            part.name,
            [(row.cell.cell_id, row.cell.seed) for row in rows],
            [row.facts.status for row in rows],
        )
        for listener in self._listeners:
            try:
                listener(batch)
            except Exception as error:  # the images are stored, and more are to come
                log.error("%s: %s: %s", self.paths.root, type(error).__name__, error)
        small = [part for part in self.parts if is_small(part)]
        if sum(p.num_bytes for p in small) >= TARGET_BYTES or (
            sum(p.num_rows for p in small) >= TARGET_ROWS
        ):
            self.compact()

    def compact(self) -> None:
        """Merge small and outdated parts; a folder that cannot be compacted stays as it is."""
        known = {part.name for part in self.parts}
        self._check_lock()
        try:
            self.parts = compact(
                self._storage,
                self.paths,
                self.parts,
                self.axes,
                self.index.superseded,
                self._next_number,
            )
        except (OSError, pa.ArrowException) as error:
            log.warning("%s: could not merge small parts: %s", self.paths.images_parquet, error)
            found = list_parts(self._storage, self.paths.images_parquet, self.parts)
            self.parts = list(found.parts)
            self._next_number = found.next_number
        for part in self.parts:
            if part.name not in known:
                self.index.moved(part)
                self._next_number = max(self._next_number, part.number + 1)

    def begin_record(self, record: RunRecord) -> None:
        """Write sweep.yaml: the record, and what the run keeps from its first opening."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        found = read_record(self._storage, self.paths)
        old = found or RunRecord()
        self.record = replace(
            record,
            schema_version=SCHEMA_VERSION,
            run_id=old.run_id or uuid.uuid4().hex,
            created_at=old.created_at or now,
            resumed_at=() if found is None else (*old.resumed_at, now),
            axes=join_axes(old.axes, record.axes),
            # An enlarged image's model is no part of the plan that the command asks for.
            models={**old.models, **record.models},
            models_config={**old.models_config, **record.models_config},
            workers=old.workers,
            further={**old.further, **record.further},
        )
        known = {key: model.is_deterministic for key, model in record.models.items()}
        seen = {k: m.is_deterministic for k, m in old.models.items() if known.get(k) is None}
        self.record = _note_models(self.record, seen)
        self.write_record()

    def note_models(self, is_deterministic: Mapping[str, bool | None]) -> None:
        """Write into sweep.yaml which models, by key, gave the same bytes again; None: unknown."""
        noted = _note_models(self.record, is_deterministic)
        if noted != self.record:
            self.record = noted
            with explained(self.paths):
                self.write_record()

    def write_record(self) -> None:
        """Write sweep.yaml as the record is now."""
        text = self.record.to_yaml().encode("utf-8")
        self._storage.write_files({self.paths.sweep_yaml: text})


def _note_models(record: RunRecord, is_deterministic: Mapping[str, bool | None]) -> RunRecord:
    models = dict(record.models)
    for key, answer in is_deterministic.items():
        if key in models and answer is not None:
            models[key] = replace(models[key], is_deterministic=answer)
    return replace(record, models=models)


def join_axes(
    old: Mapping[str, Sequence[Scalar]], new: Mapping[str, Sequence[Scalar]]
) -> dict[str, tuple[Scalar, ...]]:
    """Return the values of each axis, those of an earlier plan of this folder first."""
    names = dict.fromkeys([*old, *new])
    return {name: tuple(dict.fromkeys([*old.get(name, ()), *new.get(name, ())])) for name in names}


@contextlib.contextmanager
def explained(paths: RunPaths, num_saved: int = 0) -> Iterator[None]:
    """Turn what the file system says into one message with what to do."""
    try:
        yield
    except OSError as error:
        kept = f"{num_saved} images are safe in {paths.root}. " if num_saved else ""
        again = "run the same command again; it resumes."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = (
                f"The disk is full: could not write to {paths.root}. {kept}Free some space and "
            )
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = (
                f"Cannot write to {paths.root}: {error.strerror}. {kept}Expected a folder that you "
                "may write to; change its permissions or name another (runs_dir=…), and "
            )
        elif error.errno is not None and error.errno in (errno.EEXIST, errno.ENOTDIR):
            advice = (
                f"Cannot write to {paths.root}: {error.filename or paths.root} is not a folder. "
                "Name another (runs_dir=…) and "
            )
        else:
            advice = f"Could not write to {paths.root}: {error}. {kept}Fix the problem and "
        raise StoreError(advice + again) from error
