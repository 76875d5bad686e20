"""MLflow may be there, away, stopped, slow or in a bad mood: in the end it equals the Parquet."""

import errno
import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from promptlab.cli import main
from promptlab.errors import TrackingError
from promptlab.records import Result
from promptlab.run_record import RunRecord
from promptlab.store import StoreOptions, open_store, read_run
from promptlab.store.folder import RunFolder
from promptlab.store.storage import LocalStorage
from promptlab.tracking import TrackingOptions, open_tracking, sync
from promptlab.tracking.client import ARM_TAG, RUN_ID_TAG, BulkClient
from promptlab.tracking.database import artifact_folder
from promptlab.tracking.explain import describe_failure
from promptlab.tracking.location import default_artifact_root, read_record, uri_of_run
from promptlab.tracking.marks import is_tracked
from promptlab.tracking.syncing import Syncer
from tests.store.painting import Painter, make_plan
from tests.store.sweeping import damage, draw_and_stop, draw_plan, drawn, parts_of
from tests.tracking.holding import check_equal_to_parquet, make_database, runs_by_arm

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow's own
]
AWAY = "http://127.0.0.1:9"  # the discard port: nobody listens


def draw_tracked(paths, plan, uri, **options):
    with open_tracking(paths, TrackingOptions(uri=uri)) as tracking:
        return draw_plan(paths, plan, listeners=[tracking.notify], **options)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return make_database(tmp_path_factory.mktemp("local"))


def fail_some(request):
    return Result(request, error="ValueError: no") if request.seed == 3 else None


def test_a_tracked_sweep_is_in_mlflow_when_it_ends_and_a_sync_changes_nothing(paths, tmp_path, uri):
    plan = make_plan(
        subjects=("a fox", "a/b, c", "🦊"), seeds=range(4), sweep="whole", model=Painter(fail_some)
    )
    draw_tracked(paths, plan, uri)
    found = check_equal_to_parquet(uri, paths.root, tmp_path)
    assert {run.info.run_name for run in found.values()} == {"noto", "openmoji", "report"}
    before = snapshot(uri)
    report = sync(paths, TrackingOptions(uri=uri))
    assert (report.num_runs, report.num_images, report.num_written) == (3, 18, 0)
    assert snapshot(uri) == before


def snapshot(uri):
    """Return the whole content of a local MLflow: every table and every artifact."""
    database = Path(uri.removeprefix("sqlite:///"))
    connection = sqlite3.connect(database)
    try:
        names = [
            n for (n,) in connection.execute("select name from sqlite_master where type='table'")
        ]
        tables = {
            name: sorted(map(repr, connection.execute(f"select * from {name}"))) for name in names
        }
    finally:
        connection.close()
    root = database.parent / "mlartifacts"
    files = {
        str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*") if p.is_file()
    }
    return tables, files


def test_images_drawn_later_are_added_to_the_same_runs(paths, tmp_path, uri):
    draw_and_stop(paths, make_plan(seeds=range(6), sweep="later"), num_images=10)
    assert sync(paths, TrackingOptions(uri=uri)).num_written == 10
    draw_plan(paths, make_plan(seeds=range(6), sweep="later"))
    assert sync(paths, TrackingOptions(uri=uri)).num_written == 14
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_sync_to_another_store_leaves_the_run_with_the_one_that_it_was_tracked_in(
    paths, tmp_path, uri
):
    draw_plan(paths, make_plan(subjects=("a fox",), styles=("noto",), sweep="bound"))
    sync(paths, TrackingOptions(uri=uri))
    bound = read_record(paths)
    assert bound.experiment_id is not None
    other = make_database(tmp_path, "other.db")
    assert sync(paths, TrackingOptions(uri=other, experiment="elsewhere")).num_written == 2
    assert read_record(paths) == bound
    assert uri_of_run(paths, read_run(paths).record) == uri
    sync(paths, TrackingOptions(uri=uri, experiment="renamed"))
    assert read_record(paths).experiment == "renamed"


def test_without_images_the_numbers_are_logged_and_nothing_points_to_an_image(paths, uri):
    draw_plan(paths, make_plan(subjects=("a fox",), sweep="no images"))
    report = sync(paths, TrackingOptions(uri=uri, log_images=False))
    assert (report.num_written, report.num_images) == (0, 4)
    client = MlflowClient(tracking_uri=uri)
    for arm, run in runs_by_arm(uri, paths).items():
        assert run.data.metrics["images"] == (4 if arm == "report" else 2)
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert artifacts.isdisjoint({"images", "images.json"})
        assert not {"mlflow.loggedImages", "mlflow.loggedArtifacts"} & run.data.tags.keys()


