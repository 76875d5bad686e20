"""Writing to MLflow in bulk: nothing is cut at a page's end, nothing is written twice."""

from __future__ import annotations

import io
import json

import pytest
from mlflow import MlflowClient
from PIL import Image

from promptlab.tracking import client as client_module
from promptlab.tracking.client import ARM_TAG, NOTE_TAG, RUN_ID_TAG, BulkClient
from promptlab.tracking.database import artifact_folder
from promptlab.tracking.location import default_artifact_root
from promptlab.tracking.pictures import shrink
from tests.tracking.holding import make_database

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return make_database(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def bulk(uri):
    return BulkClient(uri, "bulk", default_artifact_root(uri))


def data_of(bulk, run):
    return bulk.client.get_run(run.run_id).data


def png_of(width, height, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "png")
    return buffer.getvalue()


def test_all_runs_of_a_run_folder_are_found_however_many_pages_they_fill(bulk, monkeypatch):
    monkeypatch.setattr(client_module, "_PAGE", 2)
    for number in range(5):
        tags = {RUN_ID_TAG: "paged", ARM_TAG: f"arm {number}"}
        bulk.create_run(f"arm {number}", {}, tags, started_at_ms=number)
    assert sorted(bulk.find_runs("paged")) == [f"arm {number}" for number in range(5)]


def test_a_run_is_made_with_all_of_its_params_and_without_a_credential(bulk):
    params = {f"axis.{number}": str(number) for number in range(250)}
    secret = {"command": "promptlab sweep tracking.uri=http://bob:SECRET@host:9"}
    tags = {"promptlab.run_folder": "s3://KEY:SECRET@bucket/runs/a"}
    run = bulk.create_run("many", {**params, **secret}, tags, started_at_ms=1)
    data = data_of(bulk, run)
    assert data.params.items() >= params.items()
    assert data.params["command"] == "promptlab sweep tracking.uri=http://bob:***@host:9"
    assert data.tags["promptlab.run_folder"] == "s3://KEY:***@bucket/runs/a"
    bulk.set_tags(run, {"promptlab.note": "at http://bob:SECRET@host:9"})
    assert data_of(bulk, run).tags["promptlab.note"] == "at http://bob:***@host:9"


def test_a_long_series_is_logged_whole_and_only_another_one_is_logged_again(bulk):
    run = bulk.create_run("series", {}, {}, started_at_ms=1)
    values = {step: float(step) for step in range(1100)}

    def history():
        found = bulk.client.get_metric_history(run.run_id, "score/x by subject")
        return [(each.step, each.value) for each in found]

    for _ in range(2):
        bulk.log_series(run, {"score/x by subject": values})
        assert sorted(history()) == sorted(values.items())
    changed = {**values, 7: 0.5}
    bulk.log_series(run, {"score/x by subject": changed})
    assert len(history()) == 2 * len(values), "one other value is another series"
    assert (7, 0.5) in history()


def test_our_own_description_follows_the_sweep_and_a_persons_stays(bulk):
    def note():
        return bulk.client.get_experiment(bulk.experiment_id).tags.get(NOTE_TAG)

    for ours in ("two styles", "three styles"):
        bulk.describe_experiment(ours)
        assert note() == ours
    bulk.client.set_experiment_tag(bulk.experiment_id, NOTE_TAG, "mine")
    bulk.describe_experiment("four styles")
    assert note() == "mine"


@pytest.mark.parametrize("is_local", [True, False])
def test_images_lie_in_one_place_whether_they_are_written_or_sent(bulk, is_local, monkeypatch):
    if not is_local:
        monkeypatch.setattr(client_module, "local_folder", lambda _: None)
    run = bulk.create_run("pictures", {}, {}, started_at_ms=1)
    png = png_of(8, 8)
    bulk.log_images(run, {"images/a+step+1": png})
    small, full = sorted(bulk.list_images(run))
    assert (small, full) == ("images/a+step+1+compressed.webp", "images/a+step+1.png")
    assert (artifact_folder(run.artifact_uri) / full).read_bytes() == png
    assert data_of(bulk, run).tags["mlflow.loggedImages"] == "True"


@pytest.mark.parametrize(
    ("size", "expected"),
    [((256, 64), (128, 32)), ((64, 256), (32, 128)), ((1, 2000), (1, 128)), ((20, 10), (20, 10))],
)
def test_a_small_picture_has_the_longest_side_asked_for_and_is_never_enlarged(size, expected):
    assert Image.open(io.BytesIO(shrink(png_of(*size), 128))).size == expected


def test_a_table_is_known_to_mlflow_beside_those_that_it_knows(bulk):
    run = bulk.create_run("tables", {}, {}, started_at_ms=1)
    for name in ("one.json", "two.json", "one.json"):
        bulk.set_tags(run, bulk.put_table(run, name, "{}"))
    assert json.loads(data_of(bulk, run).tags["mlflow.loggedArtifacts"]) == [
        {"path": "one.json", "type": "table"},
        {"path": "two.json", "type": "table"},
    ]


def test_a_file_is_logged_again_when_its_content_is_another(bulk):
    run = bulk.create_run("files", {}, {}, started_at_ms=1)
    logged = [bulk.log_file(run, "sweep.yaml", content) for content in (b"1", b"1", b"2")]
    assert logged == [True, False, True]
    assert (artifact_folder(run.artifact_uri) / "sweep.yaml").read_bytes() == b"2"


def test_a_dataset_names_its_place_without_credentials_and_each_state_once(bulk):
    run = bulk.create_run("dataset", {}, {}, started_at_ms=1)
    for digest in ("a", "a", "b"):
        source = "s3://KEY:SECRET@bucket/runs/a/images.parquet"
        bulk.log_dataset(run, name="foxes", digest=digest, source=source, num_rows=3)
    inputs = bulk.client.get_run(run.run_id).inputs.dataset_inputs
    assert sorted(each.dataset.digest for each in inputs) == ["a", "b"]
    assert inputs[0].dataset.source_type == "s3"
    assert json.loads(inputs[0].dataset.source)["uri"] == (
        "s3://KEY:***@bucket/runs/a/images.parquet"
    )


def test_a_run_that_got_more_images_ends_later(bulk):
    run = bulk.create_run("ended", {}, {RUN_ID_TAG: "ended", ARM_TAG: "arm"}, started_at_ms=1)
    for ended_at_ms in (5, 9):
        bulk.finish(run, ended_at_ms)
        assert bulk.find_runs("ended")["arm"].ended_at_ms == ended_at_ms


def test_an_experiment_that_another_process_made_meanwhile_is_used(uri, monkeypatch):
    made = BulkClient(uri, "raced", default_artifact_root(uri)).experiment_id
    real, asked = MlflowClient.get_experiment_by_name, []

    def find_nothing_at_first(self, name):
        asked.append(name)
        return real(self, name) if len(asked) > 1 else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", find_nothing_at_first)
    assert BulkClient(uri, "raced", default_artifact_root(uri)).experiment_id == made


def test_a_user_without_a_name_logs_all_the_same(bulk, monkeypatch):
    def refuse():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", refuse)
    run = bulk.create_run("nobody", {}, {}, started_at_ms=1)
    assert data_of(bulk, run).tags["mlflow.user"] == "unknown"
