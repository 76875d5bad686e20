"""Scores reach MLflow as an arm's mean and best, and as a curve over the subjects."""

import mlflow
import pytest

from promptlab.store import read_run
from promptlab.tracking import TrackingOptions, sync
from promptlab.verdicts.scores import Scorer, record_scores
from tests.report.runs import make_run


@pytest.fixture
def tracked(tmp_path):
    root = make_run(tmp_path / "runs" / "a", subjects=("a fox", "a robot"), styles=("noto",))
    options = TrackingOptions(uri=f"sqlite:///{tmp_path}/mlflow.db", log_images=False)
    return root, options


def arm_of(options: TrackingOptions) -> mlflow.entities.Run:
    client = mlflow.MlflowClient(options.uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "foxes"]
    runs = client.search_runs([experiment.experiment_id])
    return next(run for run in runs if run.data.tags["promptlab.kind"] == "arm")


def test_an_arm_has_the_mean_the_best_and_a_step_a_subject(tracked):
    root, options = tracked
    rows = read_run(root).rows(["image_id", "subject", "seed"])
    values = {row["image_id"]: row["seed"] + 10 * ("fox" in row["subject"]) for row in rows}
    record_scores(root, Scorer("taste"), values)
    sync(root, options)
    arm = arm_of(options)
    assert arm.data.metrics["score/taste"] == pytest.approx(5.5)
    assert arm.data.metrics["score/taste best"] == pytest.approx(6)
    client = mlflow.MlflowClient(options.uri)
    steps = client.get_metric_history(arm.info.run_id, "score/taste by subject")
    assert {(each.step, each.value) for each in steps} == {(0, 10.5), (1, 0.5)}
    sync(root, options)
    again = client.get_metric_history(arm.info.run_id, "score/taste by subject")
    assert len(again) == len(steps), "a second sync changes nothing"


def test_where_low_is_better_the_lowest_is_the_best(tracked):
    root, options = tracked
    rows = read_run(root).rows(["image_id", "seed"])
    values = {row["image_id"]: float(row["seed"]) for row in rows}
    record_scores(root, Scorer("twin", is_higher_better=False), values)
    sync(root, options)
    assert arm_of(options).data.metrics["score/twin best"] == 0
