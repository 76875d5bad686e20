"""The MLflow runs of a run folder: one for each arm, and the report run.

Takes rows and their layout; finds an arm's run or creates it, and says which images an earlier
process logged to it. Logs no image and no metric, and reads of the run folder its record only.
"""

from __future__ import annotations

from datetime import UTC, datetime

from promptlab.identity import hash_id
from promptlab.store.reader import Run
from promptlab.tracking.backlog import Row, is_drawn
from promptlab.tracking.client import ARM_TAG, KIND_TAG, RUN_ID_TAG, BulkClient, KnownRun
from promptlab.tracking.layout import Layout, full_image, image_stem, small_image
from promptlab.tracking.report_run import REPORT_KEY, report_params

FIXED_TAG = "promptlab.param."  # + name: an axis or parameter that does not vary


class Arms:
    """The MLflow runs of one run folder, by arm."""

    def __init__(self, client: BulkClient, run: Run) -> None:
        self._client = client
        self._run = run
        self._run_id = run.record.run_id or hash_id(run.paths.name)
        self._runs = client.find_runs(self._run_id)
        self._held_images: dict[str, set[str]] = {}  # by arm; of runs that were there before us

    @property
    def num_runs(self) -> int:
        """Number of MLflow runs that are not deleted."""
        return len(self._runs) - self.num_deleted

    @property
    def num_deleted(self) -> int:
        """Number of MLflow runs that a person deleted; nothing is logged to them."""
        return sum(run.is_deleted for run in self._runs.values())

    def restore(self) -> None:
        """Bring the deleted runs back."""
        self._client.restore_runs(self._runs.values())

    def has_image(self, row: Row, layout: Layout) -> bool:
        """Tell whether an earlier process logged a row's image."""
        arm = layout.arm_key(row)
        run = self._runs.get(arm)
        if run is None or run.is_new or run.is_deleted or not is_drawn(row):
            return False
        if arm not in self._held_images:
            self._held_images[arm] = self._client.list_images(run)
        stem = image_stem(layout.image_key(row), row)
        return {full_image(stem), small_image(stem)} <= self._held_images[arm]

    def ensure(self, arm: str, row: Row, layout: Layout) -> KnownRun:
        """Return the run of an arm, created with what one of its rows says if there is none."""
        if arm not in self._runs:
            fixed = {FIXED_TAG + name: text for name, text in layout.fixed(row).items()}
            self._runs[arm] = self._client.create_run(
                layout.run_name(row),
                layout.params(row),
                self._tags(arm, "arm") | fixed,
                self._started_at_ms(row, layout.position(row)),
            )
        return self._runs[arm]

    def ensure_report(self, row: Row, layout: Layout) -> KnownRun:
        """Return the report run, created if there is none; `row` is the sweep's first."""
        if REPORT_KEY not in self._runs:
            self._runs[REPORT_KEY] = self._client.create_run(
                "report",
                report_params(self._run.record, layout.fixed(row)),
                self._tags(REPORT_KEY, "report"),
                self._started_at_ms(row, layout.num_positions),  # below the arms
            )
        return self._runs[REPORT_KEY]

    def _tags(self, arm: str, kind: str) -> dict[str, str]:
        return {
            RUN_ID_TAG: self._run_id,
            "promptlab.sweep_id": self._run.record.sweep_id,
            "promptlab.run_folder": self._run.paths.root,
            ARM_TAG: arm,
            KIND_TAG: kind,
        }

    def _started_at_ms(self, row: Row, position: int) -> int:
        """Return when a run is said to start: when the sweep began, the first arm last.

        MLflow lists runs by their start, the latest first; so they stand in the sweep's order.
        """
        began = self._run.record.created_at
        moment = datetime.fromisoformat(began) if began else row["created_at"]
        return int(moment.astimezone(UTC).timestamp() * 1000) - position
