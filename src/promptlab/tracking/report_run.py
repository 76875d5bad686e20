"""The report run: one MLflow run per sweep that says what the whole sweep was.

Takes an MLflow run, a run folder and its rows; logs the resolved config, totals, throughput,
hardware, the contact sheet and the Parquet as a dataset. Repeating it changes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.configs.quoting import join_command
from promptlab.errors import ReportError
from promptlab.identity import hash_id
from promptlab.redaction import redact, redact_text
from promptlab.run_record import RunRecord
from promptlab.store.reader import Run
from promptlab.store.storage import open_storage
from promptlab.tracking.client import NOTE_TAG, BulkClient, KnownRun
from promptlab.tracking.enlarged import upscalers_of
from promptlab.tracking.layout import MAX_PARAM_LENGTH, further_metrics, param_key

log = logging.getLogger(__name__)

REPORT_KEY = "report"
_SHEET_TAG = "promptlab.contact_sheet"  # sha256 of index.html when the sheet was logged
_FILES = ("sweep.yaml", "contact_sheet.png")


def log_report_run(
    client: BulkClient, mlflow_run: KnownRun, run: Run, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Log the parts of a sweep's report that exist; repeating it changes nothing."""
    page = f"#/experiments/{client.experiment_id}/runs/{mlflow_run.run_id}/artifacts"
    note = describe_run(run.record, page)
    client.describe_experiment(note)
    metrics = report_metrics(rows) | worker_metrics(run.record)
    client.log_facts(mlflow_run, metrics, {NOTE_TAG: note})
    client.log_dataset(
        mlflow_run,
        name=run.sweep[:500],
        digest=hash_id([[row["image_id"], row["cell_id"], row["status"]] for row in rows]),
        source=run.paths.images_parquet,
        num_rows=len(rows),
    )
    storage = open_storage(run.paths.root)
    sizes = storage.list_sizes(run.paths.root)
    for name in _FILES:
        if name in sizes:
            content = storage.read_bytes(run.paths.join(name))
            if name == "sweep.yaml":  # an older promptlab wrote it as it was
                content = redact_text(content.decode("utf-8", "replace")).encode()
            client.log_file(mlflow_run, name, content)
    _log_sheet(client, mlflow_run, run, sizes)
    seconds = sum(row["seconds"] for row in rows)
    client.finish(mlflow_run, mlflow_run.started_at_ms + round(seconds * 1000))


def _log_sheet(
    client: BulkClient, mlflow_run: KnownRun, run: Run, sizes: Mapping[str, int]
) -> None:
    """Log the contact sheet with its images inside: MLflow's frame reaches no file beside it.

    Building that takes seconds for thousands of images, so a sheet that is logged already is
    recognized by the page it was built beside.
    """
    from promptlab.report import write_standalone

    page = (
        open_storage(run.paths.root).read_bytes(run.paths.index_html)
        if ("index.html" in sizes)
        else b""
    )
    state = hashlib.sha256(page).hexdigest()
    if not page or mlflow_run.tags.get(_SHEET_TAG) == state:
        return
    with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
        path = Path(folder, "contact_sheet.html")
        try:
            is_written = write_standalone(run.paths.root, path) is not None
        except ReportError as error:  # the rest of the tracking is worth more than the sheet
            log.warning("No contact sheet for MLflow: %s", error)
            return
        if is_written:
            client.log_file(mlflow_run, path.name, path.read_bytes())
    client.set_tags(mlflow_run, {_SHEET_TAG: state})


def report_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return totals and throughput; the time is that of drawing, summed over all images."""
    drawn = [row for row in rows if row["status"] != "failed"]
    seconds = sum(row["seconds"] for row in drawn)
    metrics = {
        "images": float(len(drawn)),
        "failures": float(len(rows) - len(drawn)),
        "flagged": float(sum(row["status"] == "flagged" for row in rows)),
        "cells": float(len({row["cell_id"] for row in rows})),
        "arms": float(len({row["arm_id"] for row in rows})),
        "drawing_seconds": float(seconds),
    }
    if seconds > 0:
        metrics["images_per_second"] = len(drawn) / seconds
    return metrics | further_metrics(rows)


def worker_metrics(record: RunRecord) -> dict[str, float]:
    """Return what each worker did, if the record tells."""
    return {
        param_key(f"worker.{name}.{fact}"): float(value)
        for name, share in record.workers.items()
        for fact, value in dataclasses.asdict(share).items()
    }


def report_params(record: RunRecord, fixed: Mapping[str, str]) -> dict[str, str]:
    """Return what the whole sweep has in common: MLflow shows params whole, and cuts tags."""
    facts = record.to_plain()
    params = dict(fixed)
    for name in ("command", "versions", "git", "hardware"):
        if facts[name]:
            _flatten(name, facts[name], params)
    for axis, values in record.axes.items():
        _flatten(f"axis.{axis}", ", ".join(map(str, values)), params)
    return params


def _flatten(name: str, value: Any, params: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, params)
    else:
        text = shlex.join(map(str, value)) if isinstance(value, list) else str(value)
        params[param_key(name)] = text[:MAX_PARAM_LENGTH]


def describe_run(record: RunRecord, report_page: str) -> str:
    """Return what a sweep is, in Markdown: its axes, its command, and where its sheet is."""
    upscalers = upscalers_of(record)
    models = [name for name in record.axes.get("model", ()) if name not in upscalers]
    axes = {**record.axes, "model": models}
    sizes = [f"{len(values):,} × {axis}" for axis, values in axes.items() if len(values) > 1]
    number = f"{record.num_images:,} images{', enlarged ones among them' if upscalers else ''}"
    lines = [f"{', '.join(sizes) or 'One cell'}: {number}."]
    if record.command:
        lines.append(f"    {join_command(redact(list(record.command)))}")
    lines.append(
        f"[The contact sheet is an artifact of the run `report`.]({report_page}) In the chart view "
        "each card is one image axis value with all runs side by side; its slider is the seed."
    )
    return "\n\n".join(lines)
