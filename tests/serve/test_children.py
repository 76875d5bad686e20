"""Children: plans and sweeps in processes of their own, which end with the server."""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from promptlab.cli import main
from promptlab.serve.children import Child, Children, PlanRefusedError
from promptlab.store import read_run
from tests.serve.conftest import rows_of, runs_of
from tests.store.sweeping import essence, pixels_of

GRID = ("-m", "model=paint", "tracking=null", "subject=a fox,a robot", "seeds=3")
SHOWING = "model._target_=tests.serve.models.ShowingModel"


class Heard:
    """The events of a child."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.last: dict[str, Any] = {}
        self.previews: list[Any] = []

    def wait_for(self, name: str) -> Any:
        """Return the next event of a name."""
        while True:
            event = self.events.get(timeout=60)
            self.last[event["event"]] = event
            self.previews += [event] if event["event"] == "preview" else []
            if event["event"] == name:
                return event
            assert event["event"] != "ended", event


def start(children: Children, *argv: str, **options: Any) -> tuple[Child, Heard]:
    heard = Heard()
    return children.start(argv, heard.events.put, name="1", **options), heard


def test_a_plan_says_what_would_be_drawn_and_writes_nothing(children: Children):
    planned = children.plan((*GRID, "name=plan"))
    assert (planned.num_images, planned.num_cells, planned.num_pending) == (6, 2, 6)
    assert planned.prompts == ("a fox", "a robot")
    assert "6 images" in planned.summary
    assert not runs_of("plan")
    assert children.plan((*GRID, "seeds=4")).num_images == 8


def test_a_command_line_that_cannot_be_drawn_is_refused_in_its_own_words(children: Children):
    for argv, message in {
        ("model=paint", "temperature=99"): "temperature=99",
        ("model=nobody",): "nobody",
        ("subject=a fox", "--no-such-flag"): "no such flag",
        ("--cfg", "job"): "draws nothing",
    }.items():
        with pytest.raises(PlanRefusedError, match=message):
            children.plan(argv)
    assert children.plan(GRID).num_images == 6


@pytest.mark.slow
def test_a_plan_that_takes_too_long_is_given_up(children: Children):
    with pytest.raises(PlanRefusedError, match="not ready after"):
        children.plan(GRID, timeout_s=0.0)
    assert children.plan(GRID).num_images == 6


def test_a_child_draws_what_the_command_draws(children: Children, folder: Path):
    argv = (*GRID, "name=whole", SHOWING)
    child, heard = start(children, *argv)
    planned = heard.wait_for("planned")
    assert (planned["num_images"], planned["num_pending"]) == (6, 6)
    pending = [json.loads(line) for line in Path(planned["rows"]).read_text().splitlines()]
    assert heard.wait_for("ended") == {"event": "ended", "code": 0, "error": ""}
    drawn = {"event": "drawn", "num_drawn": 6, "num_failed": 0, "num_pending": 6}
    assert heard.last["drawn"] == drawn
    assert heard.previews == []
    assert child.wait(20)
    assert "6 drawn" in (folder / ".serve/1.log").read_text()
    (run,) = runs_of("whole")
    assert Path(planned["run_folder"]) == run
    rows = rows_of(run)
    known = ("image_id", "cell_id", "seed", "subject", "prompt", "params", "arm_id", "job_id")
    assert {row["status"] for row in pending} == {"pending"}
    assert {tuple(row[name] for name in known) for row in pending} == {
        tuple(row[name] for name in known) for row in rows
    }
    record = yaml.safe_load((run / "sweep.yaml").read_text())
    assert record["argv"] == list(argv)
    assert record["workers"].keys() == {"cpu 0"}
    assert main(["sweep", *argv, "runs_dir=alone"]) == 0
    assert essence(rows) == essence(rows_of(next((folder / "alone").iterdir())))


@pytest.mark.slow
def test_an_interrupted_child_keeps_what_it_drew_and_another_resumes(children: Children):
    argv = (*GRID, "name=cut", "model.delay_s=0.1", "seeds=20", "reuse=false")
    child, heard = start(children, *argv)
    run_folder = heard.wait_for("planned")["run_folder"]
    heard.wait_for("drawn")
    child.interrupt()
    ended = heard.wait_for("ended")
    assert ended["code"] == 130
    assert "images are kept" in ended["error"]
    kept = len(rows_of(Path(run_folder)))
    assert 0 < kept < 40
    child, heard = start(children, *argv, run_folder=run_folder)
    assert heard.wait_for("planned")["num_pending"] == 40 - kept
    assert heard.wait_for("ended")["code"] == 0
    (run,) = runs_of("cut")
    assert len(rows_of(run)) == 40


@pytest.mark.slow
def test_a_child_waits_for_a_run_folder_that_another_writes(children: Children):
    argv = (*GRID, "name=twice", "model.delay_s=0.1", "seeds=8")
    _, first = start(children, *argv)
    run_folder = first.wait_for("planned")["run_folder"]
    _, second = start(children, *argv, run_folder=run_folder)
    assert first.wait_for("ended")["code"] == second.wait_for("ended")["code"] == 0
    assert second.last["planned"]["num_pending"] == 0
    assert len(runs_of("twice")) == 1


def test_an_urgent_sweep_shows_its_images_before_they_are_finished(children: Children):
    argv = (*GRID, "name=shown", SHOWING, "reuse=false", "seeds=2")
    _, heard = start(children, *argv, is_urgent=True)
    heard.wait_for("ended")
    run = read_run(str(runs_of("shown")[0]))
    rows = {row["image_id"]: row for row in run.rows()}
    assert sorted((event["image_id"], event["step"]) for event in heard.previews) == sorted(
        (image_id, step) for image_id in rows for step in (1, 2)
    )
    for event in heard.previews:
        shown = pixels_of(base64.b64decode(event["png"]))
        whole = pixels_of(run.image_bytes(event["image_id"]))
        assert (shown == whole // (4 - event["step"])).all()


def test_the_end_of_a_child_that_is_killed_is_an_event(children: Children):
    child, heard = start(children, *GRID, "name=killed", "model.delay_s=1")
    heard.wait_for("planned")
    child.kill()
    ended = heard.wait_for("ended")
    assert ended["code"] == -9
    assert "signal 9" in ended["error"]


@pytest.mark.slow
def test_a_child_that_draws_ends_at_once_when_its_server_dies(children: Children):
    child, heard = start(children, *GRID, "name=orphan", "model.delay_s=1")
    heard.wait_for("planned")
    child._close_stdin()
    assert heard.wait_for("ended")["code"] == -1


@pytest.mark.slow
def test_a_child_writes_into_the_folder_of_its_server(children: Children, folder: Path):
    runs_dir = folder / "other, 'runs'"
    elsewhere = Children(str(runs_dir), children._desk, folder / "logs")
    heard = Heard()
    elsewhere.start(GRID, heard.events.put, name="1")
    assert heard.wait_for("ended")["code"] == 0
    elsewhere.close()
    (run,) = runs_dir.iterdir()
    assert len(rows_of(run)) == 6


def test_the_server_imports_nothing_heavy():
    code = (
        "import sys, promptlab.serve.desk, promptlab.serve.runner; "
        "print([m for m in ('torch', 'mlflow', 'pandas', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
