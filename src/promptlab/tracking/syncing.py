"""Bringing MLflow up to date with a run folder's Parquet: all rows, or the new ones.

Takes a run folder, which alone is the truth; asks MLflow what it holds and adds what is missing.
Used as a whole by `promptlab sync` and step by step by the process that follows a sweep. Memory
holds one batch of images and one key per row. Draws nothing and writes nothing to the run folder
but its tracking lock.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from promptlab.errors import TrackingError
from promptlab.paths import RunPaths
from promptlab.redaction import redact_text
from promptlab.store.parts import Part, list_parts
from promptlab.store.reader import Run, read_run
from promptlab.store.storage import open_storage
from promptlab.tracking.arms import Arms
from promptlab.tracking.backlog import Backlog, Row, is_drawn, key_of
from promptlab.tracking.client import BulkClient
from promptlab.tracking.enlarged import ENLARGED, Parents, upscalers_of
from promptlab.tracking.explain import (
    describe_deleted,
    describe_failure,
    describe_lost,
    is_foreign,
    is_unreachable,
)
from promptlab.tracking.layout import (
    TABLE_FILE,
    Layout,
    arm_metrics,
    image_stem,
    make_layout,
    table_json,
)
from promptlab.tracking.location import (
    default_artifact_root,
    experiment_of,
    read_record,
    resolve_tracking_uri,
    write_record,
)
from promptlab.tracking.marks import hold_tracking_lock, mark_as_tracked
from promptlab.tracking.options import TrackingOptions
from promptlab.tracking.part_rows import iter_batches, read_rows, row_columns
from promptlab.tracking.picked import pick_metrics, pick_tags
from promptlab.tracking.report_run import log_report_run
from promptlab.tracking.scored import score_metrics, score_series
from promptlab.verdicts import picks, read_scores

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What MLflow holds of a run folder after a sync."""

    num_runs: int  # MLflow runs, the report run among them
    num_images: int
    num_written: int  # images that were missing
    num_lost: int = 0  # images that MLflow lacks because no file holds them any more


