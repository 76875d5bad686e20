"""`promptlab ui` shows a run's store, makes none, and ends with all of its processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.paths import RunPaths
from promptlab.tracking.location import write_record
from promptlab.tracking.view import chart_address, describe_view
from tests.conftest import Project
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan
from tests.tracking.holding import make_database

STARTING_S = 300


@pytest.fixture
def tracked(project: Project) -> RunPaths:
    """A run in a database of the working directory, in experiment 7."""
    paths = RunPaths(str(project.path / "runs" / "2026-11-22_22-00-00_test"))
    draw_plan(paths, make_plan())
    write_record(paths, make_database(project.path), None, "7")
    return paths


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started_by(marker: str) -> list[int]:
    """Return the processes whose environment holds a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            is_zombie = ") Z " in (folder / "stat").read_text()
        except OSError:
            continue
        if marker.encode() in environment and not is_zombie:
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.slow
def test_a_terminated_ui_leaves_no_process_and_no_port_behind(project, tracked):
    port = free_port()
    ui = project.start("ui", "--port", str(port))
    marker = f"MLFLOW_BACKEND_STORE_URI=sqlite:///{project.path}"
    try:
        wait_until_healthy(port, ui)
        assert started_by(marker)
        ui.send_signal(signal.SIGTERM)
        output, _ = ui.communicate(timeout=60)
    finally:
        ui.terminate()  # not a kill, which would leave MLflow running
        ui.communicate()
    assert started_by(marker) == []
    with socket.create_server(("127.0.0.1", port)):  # closed connections may still wait there
        pass
    assert chart_address(f"http://127.0.0.1:{port}", "7") in output


def wait_until_healthy(port, process):
    give_up_at = time.monotonic() + STARTING_S
    while time.monotonic() < give_up_at:
        assert process.poll() is None, process.communicate()[1][-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("MLflow did not start")


def test_a_port_that_does_not_exist_or_is_taken_is_one_message(project, tracked, capsys):
    assert main(["ui", "--port", "99999"]) == 1
    assert "--port 99999: expected a number from 1 to 65535" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 1
    assert f"--port {port + 1}" in capsys.readouterr().err


def test_a_database_that_does_not_exist_is_not_made(project, capsys):
    assert main(["ui", "--uri", "sqlite:///nosuch.db"]) == 1
    assert f"There is no MLflow database {project.path}/nosuch.db" in capsys.readouterr().err
    assert main(["ui"]) == 1
    assert not list(project.path.glob("*.db"))


def test_a_server_is_named_with_the_chart_of_the_run(project, tracked, monkeypatch, capsys):
    write_record(tracked, "http://ann:SECRET@host:5000", None, "12")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:SECRET@host:5000")
    assert main(["ui"]) == 0
    said = capsys.readouterr().out
    assert "http://ann:***@host:5000/#/experiments/12/runs?" in said
    assert "compareRunsMode=CHART" in said


def test_the_end_of_a_sweep_says_how_to_look_at_it(tracked):
    command, address = describe_view(tracked)
    assert command == f"promptlab ui {tracked.root}"
    assert address == chart_address("http://127.0.0.1:5000", "7")
    assert describe_view(RunPaths("runs/none")) == []


def test_the_ui_of_a_run_is_found_from_another_folder(project, tracked, tmp_path, monkeypatch):
    from promptlab.commands.ui import _find_store

    monkeypatch.chdir(os.sep)
    arguments = type("Arguments", (), {"folder": tracked.root, "uri": None, "runs_dir": "runs"})
    assert _find_store(arguments) == (f"sqlite:///{project.path}/mlflow.db", "7")
