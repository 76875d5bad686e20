"""A run is scored once: what a scorer has answered is on disk and is not asked again."""

import csv
import json
import os

import pyarrow.parquet as pq
import pytest

from promptlab.paths import RunPaths
from promptlab.scores.measures import Look, Relative
from promptlab.scores.protocol import Item, Score
from promptlab.scores.registry import default_scorers, open_scorer, open_scorers
from promptlab.scores.scoring import score_run
from promptlab.store import read_run
from promptlab.verdicts import read_scores
from tests.report.runs import make_run
from tests.scores.scorers import Brightness


@pytest.fixture
def root(tmp_path):
    return make_run(tmp_path / "runs" / "a", subjects=("a fox", "a robot"), styles=("noto", "x"))


def values_of(root: str) -> dict[str, dict[str, float | None]]:
    ids = [row["image_id"] for row in read_run(root).rows(["image_id"])]
    scores = read_scores([RunPaths(root).scores_parquet], ids)
    return {score.name: dict(zip(ids, score.values, strict=True)) for score in scores}


def rows_on_disk(root: str) -> list[dict]:
    return pq.read_table(f"{root}/scores.parquet").to_pylist()


def test_every_image_gets_its_score_and_a_second_run_computes_nothing(root):
    scorer = Brightness()
    (tally,) = score_run(root, [scorer])
    assert (tally.num_scored, tally.num_known) == (8, 0)
    values = values_of(root)["brightness"]
    run = read_run(root)
    assert len(values) == 8
    for image_id, value in values.items():
        from promptlab.scores.embeddings import read_pixels

        ((_, pixels),) = read_pixels(run, [image_id])
        assert value == pytest.approx(pixels.mean() / 255, abs=1e-6)
    (tally,) = score_run(root, [scorer])
    assert (tally.num_scored, tally.num_known, scorer.asked) == (0, 8, [8])


def test_a_new_fingerprint_makes_all_values_anew_and_replaces_the_old_ones(root):
    score_run(root, [Brightness()])
    newer = Brightness(fingerprint="2")
    score_run(root, [newer])
    assert newer.asked == [8]
    assert {row["fingerprint"] for row in rows_on_disk(root)} == {"2"}


def test_an_image_has_the_same_score_alone_and_in_any_batch(root, monkeypatch):
    from promptlab.scores import scoring

    score_run(root, [Brightness("together")])
    monkeypatch.setattr(scoring, "batches", lambda images: ([image] for image in images))
    score_run(root, [Brightness("alone")])
    values = values_of(root)
    assert values["alone"] == values["together"]


def test_an_image_that_a_scorer_fails_on_is_a_row_and_the_others_have_values(root):
    scorer = Brightness(fails_on="robot")
    (tally,) = score_run(root, [scorer])
    assert (tally.num_scored, tally.num_failed) == (4, 4)
    errors = [row["error"] for row in rows_on_disk(root) if row["value"] is None]
    assert errors == ["RuntimeError: no robot please"] * 4
    assert sum(value is None for value in values_of(root)["brightness"].values()) == 4
    asked = len(scorer.asked)
    score_run(root, [scorer])
    assert len(scorer.asked) == asked, "failures are not tried again by themselves"
    healthy = Brightness()
    (tally,) = score_run(root, [healthy], retry_failed=True)
    assert (tally.num_scored, tally.num_known) == (4, 4)


def test_a_scorer_with_nothing_to_say_is_not_asked_again(root):
    scorer = Brightness(silent_on="robot")
    score_run(root, [scorer])
    (tally,) = score_run(root, [scorer])
    assert (tally.num_known, tally.num_failed) == (8, 0)
    assert sum(value is None for value in values_of(root)["brightness"].values()) == 4


class Stopped(Brightness):
    def score(self, items: list[Item]) -> list[Score]:
        if self.asked:
            raise KeyboardInterrupt
        return super().score(items)


def test_what_was_scored_before_an_interruption_is_kept(root, monkeypatch):
    from promptlab.scores import embeddings, scoring

    monkeypatch.setattr(scoring, "batches", lambda images: embeddings.batches(images, 3))
    with pytest.raises(KeyboardInterrupt):
        score_run(root, [Stopped()])
    assert len(rows_on_disk(root)) == 3
    (tally,) = score_run(root, [Brightness()])
    assert (tally.num_known, tally.num_scored) == (3, 5)


def test_parts_that_are_merged_while_they_are_read_are_looked_for_again(root, monkeypatch):
    from promptlab.store import Run

    iter_images = Run.iter_images
    calls = []

    def merged_once(run, image_ids=None):
        calls.append(len(image_ids))
        for number, image in enumerate(iter_images(run, image_ids)):
            if number == 3 and len(calls) == 1:
                raise FileNotFoundError("part-000003.parquet")
            yield image

    monkeypatch.setattr(Run, "iter_images", merged_once)
    scorer = Brightness()
    (tally,) = score_run(root, [scorer])
    assert (tally.num_scored, tally.num_failed) == (8, 0)
    assert calls == [8, 5], "what was read is not read again"


def test_failed_rows_have_no_score_and_images_no_change(tmp_path):
    root = make_run(tmp_path / "a", fails_on="robot")
    before = {name: os.stat(f"{root}/images/{name}") for name in os.listdir(f"{root}/images")}
    (tally,) = score_run(root, [Brightness()])
    assert tally.num_scored == 18
    for name, stat in before.items():
        assert os.stat(f"{root}/images/{name}") == stat


