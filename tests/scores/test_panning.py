"""Panning draws more seeds where they help most, and ends when all is good or the budget spent."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from promptlab.errors import ConfigError
from promptlab.scores.panning import MOST_AT_ONCE, Until, choose_round
from promptlab.store import read_run
from tests.conftest import ROOT

UNTIL = Until("mine", True, 0.9, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny_subject > 0.8", Until("tiny_subject", True, 0.8, None)),
        ("tiny_subject>=0.8 or 480 images", Until("tiny_subject", True, 0.8, 480)),
        (" twin < 1e-1 or 1 image", Until("twin", False, 0.1, 1)),
        ("clip-l/14>-2.5", Until("clip-l/14", True, -2.5, None)),
    ],
)
def test_until_says_score_threshold_and_images(text, expected):
    assert Until.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0.8", "mine", "mine > good", "mine = 1", "mine > 1 or two"])
def test_what_is_no_condition_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"until='tiny_subject > 0\.8'"):
        Until.parse(text)


def test_cells_that_are_good_enough_get_no_more():
    chosen = choose_round({"good": [0.2, 0.95], "bad": [0.1, 0.2]}, UNTIL, 100)
    assert chosen.keys() == {"bad"}
    assert choose_round({"good": [0.91]}, UNTIL, 100) == {}


def test_a_cell_without_scores_gets_no_more():
    assert choose_round({"silent": [], "bad": [0.1, 0.3]}, UNTIL, 10).keys() == {"bad"}


@pytest.mark.parametrize("num_left", [0, 1, 7, 1000])
def test_a_round_keeps_to_what_is_left(num_left):
    cells = {str(i): [0.1 * (i % 5), 0.15 * (i % 3)] for i in range(30)}
    chosen = choose_round(cells, UNTIL, num_left)
    assert sum(chosen.values()) <= num_left
    assert (num_left > 0) == bool(chosen)
    assert all(count <= MOST_AT_ONCE for count in chosen.values())


def test_seeds_go_where_they_are_expected_to_help_most():
    # Alike in their mean; one has had luck already, the others have most to gain.
    cells = {"lucky": [0.3, 0.85, 0.3, 0.3], **{f"c{i}": [0.4, 0.45] for i in range(40)}}
    assert "lucky" not in choose_round(cells, UNTIL, 20)


def test_the_order_of_cells_changes_nothing():
    rng = np.random.default_rng(1)
    cells = {str(i): rng.random(3).tolist() for i in range(25)}
    backwards = dict(reversed(cells.items()))
    assert choose_round(cells, UNTIL, 12) == choose_round(backwards, UNTIL, 12)


def test_where_low_is_better_the_same_cells_are_chosen():
    rng = np.random.default_rng(2)
    cells = {str(i): rng.random(3).tolist() for i in range(25)}
    turned = {cell: [-value for value in values] for cell, values in cells.items()}
    until = dataclasses.replace(UNTIL, is_higher_better=False, threshold=-0.9)
    assert choose_round(turned, until, 12) == choose_round(cells, UNTIL, 12)


def test_panning_beats_a_fixed_number_where_cells_differ_by_luck():
    from benchmarks.panning import compare

    scores = np.random.default_rng(3).beta(1, 2, (40, 16))
    found = compare(scores, 0.9, 5, 20, 4)
    assert found["low"] > 0
    assert found["panned"] - found["fixed"] == pytest.approx(found["difference"])


def make_sweep(project, *arguments):
    project.write(
        "conf/scorer/mine.yaml", "_target_: tests.scores.scorers.Brightness\nname: mine\n"
    )
    return project.run("sweep", "-m", "subject=a fox,a robot,an owl,a cat", *arguments)


def best_by_cell(project) -> dict[str, float]:
    from promptlab.verdicts import read_scores

    run = read_run(str(project.runs[-1]))
    rows = run.rows(["image_id", "cell_id"])
    (score,) = read_scores([run.paths.scores_parquet], [row["image_id"] for row in rows])
    best: dict[str, float] = {}
    for row, value in zip(rows, score.values, strict=True):
        best[row["cell_id"]] = max(best.get(row["cell_id"], 0), value)
    return best


def test_a_sweep_draws_rounds_until_every_cell_is_good(project):
    done = make_sweep(project, "seeds=auto", "until='mine > 0.55 or 200 images'")
    assert done.code == 0, done.err
    assert min(best_by_cell(project).values()) > 0.55
    seeds: dict[str, list[int]] = {}
    for row in project.rows():
        seeds.setdefault(row["subject"], []).append(row["seed"])
    assert all(sorted(found) == list(range(len(found))) for found in seeds.values())
    assert len({len(found) for found in seeds.values()}) > 1, "not every cell needs as many"
    record = read_run(str(project.runs[-1])).record
    assert record.num_images == len(project.rows())
    assert len(project.runs) == 1


@pytest.mark.slow
def test_a_sweep_ends_with_its_budget_and_again_draws_nothing(project):
    arguments = ("seeds=auto", "until='mine > 2 or 19 images'")
    make_sweep(project, *arguments)
    assert len(project.rows()) == 19
    before = project.rows()
    done = make_sweep(project, *arguments)
    assert done.code == 0, done.err
    assert project.rows() == before
    record = read_run(str(project.runs[-1])).record
    assert record.num_images == 19
    make_sweep(project, "seeds=auto", "until='mine > 2 or 25 images'")
    assert len(project.runs) == 1
    assert len(project.rows()) == 25, "a larger budget resumes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seeds=auto"], "seeds=auto and until=… belong together"),
        (["seeds=2", "until='mine > 1'"], "belong together"),
        (["seeds=auto", "until='mine better'"], "expected a score and where"),
        (["seeds=auto", "until='nobody > 1'"], "Unknown scorer 'nobody'"),
        (["score=[nobody]"], "Unknown scorer 'nobody'"),
    ],
)
def test_mistakes_are_refused_before_anything_is_drawn(project, arguments, message):
    done = make_sweep(project, *arguments)
    assert done.code == 1
    assert message in done.err
    assert not project.runs or not list(project.runs[-1].glob("images/*"))


def test_a_sweep_scores_its_images_in_a_process_beside_it(project):
    done = make_sweep(project, "seeds=3", "score=[sharpness,twin]")
    assert done.code == 0, done.err
    run = read_run(str(project.runs[-1]))
    from promptlab.verdicts import read_scores

    ids = [row["image_id"] for row in run.rows(["image_id"])]
    scores = {s.name: s.values for s in read_scores([run.paths.scores_parquet], ids)}
    assert scores.keys() == {"sharpness", "twin"}
    assert all(None not in values for values in scores.values())
    assert '"name":"sharpness"' in (project.runs[-1] / "index.html").read_text()
    assert (project.runs[-1] / "scores_summary.parquet").exists()


def test_modules_of_the_working_directory_have_nothing_to_do_with_the_scoring(project):
    project.write("random.py", "raise SystemExit('a module of the user')")
    done = make_sweep(project, "seeds=2", "score=[sharpness]")
    assert done.code == 0
    assert len(pq.read_table(project.runs[-1] / "scores.parquet")) == len(project.rows())


def test_a_scorer_that_fails_beside_a_sweep_is_a_warning(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the other process finds it
    project.write(
        "conf/scorer/shy.yaml",
        "_target_: tests.scores.scorers.Brightness\nname: shy\nfails_on: robot\n",
    )
    done = make_sweep(project, "seeds=2", "score=[shy]")
    assert done.code == 0
    assert "shy failed on 2: RuntimeError: no robot please" in done.out + done.err


def test_a_follower_scores_parts_as_they_come_and_all_at_the_end(tmp_path, monkeypatch):
    from promptlab.scores import beside
    from promptlab.scores.measures import Relative
    from tests.report.runs import make_run
    from tests.scores.scorers import Brightness

    root = make_run(tmp_path / "a", num_seeds=8)  # 96 images
    scorer = Brightness()
    told = iter([["10"], ["10", "70"], ["finish"]])
    seen = []
    score_run = beside.score_run
    monkeypatch.setattr(
        beside,
        "score_run",
        lambda root, scorers: seen.append(len(scorers)) or score_run(root, scorers),
    )
    tallies = beside.follow(root, [scorer, Relative("twin")], lambda: next(told))
    assert seen == [1, 2], "few images are no reason to read the run; relative scores wait"
    assert sum(scorer.asked) == 96
    assert [tally.num_failed for tally in tallies] == [0, 0]


def test_a_follower_whose_sweep_died_ends(tmp_path):
    from promptlab.scores.beside import follow

    assert follow(str(tmp_path), [], lambda: []) == []
