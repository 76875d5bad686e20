"""What becomes of a sweep: its errors by job, why it ended early, and its sheet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from promptlab.errors import (
    BudgetSpentError,
    ModelLostError,
    PlanOutdatedError,
    ReportError,
    SweepInterruptedError,
)
from promptlab.flow import sweep
from promptlab.flow.enlarging import Enlarging
from promptlab.flow.summary import Session
from promptlab.flow.sweep import errors_by_job, raise_if_ended_early, write_sheet
from promptlab.models.protocol import Parameter
from promptlab.models.registry import open_model
from promptlab.paths import RunPaths
from promptlab.planning.plan import PlannedModel
from promptlab.records import Request, Result, Scalar
from promptlab.report import ReportOptions
from promptlab.store import Counts
from tests.conftest import PAINT, Project
from tests.painters import PaintModel
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan

PATHS = RunPaths("runs/one")


def test_each_job_is_told_of_its_own_failures():
    plan = make_plan()
    fox, _, robot, _ = plan.cells
    ids = {
        (cell.job_id, seed): plan.request(cell, seed).image_id
        for cell in plan.cells
        for seed in cell.seeds
    }
    failed = {ids[fox.job_id, 0]: "dark", ids[fox.job_id, 1]: "odd", ids[robot.job_id, 1]: "loud"}
    assert errors_by_job(plan, Session(errors=failed)) == {
        fox.job_id: "2 images of 'a fox, noto' could not be drawn: dark",
        robot.job_id: "1 image of 'a robot, noto' could not be drawn: loud",
    }
    assert errors_by_job(plan, Session()) == {}


@pytest.mark.parametrize(
    ("early", "kind", "message"),
    [
        ({"model_lost": "CUDA error"}, ModelLostError, r"CUDA error.*5 of 8 images are kept"),
        ({"is_interrupted": True}, SweepInterruptedError, "5 of 8 images are kept"),
        ({"budget_spent": {"paid": "next costs $1"}}, BudgetSpentError, r"paid: next costs \$1"),
        ({"is_interrupted": True, "model_lost": "gone"}, ModelLostError, "gone"),
        ({"is_interrupted": True, "budget_spent": {"a": "b"}}, SweepInterruptedError, "5 of 8"),
    ],
)
def test_a_sweep_that_ended_early_raises_why(early, kind, message):
    with pytest.raises(kind, match=message) as raised:
        raise_if_ended_early(make_plan(), Session(**early), Counts(5), PATHS)
    assert type(raised.value) is kind


def test_a_sweep_that_tried_everything_raises_nothing():
    session = Session(errors={"0" * 16: "dark"}, is_plan_outdated=False)
    raise_if_ended_early(make_plan(), session, Counts(8), PATHS)


@pytest.fixture
def run(tmp_path) -> RunPaths:
    paths = RunPaths(str(tmp_path / "one"))
    draw_plan(paths, make_plan(("a fox",), ("noto",), (0,)))
    return paths


def test_a_sheet_is_built_anew_where_there_are_new_images_or_none_yet(run):
    options = ReportOptions(png=False)
    assert write_sheet(run, options, is_new=False) == [run.index_html]
    os.utime(run.index_html, (0, 0))
    assert write_sheet(run, options, is_new=False) == [run.index_html]
    assert os.stat(run.index_html).st_mtime == 0, "without new images the old sheet stays"
    Path(run.contact_sheet_png).write_bytes(b"old")
    assert write_sheet(run, options, is_new=False) == [run.index_html, run.contact_sheet_png]
    assert write_sheet(run, options, is_new=True)[0] == run.index_html
    assert os.stat(run.index_html).st_mtime > 0


def test_a_sheet_that_fails_is_a_warning(run, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ReportError("no room for it")

    monkeypatch.setattr(sweep, "write_contact_sheet", fail)
    assert write_sheet(run, ReportOptions(), is_new=True) == []
    assert "No contact sheet: no room for it" in caplog.text


@pytest.mark.parametrize(("per_cell", "num_images"), [(None, 12), (1, 4), (2, 8), (5, 12)])
def test_at_most_so_many_images_of_a_cell_are_enlarged_as_it_has(per_cell, num_images):
    planned = PlannedModel.of(
        open_model({"_target_": "promptlab.models.upscalers.open_lanczos"}), "lanczos"
    )
    enlarging = Enlarging(planned, {"scale": 4}, per_cell)
    assert enlarging.count(make_plan(seeds=(0, 1, 2))) == num_images
    which = {None: "", 1: ", the first of each cell"}.get(
        per_cell, f", the first {per_cell} of each cell"
    )
    assert enlarging.describe(1) == f"1 image to enlarge 4× by lanczos{which}"


class Shrinking(PaintModel):
    """Finds before it draws that its batches do not fit, and chooses smaller ones then."""

    batch: ClassVar[int] = 8

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """A batch that the model chooses by itself, beside the others."""
        return {**super().parameters, "padded_batch": Parameter(int, None, 1, 64)}

    def settle(self, params: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Return the parameters with the batch that is chosen."""
        return {**params, "padded_batch": params["padded_batch"] or Shrinking.batch}

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Draw small batches, or none."""
        if Shrinking.batch == 8:
            Shrinking.batch = 4
            raise PlanOutdatedError("smaller batches are planned")
        yield from super().draw(requests)


def test_a_sweep_whose_plan_does_not_fit_is_planned_anew_in_the_same_folder(project: Project):
    Shrinking.batch = 8
    text = PAINT.replace("tests.painters.PaintModel", "tests.flow.test_outcome.Shrinking")
    project.write("conf/model/paint.yaml", f"{text.format(name='paint')}padded_batch: null\n")
    done = project.run("sweep", "subject=a fox", "seeds=6", "reuse=false")
    assert done.code == 0, done.err
    assert "smaller batches are planned" in done.out + done.err
    assert len(project.runs) == 1
    assert [json.loads(row["params"])["padded_batch"] for row in project.rows()] == [4] * 6
