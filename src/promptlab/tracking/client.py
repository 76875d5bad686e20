"""Writing to MLflow in bulk and only what is not there yet.

Takes run names, params, tags, metrics and encoded images; every call may be repeated and changes
nothing the second time. Knows nothing of run folders or rows.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import TrackingError
from promptlab.identity import hash_id
from promptlab.paths import slugify
from promptlab.redaction import redact, redact_text
from promptlab.tracking.connect import open_client
from promptlab.tracking.database import artifact_folder
from promptlab.tracking.pictures import local_folder, write_images
from promptlab.version import __version__

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

RUN_ID_TAG = "promptlab.run_id"  # of the run folder
ARM_TAG = "promptlab.arm_id"
KIND_TAG = "promptlab.kind"  # "arm" or "report"
NOTE_TAG = "mlflow.note.content"  # a description in Markdown
_OWN_NOTE_TAG = "promptlab.note"  # of an experiment: the hash of the description that we wrote
_SERIES_TAG = "promptlab.series"  # hash of the metrics with steps that were logged
_HASH_TAG = "promptlab.sha256."  # + artifact name: what was logged under that name
_LOGGED_ARTIFACTS_TAG = "mlflow.loggedArtifacts"
_PAGE = 1000  # runs a search returns at once


@dataclass
class KnownRun:
    """An MLflow run and what it is known to hold."""

    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifact_uri: str = ""
    started_at_ms: int = 0
    ended_at_ms: int | None = None  # None: it is not finished
    is_deleted: bool = False  # by a person, in MLflow
    is_new: bool = True


class BulkClient:
    """One MLflow experiment.

    `num_threads` encode pictures: all cores, unless somebody else is using them.
    """

    num_threads = min(4, os.cpu_count() or 1)
    thumbnail_px = 128  # longest side of the pictures that MLflow's charts show

    def __init__(
        self, uri: str, experiment: str, artifact_root: str | None, *, restore: bool = False
    ) -> None:
        self.client: MlflowClient = open_client(uri)
        self.experiment_id = self._find_experiment(experiment, artifact_root, restore)

    def _find_experiment(self, name: str, artifact_root: str | None, restore: bool) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                location = None
                if artifact_root is not None:
                    location = f"{artifact_root}/{slugify(name)}-{hash_id(name)[:8]}"
                return self.client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            if not restore:
                raise TrackingError(
                    f"The experiment {name!r} was deleted in MLflow and stays deleted, so nothing "
                    "was logged. Bring it back with `promptlab sync --restore RUN`, or name the "
                    "sweep differently (name=…)."
                )
            self.client.restore_experiment(found.experiment_id)
        folder = artifact_folder(found.artifact_location)
        if folder is not None and not folder.parent.exists():
            raise TrackingError(
                f"MLflow keeps the images of {name!r} in {folder}, which does not exist. If the "
                f"project was moved, move {folder.parent.name}/ to the new place too, beside "
                "MLflow's database."
            )
        return found.experiment_id

    def find_runs(self, run_id: str) -> dict[str, KnownRun]:
        """Return the MLflow runs of a run folder by arm: the oldest of each that is not deleted."""
        from mlflow.entities import ViewType

        runs: list[MlflowRun] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{RUN_ID_TAG}` = '{run_id}'",
                run_view_type=ViewType.ALL,
                max_results=_PAGE,
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                break
        runs.sort(key=lambda run: (run.info.lifecycle_stage != "deleted", -run.info.start_time))
        return {
            run.data.tags[ARM_TAG]: KnownRun(
                run.info.run_id,
                dict(run.data.tags),
                dict(run.data.metrics),
                run.info.artifact_uri,
                run.info.start_time,
                run.info.end_time if run.info.status == "FINISHED" else None,
                is_deleted=run.info.lifecycle_stage == "deleted",
                is_new=False,
            )
            for run in runs
            if ARM_TAG in run.data.tags
        }

    def restore_runs(self, runs: Iterable[KnownRun]) -> None:
        """Bring deleted runs back."""
        for run in runs:
            if run.is_deleted:
                self.client.restore_run(run.run_id)
                run.is_deleted = False

    def create_run(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], started_at_ms: int
    ) -> KnownRun:
        """Create a run with its params."""
        from mlflow.entities import Param

        tags = {
            "mlflow.user": _user(),
            "mlflow.source.name": "promptlab",
            "mlflow.source.type": "LOCAL",
            "promptlab.version": __version__,
            **redact(tags),
        }
        run = self.client.create_run(
            self.experiment_id, start_time=started_at_ms, tags=tags, run_name=name
        )
        pairs = [Param(key, value) for key, value in redact(params).items()]
        for start in range(0, len(pairs), 100):  # MLflow takes 100 at once
            self.client.log_batch(run.info.run_id, params=pairs[start : start + 100])
        return KnownRun(
            run.info.run_id,
            dict(tags),
            artifact_uri=run.info.artifact_uri,
            started_at_ms=started_at_ms,
        )

    def list_images(self, run: KnownRun) -> set[str]:
        """Return the artifact paths of the images that a run holds."""
        return {item.path for item in self.client.list_artifacts(run.run_id, "images")}

    def log_images(self, run: KnownRun, png_from_stem: Mapping[str, bytes]) -> None:
        """Log encoded images in the layout of `log_image`, all in one call.

        Where MLflow keeps artifacts in a folder of this machine they are written straight there,
        as its client would, which copies them from another folder: half of the time.
        """
        folder = local_folder(run.artifact_uri)
        if folder is not None:
            write_images(folder / "images", png_from_stem, self.thumbnail_px, self.num_threads)
        else:
            with tempfile.TemporaryDirectory(prefix="promptlab-") as aside:
                write_images(Path(aside), png_from_stem, self.thumbnail_px, self.num_threads)
                self.client.log_artifacts(run.run_id, aside, "images")
        self.set_tags(run, {"mlflow.loggedImages": "True"})

    def describe_experiment(self, text: str) -> None:
        """Set the experiment's description, unless a person wrote another one."""
        experiment = self.client.get_experiment(self.experiment_id)
        old = experiment.tags.get(NOTE_TAG, "")
        if old == text or (old and hash_id(old) != experiment.tags.get(_OWN_NOTE_TAG)):
            return
        self.client.set_experiment_tag(self.experiment_id, NOTE_TAG, text)
        self.client.set_experiment_tag(self.experiment_id, _OWN_NOTE_TAG, hash_id(text))

    def set_tags(self, run: KnownRun, tags: Mapping[str, str]) -> None:
        """Set the tags that the run does not have yet, or has otherwise."""
        self.log_facts(run, {}, tags)

    def log_facts(
        self, run: KnownRun, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Log the metrics and tags that the run lacks or has otherwise, all in one call."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        new_metrics = {
            key: value for key, value in metrics.items() if run.metrics.get(key) != value
        }
        new_tags = {key: value for key, value in redact(tags).items() if run.tags.get(key) != value}
        if new_metrics or new_tags:
            self.client.log_batch(
                run.run_id,
                metrics=[Metric(key, value, now, 0) for key, value in new_metrics.items()],
                tags=[RunTag(key, value) for key, value in new_tags.items()],
            )
            run.metrics.update(new_metrics)
            run.tags.update(new_tags)

    def log_series(self, run: KnownRun, series: Mapping[str, Mapping[int, float]]) -> None:
        """Log the metrics that have a value a step, unless the run has just these."""
        from mlflow.entities import Metric, RunTag

        digest = hash_id(sorted((key, sorted(steps.items())) for key, steps in series.items()))
        if not series or run.tags.get(_SERIES_TAG) == digest:
            return
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now, step)
            for key, steps in series.items()
            for step, value in sorted(steps.items())
        ]
        for start in range(0, len(metrics), 1000):  # MLflow takes 1,000 at once
            self.client.log_batch(run.run_id, metrics=metrics[start : start + 1000])
        self.client.log_batch(run.run_id, tags=[RunTag(_SERIES_TAG, digest)])
        run.tags[_SERIES_TAG] = digest

    def log_file(self, run: KnownRun, name: str, content: bytes) -> bool:
        """Log one file if its content is not there yet; return whether it was logged."""
        tags = self.put_file(run, name, content)
        self.set_tags(run, tags)
        return bool(tags)

    def put_file(self, run: KnownRun, name: str, content: bytes) -> dict[str, str]:
        """Write one file if its content is not there yet; return the tags that remember it."""
        digest = hashlib.sha256(content).hexdigest()
        if run.tags.get(_HASH_TAG + name) == digest:
            return {}
        with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            self.client.log_artifact(run.run_id, str(path))
        return {_HASH_TAG + name: digest}

    def put_table(self, run: KnownRun, name: str, table_json: str) -> dict[str, str]:
        """Write a table in the layout of `mlflow.log_table`; return the tags that belong to it."""
        tags = self.put_file(run, name, table_json.encode("utf-8"))
        logged = json.loads(run.tags.get(_LOGGED_ARTIFACTS_TAG, "[]"))
        entry = {"path": name, "type": "table"}
        if entry not in logged:
            tags[_LOGGED_ARTIFACTS_TAG] = json.dumps([*logged, entry])
        return tags

    def log_dataset(
        self, run: KnownRun, *, name: str, digest: str, source: str, num_rows: int
    ) -> None:
        """Log where a run's data lie, as a dataset."""
        from mlflow.entities import Dataset, DatasetInput

        if run.tags.get("promptlab.dataset") == digest:
            return
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type="s3" if source.startswith("s3://") else "local",
            source=json.dumps({"uri": redact_text(source)}),
            profile=json.dumps({"num_rows": num_rows}),
        )
        self.client.log_inputs(run.run_id, [DatasetInput(dataset, [])])
        self.set_tags(run, {"promptlab.dataset": digest})

    def finish(self, run: KnownRun, ended_at_ms: int) -> None:
        """Mark a run as finished at a time, in ms since 1970; later images move it."""
        if run.ended_at_ms != ended_at_ms:
            self.client.set_terminated(run.run_id, "FINISHED", ended_at_ms)
            run.ended_at_ms = ended_at_ms


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "unknown"
