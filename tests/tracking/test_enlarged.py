"""An enlarged image is logged to the run of the image that it enlarges."""

from __future__ import annotations

import mlflow
import pytest

from promptlab.run_record import ModelRecord, RunRecord
from promptlab.store import read_run
from promptlab.tracking import TrackingOptions, sync
from promptlab.tracking.enlarged import ENLARGED, Parents, upscalers_of
from promptlab.tracking.report_run import describe_run
from tests.conftest import Project


class Rows:
    """A run folder that has a record and rows."""

    def __init__(self, rows: list[dict[str, object]]) -> None:
        models = {
            "lanczos": ModelRecord(name="lanczos", needs_source=True),
            "paint": ModelRecord(name="paint"),
        }
        self.record = RunRecord(models=models)
        self._rows = rows

    def rows(self, columns: list[str]) -> list[dict[str, object]]:
        return [{name: row[name] for name in columns} for row in self._rows]


def test_parents_that_were_drawn_later_are_found_and_strangers_stay_by_themselves() -> None:
    def row(image_id: str, model: str, source_id: str | None = None) -> dict[str, object]:
        arm = f"arm of {image_id}"
        return {"image_id": image_id, "arm_id": arm, "model": model, "params": "{}"} | {
            "source_id": source_id
        }

    rows = [row("p1", "paint"), row("v1", "paint", "p1")]
    parents = Parents(Rows(rows))
    first = parents.adopt([row("e1", "lanczos", "p1")])
    rows.append(row("p2", "paint"))
    later = parents.adopt([row("e2", "lanczos", "p2"), row("e3", "lanczos", "elsewhere"), rows[1]])
    assert [each["arm_id"] for each in first + later] == [
        "arm of p1",
        "arm of p2",
        "arm of e3",
        "arm of v1",  # drawn from another image, but by a model that draws
    ]
    assert [ENLARGED in each for each in first + later] == [True, True, False, False]
    assert [each["model"] for each in later] == ["paint", "lanczos", "paint"]


def test_a_sweep_that_only_enlarges_has_its_upscaler_as_its_model() -> None:
    enlarges = {"lanczos": ModelRecord(name="lanczos", needs_source=True)}
    assert upscalers_of(RunRecord(models=enlarges)) == frozenset()
    draws = {**enlarges, "paint": ModelRecord(name="paint")}
    assert upscalers_of(RunRecord(models=draws)) == {"lanczos"}


@pytest.fixture
def arms(project: Project) -> list[mlflow.entities.Run]:
    """The arms of a sweep of two styles, two seeds each, the first of each cell enlarged."""
    enlarged = "upscale={model: lanczos, per_cell: 1}"
    done = project.run("sweep", "-m", "subject=a fox", "style=noto,openmoji", "seeds=2", enlarged)
    assert done.code == 0, done.err
    options = TrackingOptions(uri=f"sqlite:///{project.path}/mlflow.db")
    sync(str(project.runs[-1]), options)
    again = sync(str(project.runs[-1]), options)
    assert (again.num_runs, again.num_images, again.num_written) == (3, 6, 0)
    client = mlflow.MlflowClient(options.uri)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    return [run for run in runs if run.data.tags["promptlab.kind"] == "arm"]


def test_enlarged_images_are_in_the_run_of_their_parents_under_keys_of_their_own(arms, project):
    assert [run.info.run_name for run in arms] == ["noto", "openmoji"], "in the sweep's order"
    assert [run.data.params for run in arms] == [{"style": "noto"}, {"style": "openmoji"}]
    for run in arms:
        names = (project.path / "mlartifacts").rglob(f"{run.info.run_id}/artifacts/images/*.png")
        keys = sorted(path.name.partition("+timestamp")[0] for path in names)
        assert keys == ["enlarged~a fox+step+0", "subject~a fox+step+0", "subject~a fox+step+1"]


def test_the_description_counts_no_upscaler_as_a_model_that_is_compared(arms, project):
    note = describe_run(read_run(str(project.runs[-1])).record, "")
    assert note.startswith("2 × style, 2 × seed: 6 images, enlarged ones among them.")


def test_figures_of_an_arm_are_of_the_images_that_its_model_drew(arms, project):
    assert [run.data.metrics["images"] for run in arms] == [2, 2]
    assert [run.data.metrics["enlarged"] for run in arms] == [1, 1]
    drawn = [row for row in project.rows() if row["model"] == "paint" and row["style"] == "noto"]
    mean = sum(row["seconds"] for row in drawn) / len(drawn)
    assert arms[0].data.metrics["seconds_per_image"] == pytest.approx(mean)
