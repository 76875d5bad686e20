"""The numbers of the summary are those that counting all choices gives."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from promptlab.scores.agreement import auc, grade, kendall_tau, rate
from promptlab.scores.summary import (
    best_of_curve,
    describe_summary,
    expected_best,
    summarize,
    write_summary,
)
from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, record_picks
from promptlab.verdicts.scores import Scorer, record_scores
from tests.report.runs import make_run
from tests.report.scripts import run_script

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("num_drawn", [1, 2, 3, 5])
def test_the_expected_best_is_the_mean_over_all_choices(num_drawn: int):
    values = RNG.normal(size=5)
    every = [max(chosen) for chosen in itertools.combinations(values, num_drawn)]
    assert expected_best(values, num_drawn) == pytest.approx(np.mean(every))


def test_thousands_of_seeds_overflow_nothing():
    values = np.arange(5000.0)
    assert expected_best(values, 4096) == pytest.approx(4999, abs=1)


def test_a_curve_doubles_its_seeds_as_far_as_most_cells_reach():
    cells = [RNG.normal(size=8), RNG.normal(size=9), RNG.normal(size=3)]
    curve = best_of_curve(cells)
    assert [(n, num_cells) for n, _, num_cells in curve] == [(1, 3), (2, 3), (4, 2), (8, 2)]
    means = [estimate.value for _, estimate, _ in curve]
    assert means == sorted(means)
    for _, estimate, _ in curve:
        assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth = 0.5642  # expected best of two standard normal numbers
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        cells = list(rng.normal(size=(40, 2)))
        estimate = best_of_curve(cells)[1][1]
        hits += estimate.low <= truth <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_kendalls_tau_is_scipys():
    x, y = RNG.normal(size=60), RNG.integers(0, 6, 60)
    estimate = kendall_tau(x.tolist(), y.tolist())
    assert estimate.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert estimate.low < estimate.value < estimate.high
    assert kendall_tau([1.0, 2.0], [3, 3]) is None


def test_auc_counts_pairs_and_its_interval_is_near_the_bootstraps():
    picked = RNG.random(80) < 0.4
    x = RNG.normal(size=80) + picked
    estimate = auc(x.tolist(), picked.tolist())
    wins = stats.mannwhitneyu(x[picked], x[~picked]).statistic
    assert estimate.value == pytest.approx(wins / (picked.sum() * (~picked).sum()))
    resampled = []
    for _ in range(400):
        rows = RNG.integers(80, size=80)
        again = auc(x[rows].tolist(), picked[rows].tolist())
        resampled.append(again.value)
    assert estimate.high - estimate.low == pytest.approx(4 * np.std(resampled), rel=0.25)


def test_auc_within_cells_compares_no_images_of_different_cells():
    # The score knows which cell is good, and in each cell it is wrong.
    values, picked, cells = [1, 2, 11, 12], [False, False, True, False], "aabb"
    assert auc(values, picked).value > 0.5
    assert auc(values, picked, list(cells)).value == 0
    assert auc([1, 2], [True, False], ["a", "b"]) is None


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (3, 7)])
def test_a_rate_has_wilsons_interval(hits: int, count: int):
    estimate = rate(hits, count)
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_a_favourite_is_liked_above_five_stars_and_a_note_is_no_judgement():
    image_id = "0" * 16
    picks = [
        Pick(image_id, is_favourite=True),
        Pick(image_id, rating=5),
        Pick(image_id, is_reject=True),
        Pick(image_id, note="hm"),
    ]
    assert [grade(pick) for pick in picks] == [6, 5, 0, None]


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> str:
    """A run whose score is the seed, but for noto, where it is ten more; one image picked."""
    root = make_run(tmp_path_factory.mktemp("runs") / "a", num_seeds=4)
    rows = read_run(root).rows(["image_id", "style", "seed", "subject"])
    values = {r["image_id"]: float(r["seed"] + 10 * (r["style"] == "noto")) for r in rows}
    record_scores(root, Scorer("luck"), values)
    record_scores(root, Scorer("flaw", is_higher_better=False), values)
    of_fox = [r for r in rows if r["subject"] == "a fox" and r["style"] == "noto"]
    record_picks(root, [Pick(r["image_id"], rating=1 + r["seed"]) for r in of_fox])
    return root


def test_each_axis_value_has_its_curve(judged):
    found = {
        (r.scorer, r.value, r.num_drawn): r.estimate
        for r in summarize(read_run(judged))
        if r.measure == "best_of" and r.axis == "style"
    }
    assert found["luck", "noto", 1] == pytest.approx(11.5)
    assert found["luck", "noto", 4] == pytest.approx(13)
    assert found["luck", "openmoji", 2] == pytest.approx((1 + 2 * 2 + 3 * 3) / 6)
    assert found["flaw", "openmoji", 4] == 0, "where low is better the lowest is the best"


def test_picks_give_rates_and_agreement(judged):
    rows = summarize(read_run(judged))
    rates = {(r.axis, r.value): r.estimate for r in rows if r.measure == "pick_rate"}
    assert rates["style", "noto"] == rates["all", "all"] == 0.5
    assert ("style", "openmoji") not in rates, "nobody judged one"
    agreement = {(r.scorer, r.measure): r.estimate for r in rows if r.axis == "all"}
    assert agreement["luck", "tau"] == pytest.approx(1)
    assert agreement["luck", "auc"] == 1
    assert agreement["flaw", "auc"] == 0


def test_the_summary_is_written_and_told(judged):
    rows = write_summary(judged)
    table = pq.read_table(f"{judged}/scores_summary.parquet")
    assert table.num_rows == len(rows)
    assert table.schema.names[:5] == ["scorer", "axis", "value", "measure", "num_drawn"]
    text = "\n".join(describe_summary(rows))
    assert "luck: expected best of N seeds" in text
    assert "style noto" in text
    assert "auc" in text


def test_a_run_without_scores_has_an_empty_summary(tmp_path):
    root = make_run(tmp_path / "a", subjects=("a fox",), styles=("noto",))
    assert write_summary(root) == []
    assert pq.read_table(f"{root}/scores_summary.parquet").num_rows == 0


def test_the_pages_curve_is_the_summarys(tmp_path: Path):
    cells = [RNG.normal(size=n).tolist() for n in (8, 9, 3, 1)]
    program = (
        'import { curveOf, makeCurves } from "./curves.js";\n'
        "const high = makeCurves(true); const low = makeCurves(false);\n"
        "given.cells.forEach((cell, i) => cell.forEach((v) => high.add(0, i, v)));\n"
        "given.cells.forEach((cell, i) => cell.forEach((v) => low.add(0, i, -v)));\n"
        "give([curveOf(given.cells), high.of(0), low.of(0), high.of(1)]);"
    )
    curve, high, low, nothing = run_script(tmp_path, program, cells=cells)
    expected = best_of_curve([np.array(cell) for cell in cells])
    assert [(n, pytest.approx(mean)) for n, mean, _ in curve] == [
        (n, estimate.value) for n, estimate, _ in expected
    ]
    assert high == curve
    assert [point[1] for point in low] == pytest.approx([-point[1] for point in curve])
    assert nothing == []
