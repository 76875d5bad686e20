"""The store: takes finished images, leaves PNG files and Parquet parts, the record of truth.

Takes a plan and the images of its requests in any order; knows what of the plan is done and which
cells wait for which image, and gives each cell its row. An image counts once its PNG and its part
are on disk. Knows no model, no MLflow and no page.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan, PlannedModel, axes_of_cells
from promptlab.png import drop_texts
from promptlab.records import CELL_COLUMNS, Cell, Drawn, ImageRow, Request, WorkerShare
from promptlab.run_record import RunRecord
from promptlab.store.folder import Listener, RunFolder, explained, join_axes
from promptlab.store.index import Counts
from promptlab.store.lock import hold_lock
from promptlab.store.pipeline import Pipeline, QueuedImage, StoredImage
from promptlab.store.planned import (
    axis_values,
    cell_columns,
    describe_model,
    describe_plan,
    join_cells,
    make_label,
)
from promptlab.store.reuse import FoundImage, read_images
from promptlab.store.schema import axis_columns
from promptlab.store.storage import open_storage
from promptlab.store.todo import OpenRequests, StoreOptions, Waiting, find_reusable, open_requests

log = logging.getLogger(__name__)


class Store:
    """One run folder, open for writing; made by `open_store`.

    Its methods may be called from several threads.
    """

    def __init__(
        self, folder: RunFolder, plan: Plan, options: StoreOptions, pipeline: Pipeline
    ) -> None:
        self.num_done = 0
        self.num_reused = 0
        self._folder = folder
        self._plan = plan
        self._options = options
        self._pipeline = pipeline
        self._waiting: dict[str, list[Waiting]] = {}  # by image_id: the cells that want this image
        self._requests: dict[str, dict[str, Request]] = {}  # by model_key and image_id
        self._answered: set[str] = set()  # image_ids that were waited for
        self._lock = threading.Lock()

    def pending(self, model_key: str) -> Sequence[Request]:
        """Return what one model has to draw: each image once, in the plan's order."""
        with self._lock:
            return list(self._requests[model_key].values())

    def pending_rows(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of the images still to draw: columns of images.parquet by name."""
        with self._lock:
            waiting = [(image_id, *each) for image_id, of in self._waiting.items() for each in of]
        for image_id, cell, seed in waiting:
            columns = cell_columns(self._plan, cell, seed)
            axes = {a.column: columns.axes.get(a.name) for a in self._folder.axes}
            own = {name: getattr(columns, name) for name in CELL_COLUMNS}
            yield {"image_id": image_id, "status": "pending", **own, **axes}

    @property
    def num_pending(self) -> int:
        """Number of images still to draw."""
        return len(self._waiting)

    @property
    def counts(self) -> Counts:
        """The rows on disk by status."""
        return self._folder.index.counts

    def ask(self, todo: OpenRequests) -> None:
        """Wait for more images; those that this run or an earlier one holds are copied."""
        with self._lock:
            self.num_done += todo.num_done
            for model_key, requests in todo.requests.items():
                self._requests.setdefault(model_key, {}).update(requests)
            for image_id, cells in todo.waiting.items():
                self._waiting.setdefault(image_id, []).extend(cells)
        for part in find_reusable(self._folder.paths, self._options, set(todo.waiting)):
            for image in read_images(part):
                # In this run the image has its PNG file already, with the text of another cell.
                is_here = part.paths.root == self._folder.paths.root
                self._reuse(image, keep_text=is_here)

    def extend(
        self, cells: Sequence[Cell], models: Mapping[str, PlannedModel] | None = None
    ) -> None:
        """Ask for more cells, of the plan's models or further ones, or for more seeds of cells."""
        self.flush()  # what was drawn since the opening counts as done
        joined, new = join_cells(self._plan.cells, cells)
        all_models = {**self._plan.models, **(models or {})}
        more = replace(self._plan, cells=new, models=all_models)
        self._plan = replace(self._plan, cells=joined, models=all_models)
        nodes = {key: planned.node for key, planned in (models or {}).items()}
        self._folder.axes = axis_columns(axis_values(new), self._folder.axes)
        self._folder.record = replace(
            self._folder.record,
            models={
                **self._folder.record.models,
                **{key: describe_model(planned) for key, planned in (models or {}).items()},
            },
            models_config={**self._folder.record.models_config, **nodes},
            num_cells=len(self._plan.cells),
            num_images=self._plan.num_images,
            axes=join_axes(
                self._folder.record.axes,
                {axis.name: axis.values for axis in axes_of_cells(self._plan.cells)},
            ),
        )
        self._folder.write_record()
        self.ask(open_requests(more, self._folder.index, retry_failed=False))

    def add(self, drawn: Drawn) -> None:
        """Give every cell that waits for this image its row; returns before it is on disk.

        An image that is answered already is dropped: a request is drawn twice when its worker is
        lost after drawing it. Raises StoreError once writing has failed; what was acknowledged
        before stays.
        """
        waiting = self._take(drawn.request.image_id)
        if waiting:
            self._put(waiting, drawn)

    def _take(self, image_id: str) -> Sequence[Waiting]:
        """Return the cells that wait for an image, and wait no longer."""
        with self._lock:
            waiting = self._waiting.pop(image_id, None)
            if waiting is not None:
                self._answered.add(image_id)
                self._requests[waiting[0][0].model_key].pop(image_id, None)
                return waiting
        if image_id not in self._answered:
            raise StoreError(
                f"Expected an image that was asked for, got {image_id}, which is not in the plan."
            )
        return ()

    def _put(self, waiting: Sequence[Waiting], drawn: Drawn) -> None:
        image_id = drawn.request.image_id
        rows = [
            ImageRow(image_id, cell_columns(self._plan, cell, seed), drawn.facts)
            for cell, seed in waiting
        ]
        label = make_label(self._plan, waiting[0][0], drawn.request)
        self._pipeline.put(QueuedImage(tuple(rows), drawn.body, label))

    def _reuse(self, image: FoundImage, *, keep_text: bool) -> None:
        waiting = self._take(image.image_id)
        if not waiting:
            return
        rows = []
        for cell, seed in waiting:
            columns = cell_columns(self._plan, cell, seed)
            parent_ids = cell.parent_ids or image.parent_ids
            rows.append(
                ImageRow(image.image_id, replace(columns, parent_ids=parent_ids), image.facts)
            )
        cell, seed = waiting[0]
        self.num_reused += len(rows)
        if keep_text:
            self._pipeline.put(QueuedImage(tuple(rows), image.png))
        else:
            label = make_label(self._plan, cell, self._plan.request(cell, seed))
            self._pipeline.put(QueuedImage(tuple(rows), drop_texts(image.png), label))

    def note_workers(self, shares: Mapping[str, WorkerShare]) -> None:
        """Add to sweep.yaml what each worker did in this session."""
        known = dict(self._folder.record.workers)
        for name, share in shares.items():
            known[name] = known.get(name, WorkerShare()) + share
        self._folder.record = replace(self._folder.record, workers=known)
        self._folder.write_record()

    def flush(self) -> None:
        """Return when everything added is on disk."""
        self._pipeline.flush()

    def close(self, *, is_complete: bool) -> None:
        """Write what was added, and what its models showed; compact if the run ended well."""
        self._pipeline.close()
        self._folder.note_models(
            {key: planned.model.is_deterministic for key, planned in self._plan.models.items()}
        )
        if is_complete:
            self._folder.compact()


@contextlib.contextmanager
def open_store(
    paths: RunPaths,
    plan: Plan,
    options: StoreOptions = StoreOptions(),  # noqa: B008  frozen
    *,
    record: RunRecord = RunRecord(),  # noqa: B008  frozen
    listeners: Sequence[Listener] = (),
) -> Iterator[Store]:
    """Open a run folder for writing, new or begun; on leaving, everything added is on disk.

    `record` says where the sweep came from. Each listener gets the images of each part once it is
    on disk.
    Raises RunLockedError while another process writes the folder, StoreError if it cannot be
    written. An exception in the block, Ctrl-C included, loses nothing that was added.
    """
    storage = open_storage(paths.root)
    with contextlib.ExitStack() as stack:
        with explained(paths):
            storage.make_folder(paths.root)
            check_lock = stack.enter_context(hold_lock(paths.lock))
            folder = RunFolder(storage, paths, check_lock, listeners=listeners)
            folder.axes = axis_columns(axis_values(plan.cells), folder.axes)
            folder.begin_record(describe_plan(plan, record))
            todo = open_requests(plan, folder.index, retry_failed=options.retry_failed)

        def write(batch: Sequence[StoredImage]) -> None:
            folder.write(batch, embed_images=options.embed_images)

        pipeline = Pipeline(write, batch_rows=options.part_rows, flush_s=options.flush_s)
        store = Store(folder, plan, options, pipeline)
        try:
            store.ask(todo)
            yield store
        except BaseException:
            try:
                store.close(is_complete=False)
            except StoreError as error:
                log.error("%s", error)
            raise
        store.close(is_complete=True)