class Syncer:
    """One run folder and its MLflow experiment."""

    def __init__(self, run: Run, options: TrackingOptions, *, restore: bool = False) -> None:
        self._run = run
        self._storage = open_storage(run.paths.root)
        self._parts: Sequence[Part] = ()  # as last listed
        self._options = options
        self._recorded_at = self._storage.modified_at(run.paths.sweep_yaml)
        self._record = run.record
        uri = resolve_tracking_uri(options.uri)
        name = experiment_of(options) or run.sweep
        self.client = BulkClient(uri, name, default_artifact_root(uri), restore=restore)
        self.client.thumbnail_px = options.thumbnail_px
        stored = read_record(run.paths)
        if stored is None or stored.uri == redact_text(uri):  # not a sync to another store
            write_record(run.paths, uri, experiment_of(options), self.client.experiment_id)
        self._arms = Arms(self.client, run)
        if restore:
            self._arms.restore()
        self._backlog = Backlog()
        self._parents = Parents(run)

    @property
    def num_runs(self) -> int:
        """Number of MLflow runs known."""
        return self._arms.num_runs

    @property
    def num_deleted(self) -> int:
        """Number of MLflow runs that a person deleted; nothing is logged to them."""
        return self._arms.num_deleted

    @property
    def num_lost(self) -> int:
        """Number of images found to have neither bytes in Parquet nor a PNG file."""
        return len(self._backlog.lost)

    @property
    def num_missing(self) -> int:
        """Number of images of the sweep that MLflow does not hold, drawn already or not."""
        return max(0, self._record.num_images - len(self._backlog.done))

    @property
    def num_left(self) -> int:
        """Number of images in the run folder that MLflow does not hold, at most."""
        return self._backlog.num_left(self._list_parts())

    def sync_images(self, on_batch: Callable[[int], object] | None = None) -> int:
        """Log every image that MLflow does not hold; return how many those were.

        An arm that MLflow refuses does not keep the others back: the first such error is raised
        at the end. What was refused is offered again by another Syncer, not by this one.
        """
        if not self._options.log_images:
            return 0
        num_written = 0
        errors: list[Exception] = []
        while (part := self._backlog.next_part(self._list_parts())) is not None:
            layout = self._layout(part)
            for arm, rows in self._missing_rows(part, layout):
                try:
                    num_logged = self._log_arm(arm, rows, layout)
                except Exception as error:
                    if is_unreachable(error):
                        raise
                    errors.append(error)
                    continue
                num_written += num_logged
                if on_batch is not None:
                    on_batch(num_logged)
        if errors:
            raise errors[0]
        return num_written

    def _list_parts(self) -> Sequence[Part]:
        found = list_parts(self._storage, self._run.paths.images_parquet, self._parts)
        self._parts = found.parts
        return found.parts

    def _layout(self, part: Part | None = None) -> Layout:
        modified_at = self._storage.modified_at(self._run.paths.sweep_yaml)
        if modified_at != self._recorded_at:  # a stage of the sweep has begun
            self._recorded_at = modified_at
            self._run.refresh()
            self._record = self._run.record
        axes = self._run.axes if part is None else part.axes
        return make_layout(
            axes,
            self._record.axes,
            self._options.image_axis,
            self._record.subject_axes,
            upscalers_of(self._record),
        )

    def _missing_rows(self, part: Part, layout: Layout) -> Iterator[tuple[str, list[Row]]]:
        """Yield the rows of a part that MLflow lacks, arm by arm, images included."""
        try:
            for batch in self._batches(part, layout):
                yield from _group(batch, layout).items()
        except FileNotFoundError as error:
            if error.filename not in (None, part.path):
                raise
            return  # merged in the meantime: the next listing has the part that replaces it
        self._backlog.close(part)

    def _batches(self, part: Part, layout: Layout) -> Iterator[list[Row]]:
        found = read_rows(self._storage, part)
        if found is None:
            return
        rows = self._parents.adopt(found)
        self._backlog.mark_done(key_of(row) for row in rows if self._arms.has_image(row, layout))
        missing = {key_of(row) for row in self._backlog.missing(part, rows)}
        if missing:
            for batch in iter_batches(self._storage, part, rows, missing):
                yield self._parents.adopt(batch)

    def _log_arm(self, arm: str, rows: Sequence[Row], layout: Layout) -> int:
        run = self._arms.ensure(arm, rows[0], layout)
        if run.is_deleted:
            self._backlog.mark_done(map(key_of, rows))
            return 0
        png_from_stem = {}
        found = set()
        for row in rows:
            png = row["image"]["bytes"] or self._read_png(row["image"]["path"])
            if png is None:
                self._backlog.lost.add(key_of(row))
                continue
            png_from_stem[image_stem(layout.image_key(row), row)] = png
            found.add(key_of(row))
        self.client.log_images(run, png_from_stem)
        self._backlog.mark_done(found)
        return len(png_from_stem)

    def _read_png(self, path: str) -> bytes | None:
        """Return an image's PNG file by the path that its own row gives; None if it is gone."""
        try:
            return self._storage.read_bytes(self._run.paths.join(path))
        except FileNotFoundError:
            return None

    def finish(self) -> int:
        """Log metrics, tables and the report run, end the runs; return the number of images."""
        self._run.refresh()
        layout = self._layout()
        columns = row_columns(self._run.axes)
        rows = self._parents.adopt(self._run.rows(columns))
        history = picks.read_picks(self._run.paths.root)
        image_ids = list(dict.fromkeys(row["image_id"] for row in rows))
        scores = read_scores([self._run.paths.scores_parquet], image_ids)
        subjects = self._record.axes.get("subject", ())
        num_images = 0
        for arm, arm_rows in _group(rows, layout).items():
            run = self._arms.ensure(arm, arm_rows[0], layout)
            if run.is_deleted:
                continue
            num_images += sum(map(is_drawn, arm_rows))
            own = [row for row in arm_rows if not row.get(ENLARGED)]
            tags = dict(pick_tags(own, history))
            drawn = [row for row in own if is_drawn(row) and key_of(row) not in self._backlog.lost]
            if self._options.log_images and drawn:
                tags |= self.client.put_table(run, TABLE_FILE, table_json(layout, drawn))
            metrics = pick_metrics(own, history) | arm_metrics(own)
            metrics |= score_metrics(own, scores, image_ids)
            if num_enlarged := len(arm_rows) - len(own):
                metrics["enlarged"] = float(num_enlarged)
            self.client.log_facts(run, metrics, tags)
            self.client.log_series(run, score_series(own, scores, image_ids, subjects))
            seconds = sum(row["seconds"] for row in arm_rows)
            self.client.finish(run, run.started_at_ms + round(seconds * 1000))
        if rows:
            report_run = self._arms.ensure_report(rows[0], layout)
            if not report_run.is_deleted:
                log_report_run(self.client, report_run, self._run, rows)
        if not self._backlog.lost:
            mark_as_tracked(self._run.paths, self._options)
        return num_images - len(self._backlog.lost)


def _group(rows: Sequence[Row], layout: Layout) -> dict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[layout.arm_key(row)].append(row)
    return dict(groups)


def sync(
    run: str | RunPaths,
    options: TrackingOptions = TrackingOptions(),  # noqa: B008  frozen
    *,
    progress: Callable[[int], object] | None = None,
    restore: bool = False,
) -> SyncReport:
    """Bring MLflow up to date with a run folder; a second sync changes nothing.

    `progress` is called with the number of images of each batch logged. Raises TrackingError if
    MLflow cannot be reached or refuses; what was logged until then stays, and the next sync goes
    on from there. `restore` brings back what was deleted in MLflow.
    """
    opened = read_run(run)
    with hold_tracking_lock(opened.paths):
        try:
            syncer = Syncer(opened, options, restore=restore)
            num_written = syncer.sync_images(progress)
            num_images = syncer.finish()
        except TrackingError:
            raise
        except Exception as error:
            if not is_foreign(error):
                raise
            raise TrackingError(describe_failure(options, opened.paths, error)) from error
    if syncer.num_deleted:
        log.warning("%s", describe_deleted(opened.paths, syncer.num_deleted))
    if syncer.num_lost:
        log.warning("%s", describe_lost(opened.paths, syncer.num_lost))
    return SyncReport(syncer.num_runs, num_images, num_written, syncer.num_lost)
