"""The report run says what the whole sweep was, in figures and in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from promptlab.run_record import ModelRecord, RunRecord
from promptlab.tracking import TrackingOptions, sync
from promptlab.tracking.report_run import describe_run, report_metrics, report_params
from tests.report.runs import make_run
from tests.tracking.holding import make_database

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def test_totals_count_what_was_drawn_and_the_time_of_drawing_alone() -> None:
    rows = [
        {"cell_id": cell, "arm_id": arm, "status": status, "seconds": seconds}
        for cell, arm, status, seconds in (
            ("a", "1", "ok", 1.0),
            ("a", "1", "flagged", 3.0),
            ("b", "1", "failed", 100.0),
            ("c", "2", "ok", 4.0),
        )
    ]
    assert report_metrics(rows) == {
        "images": 3.0,
        "failures": 1.0,
        "flagged": 1.0,
        "cells": 3.0,
        "arms": 2.0,
        "drawing_seconds": 8.0,
        "images_per_second": 0.375,
    }
    assert "images_per_second" not in report_metrics(rows[2:3])


def test_params_are_the_facts_of_the_record_the_axes_and_what_does_not_vary() -> None:
    record = RunRecord(
        command=("promptlab", "sweep", "subject=a fox"),
        versions={"torch": "2.9"},
        hardware={"cpu": {"cores": 2}},
        axes={"style": ("noto", "x"), "temperature": (0.5, 2.0)},
    )
    assert report_params(record, {"model": "tiny"}) == {
        "model": "tiny",
        "command": "promptlab sweep 'subject=a fox'",
        "versions.torch": "2.9",
        "hardware.cpu.cores": "2",
        "axis.style": "noto, x",
        "axis.temperature": "0.5, 2.0",
    }


def test_a_description_has_what_varies_and_a_command_without_its_credential() -> None:
    record = RunRecord(
        command=("promptlab", "sweep", "tracking.uri=http://bob:SECRET@host", "subject=a fox"),
        num_images=1234,
        axes={"style": ("noto", "x"), "subject": ("a fox",), "model": ("tiny", "mini")},
        models={name: ModelRecord(name=name) for name in ("tiny", "mini")},
    )
    note = describe_run(record, "#/page")
    assert note.startswith("2 × style, 2 × model: 1,234 images.")
    assert "SECRET" not in note
    assert "subject='a fox'" in note
    assert "(#/page)" in note


def test_a_sheet_that_was_built_again_is_logged_again_and_the_same_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_run(tmp_path / "a", subjects=["a fox"], styles=["noto"])
    options = TrackingOptions(uri=make_database(tmp_path), log_images=False)
    built: list[str] = []

    def write(root: str, path: Path) -> Path:
        built.append(Path(root, "index.html").read_text())
        path.write_text(built[-1])
        return path

    monkeypatch.setattr("promptlab.report.write_standalone", write)
    for page in ("first", "first", "second"):
        Path(root, "index.html").write_text(page)
        sync(root, options)
    assert built == ["first", "second"]
    (sheet,) = tmp_path.rglob("contact_sheet.html")
    assert sheet.read_text() == "second"
    client = MlflowClient(tracking_uri=options.uri)
    (run,) = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags["promptlab.kind"] == "report"
    ]
    logged = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"sweep.yaml", "contact_sheet.html"} <= logged
    assert re.fullmatch("[0-9a-f]{64}", run.data.tags["promptlab.contact_sheet"])
