"""Rows land where MLflow's comparison page wants them, under the names that it writes itself."""

import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab.errors import TrackingError
from promptlab.store.schema import AxisColumn
from promptlab.tracking.layout import (
    arm_metrics,
    full_image,
    further_metrics,
    image_key,
    image_stem,
    make_layout,
    small_image,
)
from promptlab.tracking.report_run import report_metrics
from tests.tracking.holding import make_database

ROW = {
    "image_id": "0" * 16,
    "cell_id": "1" * 16,
    "arm_id": "2" * 16,
    "subject": "a fox",
    "style": "noto",
    "template": "plain",
    "model": "tiny",
    "prompt": "a fox in noto",
    "params": '{"temperature":0.7,"top_k":64}',
    "seed": 3,
    "temperature": 0.7,
    "status": "ok",
    "seconds": 0.5,
    "created_at": datetime(2026, 11, 22, tzinfo=UTC),
}
AXES = (AxisColumn("temperature", "temperature", "float"),)


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_artifact_names_are_those_of_a_real_log_image(tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=make_database(tmp_path))
    experiment = client.create_experiment("real", artifact_location=(tmp_path / "a").as_uri())
    run = client.create_run(experiment)
    pixels = np.zeros((8, 8, 3), np.uint8)
    client.log_image(run.info.run_id, pixels, key="red/fox", step=3, timestamp=1234)
    real = {item.path for item in client.list_artifacts(run.info.run_id, "images")}

    stem = image_stem("red/fox", {**ROW, "created_at": datetime.fromtimestamp(1.234, UTC)})
    ours = {full_image(stem), small_image(stem)}
    uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert {uuid.sub("UUID", path) for path in ours} == {uuid.sub("UUID", path) for path in real}
    assert client.get_run(run.info.run_id).data.tags["mlflow.loggedImages"] == "True"


@given(st.text(max_size=200))
def test_any_value_has_a_key_that_log_image_takes(value):
    key = image_key(value)
    assert re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", key)
    assert len(key) < 100
    assert image_key(value) == key


@given(st.lists(st.text(max_size=100), unique=True, max_size=10))
def test_different_values_never_share_a_key(values):
    assert len({image_key(value) for value in values}) == len(values)


def test_the_name_is_what_tells_runs_apart_and_params_begin_with_it():
    layout = make_layout(AXES, ["subject", "temperature", "style"], "subject")
    assert layout.run_name(ROW) == "noto · 0.7" or layout.run_name(ROW) == "0.7 · noto"
    assert list(layout.params(ROW)) == ["style", "temperature", "template", "model", "top_k"]
    assert layout.arm_key(ROW) == ROW["arm_id"]


def test_another_image_axis_moves_into_the_key_and_the_subject_tells_runs_apart():
    layout = make_layout(AXES, ["subject", "style"], "style")
    fox, robot, other = ROW, {**ROW, "subject": "a robot"}, {**ROW, "style": "openmoji"}
    assert layout.arm_key(fox) != layout.arm_key(robot)
    assert layout.arm_key(fox) == layout.arm_key(other)
    assert layout.image_key(other) == "style/openmoji"
    assert layout.run_name(fox) == "a fox"
    cells = make_layout(AXES, [], None)
    assert (cells.arm_key(fox), cells.image_key(fox)) == (fox["cell_id"], "image")


def test_an_unknown_image_axis_is_refused_with_the_list():
    with pytest.raises(TrackingError, match="expected one of style, template, model, subject"):
        make_layout(AXES, [], "colour")


def test_metrics_count_failures_apart():
    rows = [ROW, {**ROW, "status": "flagged", "seconds": 1.5}, {**ROW, "status": "failed"}]
    assert arm_metrics(rows) == {
        "images": 2.0,
        "failures": 1.0,
        "flagged": 1.0,
        "seconds_per_image": 1.0,
    }


def test_metrics_name_money_and_unread_prompts_only_where_there_are_any():
    paid = [{**ROW, "cost_usd": 0.25, "unseen": "unknown words: deco"}, {**ROW, "cost_usd": 0.5}]
    assert further_metrics([ROW, *paid]) == {"unseen": 1.0, "cost_usd": 0.75}
    assert further_metrics([ROW, {**ROW, "cost_usd": None, "unseen": ""}]) == {}
    assert arm_metrics([ROW, *paid]).items() >= further_metrics(paid).items()
    assert report_metrics([ROW, *paid]).items() >= further_metrics(paid).items()
