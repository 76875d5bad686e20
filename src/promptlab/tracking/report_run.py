"""The report run: one MLflow run per sweep that says what the whole sweep was.

Takes an MLflow run, a run folder and its rows; logs the resolved config, totals, throughput,
hardware, the contact sheet and the Parquet as a dataset. Repeating it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.identity import hash_id
from promptlab.store.reader import Run
from promptlab.store.storage import open_storage
from promptlab.tracking.client import BulkClient, KnownRun
from promptlab.tracking.layout import MAX_PARAM_LENGTH, param_key

REPORT_KEY = "report"
MAX_SHEET_BYTES = 50 * 2**20  # MLflow shows no larger HTML artifact
_FILES = ("sweep.yaml", "contact_sheet.png")


def log_report_run(
    client: BulkClient, mlflow_run: KnownRun, run: Run, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Log what is there of a sweep's report; the same again changes nothing."""
    client.set_tags(mlflow_run, report_tags(run.meta))
    client.log_metrics(mlflow_run, report_metrics(rows))
    client.log_dataset(
        mlflow_run,
        name=str(run.meta.get("sweep") or run.paths.name)[:500],
        digest=hash_id([[row["image_id"], row["cell_id"], row["status"]] for row in rows]),
        source=run.paths.images_parquet,
        num_rows=len(rows),
    )
    storage = open_storage(run.paths.root)
    sizes = storage.list_sizes(run.paths.root)
    for name in _FILES:
        if name in sizes:
            client.log_file(mlflow_run, name, storage.read_bytes(run.paths.join(name)))
    sheet = run.paths.index_html
    if 0 < sizes.get("index.html", 0) <= MAX_SHEET_BYTES:
        client.log_file(mlflow_run, "contact_sheet.html", storage.read_bytes(sheet))
    client.finish(mlflow_run, int(max(row["created_at"] for row in rows).timestamp() * 1000))


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
    return metrics


def report_tags(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return command, versions, git revision and hardware as tags, nested names with dots."""
    tags: dict[str, str] = {}
    for name in ("command", "versions", "git", "hardware"):
        if meta.get(name) is not None:
            _flatten(f"promptlab.{name}", meta[name], tags)
    for axis, values in meta.get("axes", {}).items():
        text = ", ".join(map(str, values))
        tags[param_key(f"promptlab.axis.{axis}")] = text[:MAX_PARAM_LENGTH]
    return tags


def _flatten(name: str, value: Any, tags: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, tags)
    else:
        tags[param_key(name)] = str(value)[:MAX_PARAM_LENGTH]
