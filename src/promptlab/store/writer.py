"""The store: takes results, leaves PNG files and Parquet parts, the record of truth.

Takes a plan and the results of its requests in any order; knows what of the plan is done and
which cells wait for which image, and gives each its row. An image counts once its PNG and its
part are on disk. Knows no model, no MLflow and no page.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from promptlab import __version__
from promptlab.errors import StoreError
from promptlab.identity import canonical_json
from promptlab.paths import RunPaths, image_path
from promptlab.planning.plan import Plan
from promptlab.records import Cell, ImageRow, Request, Result, Scalar
from promptlab.store.folder import RunFolder, explained
from promptlab.store.index import Counts
from promptlab.store.lock import hold_lock
from promptlab.store.pipeline import FinishedRow, Pipeline, QueuedImage
from promptlab.store.reuse import KEPT_COLUMNS, FoundImage, read_images
from promptlab.store.schema import axis_columns
from promptlab.store.storage import open_storage
from promptlab.store.todo import StoreOptions, find_reusable, open_requests

log = logging.getLogger(__name__)

MAX_FAILURES_KEPT = 20  # for the summary; all are in images.parquet


class Store:
    """One run folder, open for writing; made by `open_store`."""

    def __init__(
        self, folder: RunFolder, plan: Plan, options: StoreOptions, meta: Mapping[str, Any]
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._options = options
        self._failures: list[tuple[str, str]] = []
        folder.axes = axis_columns(_axis_values(plan.cells), folder.axes)
        self.meta = folder.write_meta({**meta, **_describe(plan)})
        todo = open_requests(plan, folder.index, retry_failed=options.retry_failed)
        self.num_done = todo.num_done
        self._waiting = todo.waiting
        self._requests = todo.requests
        self._pipeline = Pipeline(
            self._write_batch, batch_rows=options.part_rows, flush_s=options.flush_s
        )
        self.num_reused = 0

    def take_reusable(self) -> None:
        """Copy the rows and bytes of images that are there already."""
        for found in find_reusable(self._folder.paths, self._options, set(self._waiting)):
            for image in read_images(found):
                image_id = image.columns["image_id"]
                waiting = self._waiting.pop(image_id)
                for requests in self._requests.values():
                    requests.pop(image_id, None)
                rows = tuple(self._reused_row(cell, seed, image) for cell, seed in waiting)
                self.num_reused += len(rows)
                self._pipeline.put(QueuedImage(rows, png=image.png))

    def pending(self, model_key: str) -> Sequence[Request]:
        """Return what one model has to draw: each image once, in the plan's order."""
        return list(self._requests[model_key].values())

    @property
    def num_pending(self) -> int:
        """Number of images still to draw."""
        return len(self._waiting)

    @property
    def counts(self) -> Counts:
        """The rows on disk by status."""
        return self._folder.index.counts

    @property
    def failures(self) -> Sequence[tuple[str, str]]:
        """(image_id, reason) of the first images of this session that failed or are flagged."""
        return tuple(self._failures)

    def add(self, result: Result) -> None:
        """Give every cell that waits for this image its row; returns before it is on disk.

        Raises StoreError once writing has failed; what was acknowledged before stays.
        """
        request = result.request
        waiting = self._waiting.pop(request.image_id, None)
        if waiting is None:
            raise StoreError(
                f"Expected a result that is pending, got image {request.image_id} "
                f"(seed {request.seed}), which is not in the plan or already stored."
            )
        cell = waiting[0][0]
        self._requests[cell.model_key].pop(request.image_id, None)
        if result.status != "ok" and len(self._failures) < MAX_FAILURES_KEPT:
            self._failures.append((request.image_id, result.error or result.flag or ""))
        rows = tuple(self._row(other, seed, result) for other, seed in waiting)
        # A model may draw the next image into the same array while this one is encoded.
        pixels = None if result.pixels is None else np.array(result.pixels)
        params_line = self._plan.models[cell.model_key].model.a1111(request.params)
        self._pipeline.put(QueuedImage(rows, pixels, self._facts(cell, request), params_line))

    def flush(self) -> None:
        """Return when everything added is on disk."""
        self._pipeline.flush()

    def close(self, *, is_complete: bool) -> None:
        """Write what was added; compact if the run ended well."""
        self._pipeline.close()
        if is_complete:
            self._folder.compact()

    def _write_batch(self, batch: Sequence[FinishedRow]) -> None:
        self._folder.write(batch, embed_images=self._options.embed_images)

    def _row(self, cell: Cell, seed: int, result: Result) -> ImageRow:
        numerics = self._plan.models[cell.model_key].numerics
        image_id = result.request.image_id
        return ImageRow(
            **self._cell_columns(cell, seed),
            image_id=image_id,
            status=result.status,
            error=result.error or result.flag,
            width=None,
            height=None,
            path=None if result.pixels is None else image_path(cell.prompt, seed, image_id),
            sha256=None,
            prompt_truncated=result.is_prompt_truncated,
            unseen=result.unseen,
            seconds=float(result.seconds),
            batch_size=result.batch_size,
            device=numerics.device,
            dtype=numerics.dtype,
            created_at=datetime.now(UTC).isoformat(),
            parent_ids=cell.parent_ids,
        )

    def _reused_row(self, cell: Cell, seed: int, image: FoundImage) -> ImageRow:
        kept = {name: image.columns[name] for name in KEPT_COLUMNS}
        kept["path"] = image_path(cell.prompt, seed, kept["image_id"])
        kept["created_at"] = kept["created_at"].isoformat()
        kept["parent_ids"] = cell.parent_ids or tuple(kept["parent_ids"] or ())
        return ImageRow(**self._cell_columns(cell, seed), **kept)

    def _cell_columns(self, cell: Cell, seed: int) -> dict[str, Any]:
        return {
            "cell_id": cell.cell_id,
            "sweep": self._plan.sweep,
            "job_id": cell.job_id,
            "subject": cell.subject,
            "style": cell.style,
            "template": cell.template,
            "prompt": cell.prompt,
            "seed": seed,
            "model": cell.model,
            "model_fingerprint": self._plan.models[cell.model_key].model.fingerprint,
            "arm_id": cell.arm_id,
            "axes": cell.axes,
            "params": canonical_json(dict(cell.params)),
        }

    def _facts(self, cell: Cell, request: Request) -> dict[str, Any]:
        """Return what the PNG carries: nothing that differs when it is drawn again."""
        planned = self._plan.models[cell.model_key]
        return {
            "promptlab_version": __version__,
            "image_id": request.image_id,
            "prompt": request.prompt,
            "seed": request.seed,
            "params": dict(request.params),
            "model": planned.model.name,
            "model_fingerprint": planned.model.fingerprint,
            "dtype": planned.numerics.dtype,
            "subject": cell.subject,
            "style": cell.style,
            "template": cell.template,
            "axes": dict(cell.axes),
        }