def test_of_several_runs_of_one_arm_the_oldest_that_lives_is_used(uri):
    client = BulkClient(uri, "several", default_artifact_root(uri))
    tags = {RUN_ID_TAG: "one", ARM_TAG: "arm"}
    runs = {
        at: client.create_run("arm", {}, tags, started_at_ms=at).run_id for at in (300, 100, 200)
    }
    client.create_run("arm", {}, {**tags, RUN_ID_TAG: "another"}, started_at_ms=1)
    for oldest in (100, 200, 300):
        found = client.find_runs("one")["arm"]
        assert (found.run_id, found.is_deleted) == (runs[oldest], False)
        client.client.delete_run(found.run_id)
    assert client.find_runs("one")["arm"].is_deleted


def test_one_refused_call_holds_back_one_arm_until_the_next_sync(paths, tmp_path, uri, monkeypatch):
    draw_plan(paths, make_plan(sweep="refused"))
    real, refused = BulkClient.log_images, []

    def refuse_once(self, run, png_from_stem):
        from mlflow.exceptions import MlflowException

        if not refused:
            refused.append(run.run_id)
            raise MlflowException("no such luck")
        real(self, run, png_from_stem)

    monkeypatch.setattr(BulkClient, "log_images", refuse_once)
    with pytest.raises(TrackingError, match=r"refused a call \(no such luck\).*promptlab sync"):
        sync(paths, TrackingOptions(uri=uri))
    assert sync(paths, TrackingOptions(uri=uri)).num_written == 4  # the other arm is there
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_server_that_is_away_costs_one_warning_and_no_time_of_drawing(paths, tmp_path, caplog):
    plan = make_plan(seeds=range(20))
    started_at = time.monotonic()
    with (
        caplog.at_level(logging.WARNING),
        open_tracking(paths, TrackingOptions(uri=AWAY)) as tracking,
    ):
        draw_plan(paths, plan, listeners=[tracking.notify], part_rows=10)
        drawn_at = time.monotonic()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "cannot be reached ([Errno 111] Connection refused)" in warnings[0]
    assert f"promptlab sync {paths.root}" in warnings[0]
    assert read_record(paths).uri == AWAY, "a later sync goes there"
    assert time.monotonic() - drawn_at < 60
    assert drawn_at - started_at < 30
    with pytest.raises(TrackingError, match="cannot be reached"):
        sync(paths, TrackingOptions(uri=AWAY))


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_is_caught_up_with_after_it_is_back(
    server, paths, tmp_path, caplog
):
    plan = make_plan(seeds=range(8), sweep="server dies")
    with caplog.at_level(logging.WARNING):
        with (
            open_tracking(paths, TrackingOptions(uri=server.uri)) as tracking,
            open_store(
                paths, plan, StoreOptions(part_rows=8), listeners=[tracking.notify]
            ) as store,
        ):
            for number, request in enumerate(store.pending("painter")):
                store.add(drawn(request))
                if number == 14:
                    wait_for_images(server, 8)
                    server.wire.cut()
        assert store.counts.ok == 32
    assert sum("cannot be reached" in r.getMessage() for r in caplog.records) == 1
    server.wire.join()
    report = sync(paths, TrackingOptions(uri=server.uri))
    assert report.num_images == 32
    assert 0 < report.num_written < 32
    check_equal_to_parquet(server.uri, paths.root, tmp_path)
    again = sync(paths, TrackingOptions(uri=server.uri))
    assert (again.num_written, again.num_runs) == (0, report.num_runs)


def wait_for_images(server, count):
    give_up_at = time.monotonic() + 240  # the follower has the lowest priority
    while time.monotonic() < give_up_at:
        if len(list((server.folder / "artifacts").rglob("*.png"))) >= count:
            return
        time.sleep(0.1)
    raise AssertionError("the server got no image")


