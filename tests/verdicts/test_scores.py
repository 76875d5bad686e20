"""Scores are kept by image and scorer: what is newer replaces what is older, and nothing else."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptlab.errors import ReportError
from promptlab.verdicts.scores import (
    SCORERS_KEY,
    Scorer,
    ScoreRow,
    read_scores,
    record_scores,
    scored_ids,
)

A, B, C = (letter * 16 for letter in "abc")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path


def values(run: Path) -> dict[str, tuple[float | None, ...]]:
    scores = read_scores([f"{run}/scores.parquet"], [A, B, C])
    return {score.name: score.values for score in scores}


def test_values_of_other_weights_are_gone_even_of_images_that_were_not_asked_about_again(run):
    record_scores(run, Scorer("taste", "1"), {A: 0.1, B: 0.2})
    record_scores(run, Scorer("sharp", "1"), {B: 0.3})
    record_scores(run, Scorer("taste", "2"), {A: 0.9})
    assert values(run) == {"taste": (0.9, None, None), "sharp": (None, 0.3, None)}
    assert scored_ids(run, Scorer("taste", "1"), with_failed=True) == set()
    assert scored_ids(run, Scorer("taste", "2"), with_failed=True) == {A}


def test_values_of_the_same_weights_stay_beside_new_ones_and_newer_ones_replace_them(run):
    taste = Scorer("taste", "1")
    record_scores(run, taste, {A: 0.1, B: 0.2})
    record_scores(run, taste, {B: 0.5, C: 0.7})
    assert values(run) == {"taste": (0.1, 0.5, 0.7)}


def test_an_answer_without_a_value_is_an_answer_and_one_that_failed_may_be_asked_again(run):
    taste = Scorer("taste", "1")
    record_scores(run, taste, {A: None, C: math.nan}, {B: "no picture"})
    assert values(run) == {}
    assert scored_ids(run, taste, with_failed=True) == {A, B}
    assert scored_ids(run, taste, with_failed=False) == {A}
    record_scores(run, taste, {B: 0.5})
    assert values(run) == {"taste": (None, 0.5, None)}
    assert scored_ids(run, taste, with_failed=False) == {A, B}


def test_where_files_disagree_the_later_ones_win_in_values_and_in_scale(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    record_scores(first, Scorer("taste", "1", low=0.0, high=1.0), {A: 0.1, B: 0.2})
    record_scores(second, Scorer("taste", "2", False, low=0.0, high=9.0), {B: 5.0, C: 7.0})
    paths = [f"{first}/scores.parquet", f"{second}/scores.parquet"]
    (score,) = read_scores(paths, [A, B, C])
    assert score.values == (0.1, 5.0, 7.0)
    assert (score.is_higher_better, score.high) == (False, 9.0)
    (score,) = read_scores(paths[::-1], [A, B, C])
    assert score.values == (0.1, 0.2, 7.0)
    assert (score.is_higher_better, score.high) == (True, 1.0)
    assert read_scores(paths, ["d" * 16]) == ()


@pytest.mark.parametrize("scale", [{}, {"is_higher_better": False, "low": 0.0, "high": 2.0}])
def test_a_scorers_scale_is_the_one_it_has_or_as_far_as_its_values_go(run, scale):
    record_scores(run, Scorer("taste", **scale), {A: 0.25, B: 0.75})
    (score,) = read_scores([f"{run}/scores.parquet"], [A, B, C])
    assert (score.low, score.high) == ((0.0, 2.0) if scale else (0.25, 0.75))
    order = sorted(range(3), key=score.badness)
    assert order == ([0, 1, 2] if scale else [1, 0, 2]), "the one without a value is last"


def test_a_row_is_what_the_scorer_said(run):
    record_scores(run, Scorer("taste", "1"), {A: 0.5, B: None}, {C: "no picture"})
    rows = [ScoreRow(**row) for row in pq.read_table(f"{run}/scores.parquet").to_pylist()]
    assert rows == [
        ScoreRow(A, "taste", "1", 0.5),
        ScoreRow(B, "taste", "1", None),
        ScoreRow(C, "taste", "1", None, "no picture"),
    ]


@pytest.mark.parametrize("name", ["scorer", "score", "name", "metric"])
@pytest.mark.parametrize("value", ["value", "score_value"])
def test_files_of_others_with_a_row_a_score_are_read(run, name, value):
    table = pa.table({"image_id": [A, B, C], name: ["x", "x", "y"], value: [1, None, math.nan]})
    pq.write_table(table, run / "scores.parquet")
    assert values(run) == {"x": (1.0, None, None)}
    assert scored_ids(run, Scorer("x"), with_failed=True) == {A, B}
    record_scores(run, Scorer("x", "2"), {A: 5.0})
    assert values(run) == {"x": (5.0, None, None)}


def test_files_of_others_with_a_column_a_score_are_read(run):
    columns = {"image_id": [A, B, C], "n": [1, None, 3], "x": [0.5, math.inf, None]}
    pq.write_table(pa.table({**columns, "words": ["a", "b", "c"]}), run / "scores.parquet")
    assert values(run) == {"n": (1.0, None, 3.0), "x": (0.5, None, None)}


def test_a_scorers_newer_scale_counts_and_what_a_newer_promptlab_says_of_it_is_ignored(run):
    record_scores(run, Scorer("taste", high=1.0), {A: 0.5})
    record_scores(run, Scorer("taste", is_higher_better=False, high=5.0), {B: 0.25})
    table = pq.read_table(run / "scores.parquet")
    text = table.schema.metadata[SCORERS_KEY].replace(b'{"name"', b'{"new": 1, "name"')
    pq.write_table(table.replace_schema_metadata({SCORERS_KEY: text}), run / "scores.parquet")
    (score,) = read_scores([f"{run}/scores.parquet"], [A, B])
    assert (score.high, score.low, score.is_higher_better) == (5.0, 0.25, False)


def test_scores_that_several_programs_keep_at_once_are_all_kept(run):
    def keep(number: int) -> None:
        record_scores(run, Scorer(f"s{number}"), {A: float(number)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, range(8)))
    assert values(run) == {f"s{n}": (float(n), None, None) for n in range(8)}


def test_a_file_that_is_no_table_of_scores_is_one_message_and_stays(run):
    (run / "scores.parquet").write_bytes(b"no parquet")
    for use in (lambda: values(run), lambda: record_scores(run, Scorer("x"), {A: 1.0})):
        with pytest.raises(ReportError, match=r"scores\.parquet cannot be read"):
            use()
    assert (run / "scores.parquet").read_bytes() == b"no parquet"