def _axis_values(cells: Sequence[Cell]) -> dict[str, dict[Scalar, None]]:
    """Return the distinct values of every further axis, in order of appearance."""
    values: defaultdict[str, dict[Scalar, None]] = defaultdict(dict)
    for cell in cells:
        for name, value in cell.axes.items():
            values[name][value] = None
    return values


def _describe(plan: Plan) -> dict[str, Any]:
    return {
        "sweep": plan.sweep,
        "sweep_id": plan.sweep_id,
        "num_cells": len(plan.cells),
        "num_images": plan.num_images,
        "axes": {axis.name: list(axis.values) for axis in plan.axes},
        "models": {
            key: {
                "option": planned.option,
                "name": planned.model.name,
                "fingerprint": planned.model.fingerprint,
                "dtype": planned.numerics.dtype,
                "device": planned.numerics.device,
                "image_size": list(planned.model.image_size),
                "is_deterministic": planned.model.is_deterministic,
            }
            for key, planned in plan.models.items()
        },
    }


@contextlib.contextmanager
def open_store(
    paths: RunPaths,
    plan: Plan,
    options: StoreOptions = StoreOptions(),  # noqa: B008  frozen
    *,
    meta: Mapping[str, Any] | None = None,
    on_part: Callable[[str], None] | None = None,
) -> Iterator[Store]:
    """Open a run folder for writing, new or begun; on leaving, everything added is on disk.

    `meta` goes into sweep.yaml; `on_part` is told the path of each part once it is there.
    Raises RunLockedError while another process writes the folder, StoreError if it cannot be
    written. When the block is left by an exception, Ctrl-C included, what was added is written.
    """
    storage = open_storage(paths.root)
    with contextlib.ExitStack() as stack:
        with explained(paths):
            storage.make_folder(paths.root)
            stack.enter_context(hold_lock(paths.lock))
            folder = RunFolder(storage, paths, on_part=on_part)
            store = Store(folder, plan, options, meta or {})
        try:
            store.take_reusable()
            yield store
        except BaseException:
            try:
                store.close(is_complete=False)
            except StoreError as error:
                log.error("%s", error)
            raise
        store.close(is_complete=True)
