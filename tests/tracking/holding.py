"""What MLflow holds of a run folder, read with MLflow's own client, against the Parquet."""

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from promptlab.store import read_run


@functools.cache
def _empty_database():
    """Return a database that MLflow has set up: that takes it seconds, a copy of it none."""
    path = Path(tempfile.mkdtemp(prefix="promptlab-tests-")) / "mlflow.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def make_database(folder, name="mlflow.db"):
    """Return the URI of a fresh MLflow database in a folder."""
    shutil.copy(_empty_database(), Path(folder) / name)
    return f"sqlite:///{folder}/{name}"


def runs_by_arm(uri, run_folder):
    """Return the MLflow runs of a run folder by arm; two of one arm are a failure."""
    client = MlflowClient(tracking_uri=uri)
    run_id = read_run(run_folder).record.run_id
    found = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            if run.data.tags.get("promptlab.run_id") == run_id:
                arm = run.data.tags["promptlab.arm_id"]
                assert arm not in found, f"arm {arm} has two runs"
                found[arm] = run
    return found


def check_equal_to_parquet(uri, run_folder, tmp_path):
    """Assert that MLflow holds each image of the run once, byte for byte, and its numbers."""
    client = MlflowClient(tracking_uri=uri)
    run = read_run(run_folder)
    rows = run.rows()
    images = dict(run.iter_images())
    found = runs_by_arm(uri, run_folder)
    arms = {row["arm_id"] for row in rows}
    assert set(found) == arms | {"report"}
    for arm in arms:
        own = [row for row in rows if row["arm_id"] == arm]
        drawn = [row for row in own if row["status"] != "failed"]
        mlflow_run = found[arm]
        assert mlflow_run.info.status == "FINISHED"
        assert mlflow_run.data.metrics["images"] == len(drawn)
        assert mlflow_run.data.metrics["failures"] == len(own) - len(drawn)
        if not drawn:
            continue
        folder = Path(client.download_artifacts(mlflow_run.info.run_id, "images", str(tmp_path)))
        files = {path.name: path for path in folder.iterdir()}
        pngs = [path for name, path in files.items() if name.endswith(".png")]
        assert len(files) == 2 * len(drawn) == 2 * len(pngs)
        assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in pngs) == sorted(
            hashlib.sha256(images[row["image_id"]]).hexdigest() for row in drawn
        )
        table = json.loads(
            Path(
                client.download_artifacts(mlflow_run.info.run_id, "images.json", str(tmp_path))
            ).read_text(encoding="utf-8")
        )
        assert {row[1]["filepath"].removeprefix("images/") for row in table["data"]} == {
            path.name for path in pngs
        }
        for path in files.values():
            path.unlink()
    drawn = [row for row in rows if row["status"] != "failed"]
    assert found["report"].data.metrics["images"] == len(drawn)
    assert found["report"].data.metrics["failures"] == len(rows) - len(drawn)
    return found
