"""Taste is learned from picks, says honestly how good it is, and is a scorer like any other."""

import json
from pathlib import Path

import numpy as np
import pytest

from promptlab.errors import ConfigError, ReportError
from promptlab.scores.measures import Measures
from promptlab.scores.scoring import score_run
from promptlab.scores.taste import (
    MIN_JUDGED,
    Taste,
    TasteScorer,
    cross_validate,
    fit_logistic,
    fit_taste,
    read_taste,
    write_taste,
)
from promptlab.store import read_run
from promptlab.verdicts import read_scores
from promptlab.verdicts.picks import Pick, record_picks
from tests.report.runs import make_run

RNG = np.random.default_rng(7)


def make_judged(root: Path, *, num_judged: int = 64, by_chance: bool = False) -> str:
    """A run whose reddish images were picked; or images by chance."""
    made = make_run(root, num_seeds=6)
    run = read_run(made)
    redness = {}
    from promptlab.scores.embeddings import read_pixels

    ids = sorted({row["image_id"] for row in run.rows(["image_id"])})[:num_judged]
    for image_id, pixels in read_pixels(run, ids):
        red, green, blue = pixels.reshape(-1, 3).mean(0)
        redness[image_id] = float(red - (green + blue) / 2)
    middle = np.median(list(redness.values()))
    record_picks(
        made,
        [
            Pick(i, rating=5 if (RNG.random() < 0.5 if by_chance else r > middle) else 1)
            for i, r in redness.items()
        ],
    )
    return made


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> str:
    return make_judged(tmp_path_factory.mktemp("runs") / "a")


def test_a_clear_liking_is_learned_and_told_on_images_that_were_left_out(judged):
    taste = fit_taste([judged], Measures(), "measures")
    assert taste.num_judged == 64
    assert taste.auc > 0.85
    assert taste.auc_low > 0.7


def test_picks_by_chance_are_not_called_taste(tmp_path):
    taste = fit_taste([make_judged(tmp_path / "a", by_chance=True)], Measures(), "measures")
    assert taste.auc_low < 0.5 < taste.auc_high + 0.15


def test_the_fit_does_not_depend_on_the_order_of_the_picks(judged, tmp_path):
    import pyarrow.parquet as pq

    first = fit_taste([judged], Measures(), "measures")
    path = f"{judged}/picks.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), path)
    assert fit_taste([judged], Measures(), "measures") == first


def test_a_cell_is_never_in_the_fit_and_in_the_test():
    # Each cell has its own vector and its own fate, by chance: knowing the cell would be all.
    cells = [f"c{number}" for number in range(20) for _ in range(4)]
    place = RNG.normal(size=(20, 12))
    vectors = np.repeat(place, 4, axis=0) + 0.01 * RNG.normal(size=(80, 12))
    picked = np.repeat(RNG.permutation([True, False] * 10), 4)
    assert cross_validate(vectors, picked, cells, 3.0).value < 0.8
    apart = [str(number) for number in range(80)]
    assert cross_validate(vectors, picked, apart, 3.0).value > 0.9


def test_the_fit_is_where_the_gradient_vanishes():
    x = RNG.normal(size=(50, 3))
    y = RNG.random(50) < 1 / (1 + np.exp(-x[:, 0]))
    weights = fit_logistic(x, y, 2.0)
    share = 1 / (1 + np.exp(-(x @ weights[:-1] + weights[-1])))
    assert np.abs(x.T @ (share - y) + 2 * weights[:-1]).max() < 1e-6
    assert weights[0] > abs(weights[1:3]).max()


@pytest.mark.parametrize("num_judged", [0, MIN_JUDGED - 1])
def test_too_few_picks_are_refused_with_what_is_needed(tmp_path, num_judged):
    root = make_judged(tmp_path / "a", num_judged=num_judged or 1)
    with pytest.raises(ReportError, match=f"at least {MIN_JUDGED} judged images"):
        fit_taste([root], Measures(), "measures")


def test_a_fitted_head_is_a_scorer(judged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taste = fit_taste([judged], Measures(), "measures")
    write_taste(taste)
    assert read_taste() == taste
    (tally,) = score_run(judged, [TasteScorer()])
    assert tally.num_scored == 72
    run = read_run(judged)
    ids = [row["image_id"] for row in run.rows(["image_id"])]
    (score,) = read_scores([run.paths.scores_parquet], ids)
    assert all(0 <= value <= 1 for value in score.values)
    (tally,) = score_run(judged, [TasteScorer()])
    assert (tally.num_known, tally.num_scored) == (72, 0)


def test_a_head_of_other_weights_or_none_is_refused(judged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="promptlab taste"):
        TasteScorer()
    taste = fit_taste([judged], Measures(), "measures")
    Path("taste.json").write_text(json.dumps({"embedder": "measures"}))
    with pytest.raises(ConfigError, match="is not what"):
        TasteScorer()
    import dataclasses

    write_taste(dataclasses.replace(taste, embedder_fingerprint="other"))
    with pytest.raises(ConfigError, match="other weights"):
        TasteScorer()


def test_another_fit_has_another_fingerprint():
    head = Taste("measures", "1", (0.0,), (1.0,), (1.0,), 0.0, 3.0, 20, 40, 0.8, 0.7, 0.9)
    import dataclasses

    assert dataclasses.replace(head, bias=0.1).fingerprint != head.fingerprint


def test_the_command_fits_scores_and_says_how_good_it_is(project):
    project.run("sweep", "-m", "subject=a fox,a robot,a cat,an owl", "seeds=12")
    run = project.runs[-1]
    rows = project.rows()
    record_picks(str(run), [Pick(r["image_id"], rating=5 if r["seed"] % 2 else 1) for r in rows])
    done = project.run("taste", "--no-sync")
    assert done.code == 0, done.err
    assert "fitted on 48 judged images, 24 of them picked" in done.out
    assert "AUC of" in done.out
    assert "not clearly better than chance" in done.out, "the pictures know no seed"
    assert '"name":"taste"' in (run / "index.html").read_text()