def test_a_run_that_grew_has_its_relative_scores_made_anew(tmp_path):
    root = make_run(tmp_path / "a", subjects=("a fox",), styles=("noto",), num_seeds=2)
    score_run(root, [Relative("twin"), Brightness()])
    before = values_of(root)
    make_run(tmp_path / "a", subjects=("a fox",), styles=("noto",), num_seeds=6)
    bright = Brightness()
    twin, _ = score_run(root, [Relative("twin"), bright])
    assert (bright.asked, twin.num_scored) == ([4], 6)
    after = values_of(root)
    assert all(after["brightness"][i] == value for i, value in before["brightness"].items())
    assert all(after["twin"][i] >= value for i, value in before["twin"].items())


def test_novelty_compares_with_the_runs_begun_before_and_not_with_the_image_itself(tmp_path):
    old = make_run(tmp_path / "runs" / "a", subjects=("a fox",), styles=("noto",), num_seeds=3)
    _set_time(old, "2020-01-01T00:00:00+00:00")
    new = make_run(tmp_path / "runs" / "b", subjects=("a fox",), styles=("noto",), num_seeds=4)
    score_run(new, [Relative("novelty")])
    ids = [row["image_id"] for row in read_run(new).rows(["image_id", "seed"])]
    assert None not in [values_of(new)["novelty"][i] for i in ids[1:]]
    assert min(values_of(new)["novelty"][i] for i in ids[1:]) > 1, "a copy of itself would be 0"


def _set_time(root: str, created_at: str) -> None:
    from pathlib import Path

    file = Path(root, "sweep.yaml")
    lines = file.read_text().splitlines(keepends=True)
    lines = [f"created_at: '{created_at}'\n" if x.startswith("created_at") else x for x in lines]
    file.write_text("".join(lines))


class CountingLook(Look):
    num_embedded = 0

    def embed(self, pixels):
        type(self).num_embedded += len(pixels)
        return super().embed(pixels)


def test_vectors_are_computed_once_and_kept_as_lists_of_float16(root):
    import pyarrow as pa

    from promptlab.scores.embeddings import embed_run

    CountingLook.num_embedded = 0
    first = embed_run(read_run(root), CountingLook())
    again = embed_run(read_run(root), CountingLook())
    assert CountingLook.num_embedded == 8
    assert first.keys() == again.keys()
    assert all((first[image_id] == again[image_id]).all() for image_id in first)
    table = pq.read_table(f"{root}/embeddings/look.parquet")
    assert table.schema.field("vector").type == pa.list_(pa.float16(), 256)
    changed = CountingLook()
    changed.fingerprint = "2"
    embed_run(read_run(root), changed)
    assert CountingLook.num_embedded == 16


def test_any_class_of_the_users_is_a_scorer_by_its_target(project):
    project.write(
        "conf/scorer/mine.yaml", "_target_: tests.scores.scorers.Brightness\nname: mine\n"
    )
    assert open_scorer("mine").name == "mine"
    project.run("sweep", "-m", "subject=a fox,a robot", "seeds=2")
    done = project.run("score", "--with", "mine", "blank", "--csv", "scores.csv", "--no-sync")
    assert done.code == 0, done.err
    assert "mine: 4 scored" in done.out
    with open("scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {float(row["mine"]) > 0 and float(row["blank"]) > 0 for row in rows} == {True}
    page = (project.runs[-1] / "index.html").read_text()
    assert '"name":"mine"' in page


def test_the_page_and_report_sort_by_a_score(project):
    project.write(
        "conf/scorer/mine.yaml", "_target_: tests.scores.scorers.Brightness\nname: mine\n"
    )
    project.run("sweep", "-m", "subject=a fox,a robot", "seeds=3")
    project.run("score", "--with", "sharpness", "mine", "--no-sync")
    done = project.run("report", "--sort", "mine", "--best", "--no-png")
    assert done.code == 0, done.err
    values = values_of(str(project.runs[-1]))["mine"]
    cells: dict[str, list[str]] = {}
    for row in project.rows():
        cells.setdefault(row["cell_id"], []).append(row["image_id"])
    best = {path.stem.rpartition("_")[2] for path in (project.runs[-1] / "best").glob("*.png")}
    assert best == {max(ids, key=values.get) for ids in cells.values()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a `_target_`"),
        ("_target_: tests.scores.scorers.flat\nlevel: 3", "is no scorer; missing: name"),
        ("_target_: tests.nowhere.Scorer", "cannot be opened"),
    ],
)
def test_what_is_no_scorer_is_refused_with_the_reason(project, text, message):
    project.write("conf/scorer/mine.yaml", text)
    project.run("sweep", "-m", "subject=a fox")
    done = project.run("score", "--with", "mine")
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_unknown_scorer_names_its_neighbours(project):
    project.run("sweep", "-m", "subject=a fox")
    done = project.run("score", "--with", "sharpnes")
    assert done.code == 1
    assert "Did you mean sharpness?" in done.err


def test_scorers_are_listed_with_what_they_say(project):
    done = project.run("score", "--list")
    assert "sharpness" in done.out
    assert "levels of 255" in done.out


def test_every_packaged_scorer_that_needs_nothing_else_opens():
    names = [scorer.name for scorer in open_scorers(["all"])]
    assert {"sharpness", "blank", "twin", "novelty", "spread"} <= set(names)


def test_the_default_scorers_fit_the_models_of_the_run():
    assert "sharpness" in default_scorers(["tiny", "sdxl"])


def test_a_score_file_says_what_its_columns_mean(root):
    score_run(root, [Brightness()])
    schema = pq.read_schema(f"{root}/scores.parquet")
    assert schema.names == ["image_id", "scorer", "fingerprint", "value", "error"]
    (scorer,) = json.loads(schema.metadata[b"promptlab.scorers"])
    assert (scorer["name"], scorer["low"], scorer["high"]) == ("brightness", 0.0, 1.0)
