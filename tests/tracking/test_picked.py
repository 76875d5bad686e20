import pytest

from promptlab.cli import main
from promptlab.store import read_run
from promptlab.tracking import sync
from promptlab.tracking.picked import pick_metrics, pick_tags
from promptlab.verdicts.picks import Pick
from tests.report.runs import make_run
from tests.tracking.holding import make_database

A, B, C = "a" * 16, "b" * 16, "c" * 16
ROWS = [{"image_id": i, "status": "ok"} for i in (A, B, C, "d" * 16)]


def test_an_arm_that_nobody_judged_has_a_pick_rate_of_zero_and_no_tag():
    assert pick_metrics(ROWS, [Pick("e" * 16, rating=5)]) == {"pick_rate": 0.0}
    assert pick_tags(ROWS, []) == {}


def test_verdicts_become_counts_a_rate_and_a_mean():
    history = [Pick(A, rating=5, is_favourite=True), Pick(B, rating=2), Pick(C, is_reject=True)]
    assert pick_metrics(ROWS, history) == {
        "picks_favourites": 1.0,
        "picks_rejects": 1.0,
        "picks_rated": 2.0,
        "pick_rate": 0.25,  # two stars and a reject are judgements, not picks
        "rating_mean": 3.5,
    }


def test_the_pick_rate_is_over_the_images_that_there_are_each_counted_once():
    failed = [{"image_id": "f" * 16, "status": "failed"}]
    flagged = [{"image_id": "e" * 16, "status": "flagged"}]
    history = [Pick(A, rating=5), Pick("e" * 16, rating=5), Pick("9" * 16, rating=5)]
    for rows in (ROWS + flagged, ROWS + flagged + failed, ROWS + ROWS[:2] + flagged):
        metrics = pick_metrics(rows, history)
        assert (metrics["pick_rate"], metrics["picks_rated"]) == (2 / 5, 2.0)
    assert pick_metrics(failed, [Pick("f" * 16, rating=5)])["pick_rate"] == 0.0


def test_what_two_people_say_of_an_image_counts_together():
    history = [
        Pick(A, rating=5, who="ann", picked_at="2026-11-01T10:00:00Z"),
        Pick(A, is_reject=True, who="bob", picked_at="2026-11-01T11:00:00Z"),
    ]
    metrics = pick_metrics(ROWS, history)
    assert (metrics["pick_rate"], metrics["picks_rejects"]) == (0.25, 0.0)
    assert pick_tags(ROWS, history)["promptlab.picks.who"] == "ann bob"


def test_tags_name_the_images_and_those_who_judged():
    history = [Pick(A, is_favourite=True, who="bob"), Pick(B, rating=4, who="ann")]
    assert pick_tags(ROWS, history) == {
        "promptlab.picks.favourites": A,
        "promptlab.picks.rejects": "",
        "promptlab.picks.rated": f"{B}:4",
        "promptlab.picks.who": "ann bob",
    }


def test_a_verdict_taken_back_is_taken_back_in_mlflow_too():
    history = [
        Pick(A, is_favourite=True, picked_at="2026-11-01T10:00:00Z"),
        Pick(A, picked_at="2026-11-01T11:00:00Z"),
    ]
    assert pick_metrics(ROWS, history)["picks_favourites"] == 0.0
    assert pick_tags(ROWS, history)["promptlab.picks.favourites"] == ""


def test_many_picks_fit_a_tag():
    rows = [{"image_id": f"{i:016x}", "status": "ok"} for i in range(1000)]
    history = [Pick(row["image_id"], is_favourite=True) for row in rows]
    assert max(map(len, pick_tags(rows, history).values())) <= 5000


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_picks_given_later_reach_mlflow_by_the_pick_command(tmp_path, monkeypatch):
    import mlflow

    uri = make_database(tmp_path, "mlflow.db")

    run = make_run(tmp_path / "runs" / "run", subjects=["a fox"], styles=["noto"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    sync(run)
    image_id = read_run(run).rows(["image_id"])[0]["image_id"]
    where = ["--runs-dir", str(tmp_path / "runs"), "--no-report", "--who", "ann"]
    assert main(["pick", image_id, "--rating", "4", *where]) == 0
    found = mlflow.MlflowClient(uri).search_runs(
        [e.experiment_id for e in mlflow.MlflowClient(uri).search_experiments()],
        "tags.`promptlab.kind` = 'arm'",
    )
    (arm,) = found
    assert arm.data.metrics["rating_mean"] == 4.0
    assert arm.data.metrics["pick_rate"] == 0.5
    assert arm.data.tags["promptlab.picks.rated"] == f"{image_id}:4"
