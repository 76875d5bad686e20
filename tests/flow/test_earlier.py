"""An earlier run gives its plan back, and may have grown since its command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promptlab.errors import StoreError
from promptlab.flow.drawing import Drawing
from promptlab.flow.earlier import plan_of_run, recorded_arguments
from promptlab.flow.sources import Sources
from promptlab.paths import RunPaths
from promptlab.run_record import RunRecord
from promptlab.store import StoreOptions, open_store, read_run
from promptlab.workers.opening import ThisProcess
from tests.conftest import Project

GRID = ("-m", "subject=a fox,a {red|blue} robot", "style=noto,openmoji", "seeds=2")


def test_the_plan_of_a_run_is_the_one_that_was_drawn(project: Project):
    project.run("sweep", *GRID)
    plan, jobs = plan_of_run(str(project.runs[0]))
    assert len(jobs) == 4
    assert plan.sweep_id == read_run(str(project.runs[0])).record.sweep_id
    assert {cell.cell_id for cell in plan.cells} == {row["cell_id"] for row in project.rows()}


def test_a_run_that_was_extended_is_still_the_run_of_its_command(project: Project):
    project.run("sweep", *GRID)
    run = str(project.runs[0])
    plan, _ = plan_of_run(run)
    more = replace(plan.cells[0], seeds=(90, 91))
    with open_store(RunPaths(run), plan, StoreOptions(reuse=False)) as store:
        store.extend([more])
        drawing = Drawing(plan, store, Sources("runs"), ThisProcess())
        drawing.draw()
        assert drawing.session.num_drawn == 2
    assert len(project.rows()) == 14
    assert "12 already here, nothing to do" in project.run("sweep", *GRID).out
    assert [str(path) for path in project.runs] == [run]
    assert len(project.rows()) == 14


def test_picks_of_a_single_cell_are_input_like_those_of_a_grid(project: Project):
    project.run("sweep", "subject=a fox", "seeds=2")
    image_id = project.rows()[0]["image_id"]
    project.run("pick", image_id, "--favourite")
    again = ("sweep", "--from-picks", str(project.runs[-1]), "seeds=3")
    assert "limit=3" in project.run(*again, "limit=2").err, "of what descends from them"
    assert len(project.runs) == 1
    done = project.run(*again, "limit=3")
    assert done.code == 0, done.err
    assert [row["seed"] for row in project.rows()] == [2, 3, 4]


SECRETIVE = ("model.api_key=***", "tracking.uri=http://bob:***@host", "subject=a fox")


def recorded_run(tmp_path, argv) -> str:
    """Return a run folder whose record has these arguments."""
    (tmp_path / "sweep.yaml").write_text(RunRecord(argv=argv).to_yaml())
    return str(tmp_path)


def test_a_run_that_does_not_say_how_it_began_is_one_message(tmp_path):
    with pytest.raises(StoreError, match="does not say which command began it"):
        recorded_arguments(recorded_run(tmp_path, None))
    assert recorded_arguments(recorded_run(tmp_path, ())) == []


def test_arguments_without_their_credentials_are_left_out_and_asked_for_to_resume(tmp_path):
    run = recorded_run(tmp_path, SECRETIVE)
    assert recorded_arguments(run) == ["subject=a fox"]
    with pytest.raises(StoreError, match=r"model\.api_key=\*\*\* was recorded without"):
        recorded_arguments(run, [])
    with pytest.raises(StoreError, match=r"tracking\.uri=http"):
        recorded_arguments(run, ["+model.api_key=key"])
    given = ["+model.api_key=key", "tracking.uri=http://there"]
    assert recorded_arguments(run, given) == ["subject=a fox"]


def test_workers_that_are_given_replace_those_that_began_the_run_whole(tmp_path):
    run = recorded_run(tmp_path, ("workers=slurm", "+workers.partition=a", "subject=workers=2"))
    assert recorded_arguments(run, ["workers=processes"]) == ["subject=workers=2"]
    assert recorded_arguments(run, ["++workers.count=2"]) == ["subject=workers=2"]
    for given in ([], ["subject=workers"], ["workersize=2"]):
        assert len(recorded_arguments(run, given)) == 3
