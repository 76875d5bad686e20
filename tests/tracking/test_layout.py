"""Rows land where MLflow's comparison page wants them, under the names that it writes itself."""

import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab.errors import TrackingError
from promptlab.records import WorkerShare
from promptlab.run_record import RunRecord
from promptlab.store.schema import AxisColumn
from promptlab.tracking.layout import (
    arm_metrics,
    full_image,
    further_metrics,
    image_key,
    image_stem,
    make_layout,
    small_image,
    table_json,
)
from promptlab.tracking.report_run import report_metrics, worker_metrics
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


@pytest.mark.parametrize("image_axis", ["style", "temperature", "subject", None])
def test_a_row_stays_in_its_run_whichever_axes_vary_by_now(image_axis):
    """A sweep that grows has more axes that vary; its MLflow runs are found again."""
    grown = [{}, {"style": ["noto", "x"]}, {"temperature": [0.7, 1.0], "model": ["tiny", "mini"]}]
    keys = {make_layout(AXES, varying, image_axis).arm_key(ROW) for varying in grown}
    assert len(keys) == 1
    for axis, value in (("style", "x"), ("temperature", 1.0), ("model", "mini")):
        if image_axis in ("style", "temperature"):
            other = make_layout(AXES, {}, image_axis).arm_key({**ROW, axis: value})
            assert (other in keys) == (axis == image_axis)


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


def test_params_hold_what_varies_alone_and_the_rest_is_kept_apart():
    axes = {"subject": ("a fox", "a robot"), "temperature": (0.7, 2.0), "style": ("noto", "x")}
    layout = make_layout(AXES, axes, "subject")
    assert layout.params(ROW) == {"style": "noto", "temperature": "0.7"}
    assert layout.fixed(ROW) == {"template": "plain", "model": "tiny", "top_k": "64"}
    assert layout.arm_key(ROW) == ROW["arm_id"]
    assert make_layout(AXES, {}, "subject").params(ROW) == {}


def test_a_name_says_what_differs_and_a_number_says_of_what():
    columns = tuple(AxisColumn(n, n, "float") for n in ("temperature", "supercondition_factor"))
    axes = {"temperature": (0.3, 2.0), "supercondition_factor": (3.0, 16.0)}
    row = {**ROW, "temperature": 2.0, "supercondition_factor": 16.0}
    assert make_layout(columns, axes, "subject").run_name(row) == "temperature 2 · factor 16"
    two = tuple(AxisColumn(n, n, "float") for n in ("text_factor", "image_factor"))
    row = {**ROW, "text_factor": 1.0, "image_factor": 0.5}
    named = make_layout(two, {"text_factor": (1.0, 2.0), "image_factor": (0.5, 1.0)}, "subject")
    assert named.run_name(row) == "text_factor 1 · image_factor 0.5"
    assert make_layout(AXES, {"style": ("noto", "x")}, "subject").run_name(ROW) == "noto"


def test_runs_stand_in_the_order_of_the_sweep():
    axes = {"subject": ("b", "a"), "style": ("z", "noto"), "temperature": (2.0, 0.7)}
    layout = make_layout(AXES, axes, "subject")
    rows = [{**ROW, "style": s, "temperature": t} for s in axes["style"] for t in (2.0, 0.7)]
    assert [layout.position(row) for row in rows] == [0, 1, 2, 3]
    assert layout.num_positions == 4


def test_another_image_axis_moves_into_the_key_and_the_subject_tells_runs_apart():
    layout = make_layout(AXES, {"subject": ("a fox", "x"), "style": ("noto", "y")}, "style")
    fox, robot, other = ROW, {**ROW, "subject": "a robot"}, {**ROW, "style": "openmoji"}
    assert layout.arm_key(fox) != layout.arm_key(robot)
    assert layout.arm_key(fox) == layout.arm_key(other)
    assert layout.image_key(other) == "style/openmoji"
    assert layout.run_name(fox) == "a fox"
    cells = make_layout(AXES, {}, None)
    assert (cells.arm_key(fox), cells.image_key(fox)) == (fox["cell_id"], "image")
    assert cells.fixed(fox)["prompt"] == "a fox in noto"


def test_an_unknown_image_axis_is_refused_with_the_list():
    with pytest.raises(TrackingError, match="expected one of style, template, model, subject"):
        make_layout(AXES, {}, "colour")


def test_parts_of_the_subject_tell_no_runs_apart_while_the_subject_is_the_key():
    axes = (*AXES, AxisColumn("action", "action", "str"))
    varying = {"subject": ("a fox runs", "a fox sits"), "action": ("runs", "sits")}
    row = {**ROW, "action": "runs"}
    layout = make_layout(axes, varying, "subject", ["action"])
    assert (layout.params(row), layout.num_positions) == ({}, 1)
    assert "action" not in layout.fixed(row), "the run holds images of all of its values"
    by_style = make_layout(axes, varying, "style", ["action"])
    assert by_style.params(row) == {"subject": "a fox", "action": "runs"}


def test_a_value_stands_in_its_place_whether_it_is_written_as_a_whole_number_or_not():
    layout = make_layout(AXES, {"temperature": (2, 1, 0.5)}, "subject")
    rows = [{**ROW, "temperature": value} for value in (2.0, 1.0, 0.5)]
    assert [layout.position(row) for row in rows] == [0, 1, 2]
    assert [layout.run_name(row) for row in rows] == [
        "temperature 2",
        "temperature 1",
        "temperature 0.5",
    ]


def test_two_cells_with_the_same_image_are_two_artifacts():
    stems = {
        image_stem("fox", {**ROW, **other})
        for other in ({}, {"cell_id": "9" * 16}, {"seed": 4}, {"image_id": "9" * 16})
    }
    assert len(stems) == 4


@given(st.permutations([("a fox", 10), ("a fox", 9), ("a robot", 9), ("Ärger", 0)]))
def test_a_table_has_a_row_a_subject_and_seed_in_one_order_with_the_images_logged(order):
    layout = make_layout(AXES, {"subject": ("a fox", "a robot")}, "subject")
    rows = [{**ROW, "subject": subject, "seed": seed} for subject, seed in order]
    table = json.loads(table_json(layout, rows))
    assert table["columns"] == ["subject", "image"]
    labels = [label for label, _ in table["data"]]
    assert labels == ["Ärger, seed 0", "a fox, seed 9", "a fox, seed 10", "a robot, seed 9"]
    stem_from_label = {
        f"{row['subject']}, seed {row['seed']}": image_stem(layout.image_key(row), row)
        for row in rows
    }
    for label, image in table["data"]:
        assert image == {
            "type": "image",
            "filepath": full_image(stem_from_label[label]),
            "compressed_filepath": small_image(stem_from_label[label]),
        }


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


def test_what_each_worker_did_is_a_metric_of_its_own():
    shares = {"gpu 0": WorkerShare(30, 12.5, 1), "gpu 1": WorkerShare(10, 12.0, 0)}
    assert worker_metrics(RunRecord(workers=shares)) == {
        "worker.gpu 0.images": 30.0,
        "worker.gpu 0.seconds": 12.5,
        "worker.gpu 0.restarts": 1.0,
        "worker.gpu 1.images": 10.0,
        "worker.gpu 1.seconds": 12.0,
        "worker.gpu 1.restarts": 0.0,
    }
