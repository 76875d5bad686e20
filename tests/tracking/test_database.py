"""MLflow's database is made once and whole, used only when whole, and moved with its folder."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from promptlab.errors import TrackingError
from promptlab.tracking import TrackingOptions, sync
from promptlab.tracking.connect import open_client
from promptlab.tracking.database import (
    artifact_folder,
    check,
    is_deleted,
    prepare,
    relocate_artifacts,
)
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan
from tests.tracking.holding import check_equal_to_parquet, make_database

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
MAKE = "import sys; from pathlib import Path; from promptlab.tracking.database import prepare; "


def sync_elsewhere(paths, uri):
    """Sync in a process of its own: MLflow's client remembers where a run's artifacts are."""
    command = [sys.executable, "-P", "-m", "promptlab.cli", "sync", paths.root, "--uri", uri]
    subprocess.run(command, check=True, capture_output=True)


def test_three_processes_at_once_make_one_whole_database(tmp_path):
    database = tmp_path / "mlflow.db"
    makers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", f"{MAKE}prepare(Path(sys.argv[1]))", str(database)],
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    ends = [maker.communicate()[1].decode() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0, 0], ends
    check(database)
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    assert [e.name for e in client.search_experiments()] == ["Default"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".mlflow.db.lock",
        "mlartifacts",
        "mlflow.db",
    ]


def test_a_database_that_another_process_made_meanwhile_keeps_what_it_holds(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def lock_after_another(*_):
        MlflowClient(tracking_uri=make_database(tmp_path)).create_experiment("of another process")
        yield

    monkeypatch.setattr("promptlab.tracking.database.wait_for_lock", lock_after_another)
    prepare(tmp_path / "mlflow.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        names = [name for (name,) in connection.execute("select name from experiments")]
    assert "of another process" in names


def test_a_database_that_another_process_writes_is_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr("promptlab.tracking.database.BUSY_S", 0.05)
    make_database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as writer:
        writer.execute("begin immediate")
        check(tmp_path / "mlflow.db")


def test_only_artifacts_below_the_old_folder_are_looked_for_in_the_new_one(tmp_path):
    old, new, other = tmp_path / "old", tmp_path / "new", tmp_path / "other"
    for folder in (old, new, other):
        folder.mkdir()
    client = MlflowClient(tracking_uri=make_database(old))
    for name, place in (("ours", old / "mlartifacts" / "ours"), ("theirs", other / "theirs")):
        place.mkdir(parents=True)
        client.create_run(client.create_experiment(name, artifact_location=place.as_uri()))
    (new / "mlartifacts" / "ours").mkdir(parents=True)
    (new / "mlartifacts" / "theirs").mkdir()
    shutil.copy(old / "mlflow.db", new / "mlflow.db")
    with contextlib.closing(sqlite3.connect(new / "mlflow.db")) as connection:
        strange = f"{(old / 'mlartifacts' / 'ours').as_uri()}-too/x"
        connection.execute(
            "insert into runs (run_uuid, experiment_id, artifact_uri) "
            "select 'strange', experiment_id, ? from experiments where name = 'ours'",
            (strange,),
        )
        connection.commit()
        relocate_artifacts(new / "mlflow.db")
        uris = dict(
            connection.execute(
                "select e.name || (r.run_uuid = 'strange'), r.artifact_uri "
                "from runs r join experiments e using (experiment_id)"
            )
        )
    assert uris["ours1"] == strange
    assert uris["ours0"].startswith((new / "mlartifacts" / "ours").as_uri() + "/")
    assert uris["theirs0"].startswith((other / "theirs").as_uri() + "/")


def test_a_folder_of_artifacts_is_read_from_its_location_whatever_its_name(tmp_path):
    for name in ("plain", "a b", "50%41", "é#?"):
        assert artifact_folder((tmp_path / name).as_uri()) == tmp_path / name
    for location in (None, "", "s3://bucket/x", "mlflow-artifacts:/1"):
        assert artifact_folder(location) is None


def test_a_database_that_cannot_tell_says_that_nothing_was_deleted(tmp_path):
    client = MlflowClient(tracking_uri=make_database(tmp_path))
    lives, gone = (client.create_experiment(name) for name in ("lives", "gone"))
    client.delete_experiment(gone)
    database = tmp_path / "mlflow.db"
    assert [is_deleted(database, each) for each in (lives, gone, "99")] == [False, True, False]
    assert not is_deleted(tmp_path / "none.db", "1")


def test_what_a_killed_maker_left_aside_is_replaced(tmp_path):
    (tmp_path / ".mlflow.db.tmp").write_bytes(b"SQLite format 3\0 and no more")
    prepare(tmp_path / "mlflow.db")
    check(tmp_path / "mlflow.db")
    assert not (tmp_path / ".mlflow.db.tmp").exists()


def test_a_half_made_database_is_recognized_and_the_advice_works(tmp_path):
    database = tmp_path / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table runs (run_uuid text)")
        connection.execute("create table _alembic_tmp_runs (run_uuid text)")
    connection.close()
    with pytest.raises(TrackingError, match=r"half made.*holds no run.*rm "):
        open_client(f"sqlite:///{database}")
    database.unlink()
    open_client(f"sqlite:///{database}")


@pytest.mark.parametrize("change", ["create table _alembic_tmp_runs (a)", "drop table experiments"])
def test_a_database_whose_migration_was_stopped_is_not_taken_for_a_whole_one(tmp_path, change):
    make_database(tmp_path)
    check(tmp_path / "mlflow.db")
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    connection.execute(change)
    connection.close()
    with pytest.raises(TrackingError, match="half made"):
        check(tmp_path / "mlflow.db")


def test_a_database_of_another_version_is_recognized_and_kept(tmp_path):
    uri = make_database(tmp_path)
    client = MlflowClient(tracking_uri=uri)
    client.create_run("0")
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("update alembic_version set version_num = '27a6a02d2cf1'")
    connection.close()
    copy = shutil.copy(tmp_path / "mlflow.db", tmp_path / "older.db")
    with pytest.raises(TrackingError, match=f"another version.*mlflow db upgrade sqlite:///{copy}"):
        open_client(f"sqlite:///{copy}")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "unable to open database file"),
        (lambda path: path.write_text("no database " * 100), "file is not a database"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_once_by_its_true_reason(make, reason, tmp_path):
    make(tmp_path / "mlflow.db")
    with pytest.raises(TrackingError, match=reason):
        open_client(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_database_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match="it is no folder"):
        open_client(f"sqlite:///{tmp_path}/file/mlflow.db")


@pytest.mark.parametrize("name", ["what?now", "50%41off"])
def test_a_folder_whose_name_means_something_in_a_uri_holds_its_database(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    client = open_client(f"sqlite:///{folder}/mlflow.db")
    client.create_experiment("here")
    with sqlite3.connect(folder / "mlflow.db") as connection:
        names = [row[0] for row in connection.execute("select name from experiments")]
    connection.close()
    assert "here" in names
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "move", [shutil.move, pytest.param(shutil.copytree, marks=pytest.mark.slow)]
)
def test_a_project_that_was_moved_or_copied_has_its_images_in_its_new_place(move, paths, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    uri = make_database(old)
    draw_plan(paths, make_plan(sweep="moving"))
    sync_elsewhere(paths, uri)
    move(str(old), str(new))
    before = sorted(old.rglob("*"))
    draw_plan(paths, make_plan(sweep="moving", seeds=range(4)))
    moved = TrackingOptions(uri=f"sqlite:///{new}/mlflow.db")
    assert sync(paths, moved).num_written == 8
    check_equal_to_parquet(moved.uri, paths.root, tmp_path)
    assert sorted(old.rglob("*")) == before
    relocate_artifacts(new / "mlflow.db")  # again: nothing changes
    check_equal_to_parquet(moved.uri, paths.root, tmp_path)


def test_a_database_moved_without_its_images_is_refused_with_what_to_do(paths, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    uri = make_database(old)
    draw_plan(paths, make_plan(sweep="half moved"))
    sync(paths, TrackingOptions(uri=uri))
    shutil.move(old / "mlflow.db", new / "mlflow.db")
    shutil.move(old / "mlartifacts", tmp_path / "somewhere")
    with pytest.raises(TrackingError, match=r"does not exist.*move mlartifacts/ to the new place"):
        sync(paths, TrackingOptions(uri=f"sqlite:///{new}/mlflow.db"))
    assert not list(old.rglob("*.png"))