@pytest.mark.slow
def test_a_server_that_hangs_does_not_hold_up_drawing(server, paths, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    plan = make_plan(seeds=range(10), sweep="server hangs")
    with open_tracking(paths, TrackingOptions(uri=server.uri)) as tracking:
        server.pause()
        try:
            started_at = time.monotonic()
            draw_plan(paths, plan, listeners=[tracking.notify], part_rows=4)
            assert time.monotonic() - started_at < 30
        finally:
            server.go_on()
    sync(paths, TrackingOptions(uri=server.uri))
    check_equal_to_parquet(server.uri, paths.root, tmp_path)


def test_parts_that_are_merged_while_they_are_read_are_logged_all_the_same(
    paths, tmp_path, uri, monkeypatch
):
    plan = make_plan(seeds=range(10), sweep="merged")
    draw_and_stop(paths, plan, part_rows=8)
    real, calls = BulkClient.log_images, []

    def merge_after_the_first(self, run, png_from_stem):
        real(self, run, png_from_stem)
        calls.append(len(png_from_stem))
        if len(calls) == 1:
            RunFolder(LocalStorage(), paths).compact()

    monkeypatch.setattr(BulkClient, "log_images", merge_after_the_first)
    assert sync(paths, TrackingOptions(uri=uri)).num_written == sum(calls) == 40
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_sweep_with_nothing_to_do_starts_no_second_process(paths, uri, monkeypatch):
    plan = make_plan(sweep="nothing to do")
    draw_tracked(paths, plan, uri)
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    draw_tracked(paths, plan, uri)
    assert started == []


def test_a_sweep_that_was_killed_before_tracking_ended_catches_up_when_run_again(
    paths, tmp_path, uri
):
    plan = make_plan(sweep="killed")
    draw_plan(paths, plan)  # as if killed before the follower wrote a thing
    draw_tracked(paths, plan, uri)
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_tracking_switched_off_starts_nothing(paths, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a process was started"))
    with open_tracking(paths, TrackingOptions(enabled=False)) as tracking:
        draw_plan(paths, make_plan(), listeners=[tracking.notify])


def test_a_follower_that_began_before_the_first_part_logs_them_all(paths, tmp_path, uri):
    with open_tracking(paths, TrackingOptions(uri=uri)) as tracking:
        with open_store(paths, make_plan(sweep="early"), StoreOptions()):
            tracking.begin()
        draw_plan(paths, make_plan(sweep="early"), listeners=[tracking.notify])
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_follower_that_hears_of_no_part_ends_with_the_sweep_and_logs_no_run(paths, uri):
    plan = make_plan(sweep="nothing drawn")
    with open_tracking(paths, TrackingOptions(uri=uri)) as tracking:
        with open_store(paths, plan, StoreOptions()):
            tracking.begin()
        follower = tracking._process
        assert follower is not None
        assert os.getsid(follower.pid) != os.getsid(0), "Ctrl-C ends the drawing alone"
    assert follower.poll() is not None
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("nothing drawn")
    assert experiment is None or not client.search_runs([experiment.experiment_id])


def test_a_sync_gives_up_on_a_server_that_is_away_within_seconds(paths, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    draw_plan(paths, make_plan())
    started_at = time.monotonic()
    with pytest.raises(TrackingError, match="cannot be reached"):
        sync(paths, TrackingOptions(uri=AWAY))
    assert time.monotonic() - started_at < 60


def test_a_full_disk_is_not_blamed_on_mlflow(paths):
    error = OSError(errno.ENOSPC, "No space left on device", "somewhere")
    text = describe_failure(TrackingOptions(uri=AWAY), paths, error)
    assert "could not be brought up to date ([Errno 28] No space left on device" in text
    assert "refused" not in text


def test_the_sync_command_goes_where_the_sweep_was_tracked(paths, uri, capsys):
    draw_plan(paths, make_plan(), record=RunRecord(config={"tracking": {"uri": uri}}))
    for expected in ("8 were missing", "0 were missing"):
        assert main(["sync", paths.root]) == 0
        said = capsys.readouterr().out
        assert f"{uri} holds 8 images" in said
        assert expected in said


def test_images_that_are_damaged_in_parquet_are_logged_from_their_png_files(
    paths, tmp_path, uri, monkeypatch
):
    monkeypatch.setattr("promptlab.tracking.part_rows.BATCH_ROWS", 40)
    draw_plan(paths, make_plan(seeds=range(26)))
    damage(paths, parts_of(paths)[0], "image.bytes", row_group=1)  # the last 4 of 104
    assert sync(paths, TrackingOptions(uri=uri)).num_written == 104
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_damaged_part_keeps_no_other_part_back(paths, uri, caplog):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=10)
    damage(paths, "part-000001.parquet", "prompt")
    with caplog.at_level(logging.WARNING):
        assert sync(paths, TrackingOptions(uri=uri)).num_written == 30
    assert "part-000001.parquet is damaged" in caplog.text
    draw_plan(paths, make_plan(seeds=range(10)))
    assert sync(paths, TrackingOptions(uri=uri)).num_written == 10


def test_images_that_parquet_has_no_copy_of_are_logged_while_they_are_drawn(paths, tmp_path, uri):
    plan = make_plan(seeds=range(10), sweep="not embedded")
    with open_store(paths, plan, StoreOptions()):
        pass
    follower = Syncer(read_run(paths), TrackingOptions(uri=uri))  # before there is a row
    draw_plan(paths, plan, embed_images=False, part_rows=8)
    assert follower.sync_images() == 40
    assert follower.finish() == 40
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_follower_learns_what_varies_when_the_sweep_has_grown(paths, uri):
    draw_plan(paths, make_plan(styles=("noto",), sweep="grown"))
    follower = Syncer(read_run(paths), TrackingOptions(uri=uri))
    draw_plan(paths, make_plan(sweep="grown"))
    assert follower.sync_images() == 8
    names = {run.info.run_name for run in runs_by_arm(uri, paths.root).values()}
    assert names == {"noto", "openmoji"}


def test_an_image_without_any_file_is_reported_and_logged_when_its_file_is_back(
    paths, tmp_path, uri, caplog
):
    draw_plan(paths, make_plan(sweep="gone"), embed_images=False)
    options = TrackingOptions(uri=uri)
    png = next(Path(paths.images).glob("*.png"))
    png.rename(tmp_path / png.name)
    with caplog.at_level(logging.WARNING):
        report = sync(paths, options)
    assert (report.num_images, report.num_written, report.num_lost) == (7, 7, 1)
    assert "MLflow lacks 1 images" in caplog.text
    assert sum(map(len, tables(uri, paths, tmp_path))) == 7
    assert not is_tracked(paths, options)
    (tmp_path / png.name).rename(png)
    assert sync(paths, options).num_written == 1
    check_equal_to_parquet(uri, paths.root, tmp_path)
    assert is_tracked(paths, options)


def tables(uri, paths, tmp_path):
    """Return the rows of each arm's table of images."""
    client = MlflowClient(tracking_uri=uri)
    for arm, run in runs_by_arm(uri, paths.root).items():
        if arm != "report":
            path = client.download_artifacts(run.info.run_id, "images.json", str(tmp_path))
            yield json.loads(Path(path).read_text(encoding="utf-8"))["data"]


def test_an_image_whose_thumbnail_was_not_written_is_logged_again(paths, tmp_path, uri):
    draw_plan(paths, make_plan(sweep="half logged"))
    sync(paths, TrackingOptions(uri=uri))
    run = next(run for arm, run in runs_by_arm(uri, paths.root).items() if arm != "report")
    next((artifact_folder(run.info.artifact_uri) / "images").glob("*.webp")).unlink()
    assert sync(paths, TrackingOptions(uri=uri)).num_written == 1
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_modules_of_the_working_directory_are_not_run_by_the_follower(
    paths, tmp_path, uri, caplog, monkeypatch
):
    for name in ("random", "queue", "mlflow", "pyarrow"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} of a user')")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        draw_tracked(paths, make_plan(sweep="foreign code"), uri)
    assert caplog.messages == []
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_a_follower_that_dies_is_reported_with_its_last_words(
    paths, tmp_path, uri, caplog, monkeypatch
):
    (tmp_path / "pyarrow.py").write_text("raise RuntimeError('the wheel is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        draw_tracked(paths, make_plan(), uri)
    (message,) = caplog.messages
    assert message.startswith("Tracking has stopped (RuntimeError: the wheel is broken). Bring")
    assert f"promptlab sync {paths.root}" in message


def test_what_was_deleted_in_mlflow_stays_deleted_until_it_is_asked_for(
    paths, tmp_path, uri, caplog
):
    options = TrackingOptions(uri=uri)
    draw_plan(paths, make_plan(sweep="deleted"))
    sync(paths, options)
    client = MlflowClient(tracking_uri=uri)
    deleted = next(run for arm, run in runs_by_arm(uri, paths.root).items() if arm != "report")
    client.delete_run(deleted.info.run_id)
    draw_plan(paths, make_plan(sweep="deleted", seeds=range(4)))
    with caplog.at_level(logging.WARNING):
        report = sync(paths, options)
    assert (report.num_runs, report.num_images, report.num_written) == (2, 8, 4)
    assert "one MLflow run of" in caplog.text
    assert "promptlab sync --restore" in caplog.text
    assert len(runs_by_arm(uri, paths.root)) == 2
    assert sync(paths, options, restore=True).num_written == 4
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_an_experiment_deleted_in_mlflow_is_restored_only_when_asked_for(paths, tmp_path, uri):
    options = TrackingOptions(uri=uri)
    draw_plan(paths, make_plan(sweep="deleted whole"))
    sync(paths, options)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("deleted whole")
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(TrackingError, match=r"'deleted whole' was deleted in MLflow.*--restore"):
        sync(paths, options)
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "deleted"
    assert main(["sync", paths.root, "--restore"]) == 0
    check_equal_to_parquet(uri, paths.root, tmp_path)


def test_the_experiment_may_be_named_by_mlflows_own_variable(paths, uri, monkeypatch):
    draw_plan(paths, make_plan(sweep="mine"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    sync(paths, TrackingOptions(uri=uri))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert main(["sync", paths.root]) == 0  # the run remembers it
    client = MlflowClient(tracking_uri=uri)
    assert client.get_experiment_by_name("mine") is None
    assert client.get_experiment_by_name("of the environment") is not None


def test_a_sync_from_another_folder_and_shell_goes_to_the_store_of_the_sweep(
    paths, uri, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    draw_tracked(paths, make_plan(sweep="elsewhere"), None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["sync", paths.root]) == 0
    assert f"{uri} holds 8 images" in capsys.readouterr().out
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_runs_start_with_the_sweep_in_its_order_and_last_as_long_as_their_images_took(paths, uri):
    plan = make_plan(sweep="times", styles=("z", "a", "m"))
    began = time.time()
    draw_plan(paths, plan)
    ended = time.time()
    sync(paths, TrackingOptions(uri=uri))
    found = runs_by_arm(uri, paths.root)
    rows = read_run(paths).rows()
    for arm, run in found.items():
        assert began - 60 <= run.info.start_time / 1000 <= ended
        seconds = sum(row["seconds"] for row in rows if arm in (row["arm_id"], "report"))
        if arm != "report":
            assert run.info.end_time - run.info.start_time == round(seconds * 1000)
    latest_first = sorted(found.values(), key=lambda run: -run.info.start_time)
    assert [run.info.run_name for run in latest_first] == ["z", "a", "m", "report"]


def test_experiment_and_report_run_say_what_the_sweep_is(paths, uri):
    draw_plan(paths, make_plan(sweep="described"))
    sync(paths, TrackingOptions(uri=uri))
    client = MlflowClient(tracking_uri=uri)
    report = runs_by_arm(uri, paths.root)["report"]
    note = report.data.tags["mlflow.note.content"]
    assert "2 × subject, 2 × style, 2 × seed: 8 images" in note
    assert f"/runs/{report.info.run_id}/artifacts" in note
    experiment = client.get_experiment_by_name("described")
    assert experiment.tags["mlflow.note.content"] == note
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "my own words")
    sync(paths, TrackingOptions(uri=uri))
    experiment = client.get_experiment_by_name("described")
    assert experiment.tags["mlflow.note.content"] == "my own words"


def test_a_finished_sweep_whose_experiment_was_deleted_is_told_so(paths, uri, caplog):
    plan = make_plan(sweep="deleted later")
    draw_tracked(paths, plan, uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("deleted later")
    client.delete_experiment(experiment.experiment_id)
    with caplog.at_level(logging.WARNING):
        draw_tracked(paths, plan, uri)  # nothing to draw, and no process is started
    assert "was deleted in MLflow and stays deleted" in caplog.text
    assert f"promptlab sync --restore {paths.root}" in caplog.text


def test_a_database_that_breaks_under_mlflow_is_one_message(paths, tmp_path):
    uri = make_database(tmp_path, "broken.db")
    with sqlite3.connect(tmp_path / "broken.db") as connection:
        connection.execute(
            "create trigger full before insert on runs begin "
            "select raise(abort, 'database or disk is full'); end"
        )
    connection.close()
    draw_plan(paths, make_plan(sweep="broken"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "promptlab.cli", "sync", paths.root, "--uri", uri],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (message,) = done.stderr.strip().splitlines()
    assert "database or disk is full" in message
    assert f"promptlab sync {paths.root}" in message
