"""An enlarged image is logged to the run of the image that it enlarges."""

from __future__ import annotations

import mlflow
import pytest

from promptlab.store import read_run
from promptlab.tracking import TrackingOptions, sync
from promptlab.tracking.report_run import describe_run
from tests.conftest import Project


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
