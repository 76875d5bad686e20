"""A run finds its store from any folder and any shell, also after the project was moved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from promptlab.errors import TrackingError
from promptlab.paths import RunPaths
from promptlab.redaction import redact_text
from promptlab.run_record import RunRecord
from promptlab.tracking.location import (
    bind_run,
    database_of,
    default_artifact_root,
    experiment_of,
    options_of_run,
    read_record,
    resolve_tracking_uri,
    uri_for_mlflow,
    uri_of_run,
    write_record,
)
from promptlab.tracking.options import TrackingOptions


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    folder = tmp_path / "project" / "runs" / "r"
    folder.mkdir(parents=True)
    return RunPaths(str(folder))


@pytest.mark.parametrize("name", ["plain", "what?now", "50%41off", "a b#c", "é"])
def test_the_default_store_is_a_file_of_the_working_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    uri = resolve_tracking_uri()
    assert database_of(uri) == folder / "mlflow.db"
    assert resolve_tracking_uri(uri) == uri
    assert default_artifact_root(uri) == (folder / "mlartifacts").as_uri()
    readable = uri_for_mlflow(uri).removeprefix("sqlite:///")
    assert not set(readable) & set("?%")
    assert os.path.realpath(os.path.dirname(readable)) == str(folder)


def test_a_relative_path_is_made_absolute_and_a_query_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri("sqlite:///x.db?timeout=5") == (
        f"sqlite:///{tmp_path}/x.db?timeout=5"
    )
    assert database_of("sqlite:///x.db?timeout=5") == tmp_path / "x.db"
    assert database_of("http://host:5000") is None


def test_a_run_remembers_its_store_whatever_the_environment_is(
    run: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(run, "http://host:5000", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:1")
    monkeypatch.chdir(tmp_path)
    options = options_of_run(run, RunRecord(config={"tracking": {"image_axis": "style"}}))
    assert (options.uri, options.experiment) == ("http://host:5000", "mine")
    assert options.image_axis == "style"


def test_a_run_is_logged_again_as_it_was_laid_out_at_first(run: RunPaths) -> None:
    asked = {"image_axis": None, "log_images": False, "thumbnail_px": 64, "experiment": "mine"}
    record = RunRecord(config={"tracking": {**asked, "uri": "http://first:1", "flush_s": 3.0}})
    options = options_of_run(run, record)
    assert {name: getattr(options, name) for name in asked} == asked
    assert options.uri == "http://first:1"
    write_record(run, "http://second:2", "renamed")
    options = options_of_run(run, record)
    assert (options.uri, options.experiment) == ("http://second:2", "renamed")
    assert options_of_run(run, record, "http://given:3").uri == "http://given:3"
    assert options_of_run(run, RunRecord(config={"tracking": None})).image_axis == "subject"


def test_what_is_asked_for_comes_before_the_environment_and_that_before_a_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    assert resolve_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert experiment_of(TrackingOptions()) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    assert resolve_tracking_uri() == "http://environment:1"
    assert resolve_tracking_uri("http://given:1") == "http://given:1"
    assert experiment_of(TrackingOptions()) == "of the environment"
    assert experiment_of(TrackingOptions(experiment="given")) == "given"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"uri": "x", "of_a_newer_version": 1}'])
def test_a_record_that_cannot_be_read_is_none(run: RunPaths, text: str) -> None:
    Path(run.root, ".mlflow.json").write_text(text)
    assert read_record(run) is None


def test_a_run_is_bound_to_the_store_and_the_experiment_that_were_asked_for_last(
    run: RunPaths,
) -> None:
    first, second = "sqlite:////tmp/first.db", "http://bob:secret@host:5000"
    write_record(run, first, None, experiment_id="7")
    bind_run(run, first, None)
    assert read_record(run).experiment_id == "7", "the same again: what MLflow answered stays"
    for uri, experiment in ((first, "foxes"), (second, "foxes"), (second, None), (first, None)):
        bind_run(run, uri, experiment)
        found = read_record(run)
        assert (found.uri, found.experiment) == (redact_text(uri), experiment)
        assert found.experiment_id is None, "MLflow has not answered yet"


def test_a_project_that_was_moved_uses_its_own_database(run: RunPaths, tmp_path: Path) -> None:
    database = tmp_path / "project" / "mlflow.db"
    database.touch()
    write_record(run, f"sqlite:///{database}", None)
    assert uri_of_run(run, RunRecord()) == f"sqlite:///{database}"
    (tmp_path / "project").rename(tmp_path / "moved")
    moved = RunPaths(str(tmp_path / "moved" / "runs" / "r"))
    assert uri_of_run(moved, RunRecord()) == f"sqlite:///{tmp_path}/moved/mlflow.db"


def test_a_run_moved_away_from_its_database_uses_it_where_it_stayed(
    run: RunPaths, tmp_path: Path
) -> None:
    database = tmp_path / "project" / "mlflow.db"
    database.touch()
    write_record(run, f"sqlite:///{database}", None)
    elsewhere = tmp_path / "a" / "b" / "c" / "r"
    elsewhere.parent.mkdir(parents=True)
    Path(run.root).rename(elsewhere)
    assert uri_of_run(RunPaths(str(elsewhere)), RunRecord()) == f"sqlite:///{database}"


def test_a_run_without_a_record_uses_what_its_sweep_or_its_project_has(
    run: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert uri_of_run(run, RunRecord()) == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "project" / "mlflow.db").touch()
    assert uri_of_run(run, RunRecord()) == f"sqlite:///{tmp_path}/project/mlflow.db"
    assert uri_of_run(run, RunRecord(config={"tracking": {"uri": "http://h:1"}})) == "http://h:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:1")
    assert uri_of_run(run, RunRecord()) == "http://environment:1"


def test_a_password_is_not_recorded_and_comes_from_the_environment(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(run, "http://bob:SECRET@host:9", None)
    record = read_record(run)
    assert record is not None
    assert record.uri == "http://bob:***@host:9"
    with pytest.raises(TrackingError, match="password is not recorded"):
        uri_of_run(run, RunRecord())
    for other in ("http://bob:SECRET@elsewhere:9", "http://ann:SECRET@host:9", "sqlite:///x.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
        with pytest.raises(TrackingError, match="password is not recorded"):
            uri_of_run(run, RunRecord())  # the shell means another store
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "SECRET")
    assert uri_of_run(run, RunRecord()) == "http://host:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:SECRET@host:9")
    assert uri_of_run(run, RunRecord()) == "http://bob:SECRET@host:9"
