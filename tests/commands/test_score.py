"""What `promptlab score` says, writes as a table, and returns."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.commands.score import _write_csv, describe
from promptlab.scores.scoring import Tally
from promptlab.store import read_run
from promptlab.verdicts.scores import Scorer, record_scores
from tests.conftest import Project
from tests.report.runs import make_run
from tests.scores.scorers import Brightness


def test_the_table_has_a_line_an_image_and_a_column_a_score(tmp_path: Path):
    roots = [
        make_run(tmp_path / "a", subjects=["a fox", "a yak"], styles=["noto"], fails_on="yak"),
        make_run(tmp_path / "b", subjects=['été, "d\'or"'], styles=["noto"]),
    ]
    rows = [[r for r in read_run(root).rows() if r["status"] != "failed"] for root in roots]
    ids = [[row["image_id"] for row in each] for each in rows]
    record_scores(roots[0], Scorer("sharp"), {ids[0][0]: 0.25, ids[0][1]: None})
    record_scores(roots[1], Scorer("sharp"), {ids[1][1]: 0.5})
    record_scores(roots[1], Scorer("taste"), dict.fromkeys(ids[1], 1.0))
    path = tmp_path / "scores.csv"
    path.write_text("old")
    _write_csv(roots, str(path))
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [line["image_id"] for line in table] == [*ids[0], *ids[1]]
    assert [line["sharp"] for line in table] == ["0.25", "", "", "0.5"]
    assert [line["taste"] for line in table] == ["", "", "1.0", "1.0"]
    for line, row in zip(table, [*rows[0], *rows[1]], strict=True):
        for name in ("subject", "style", "template", "model", "prompt"):
            assert line[name] == row[name]
        assert line["seed"] == str(row["seed"])


@dataclass
class Paid(Brightness):
    """A scorer whose prices are known."""

    cost_usd: float = 0.25


FREE, PAID = Brightness("x"), Paid("x")


@pytest.mark.parametrize(
    ("tally", "text"),
    [
        (Tally(FREE, num_known=8, num_scored=24), "x: 24 scored, 8 known"),
        (Tally(FREE, 0, 1200, 2, "too dark"), "x: 1,200 scored, 2 failed (too dark)"),
        (Tally(PAID, num_scored=1), "x: 1 scored, $0.2500"),
        (Tally(Paid("x", cost_usd=0.0)), "x: 0 scored, $0.0000"),
    ],
)
def test_a_scorers_work_is_told_in_one_line(tally: Tally, text: str):
    assert describe(tally) == text


def test_a_failure_is_an_exit_code_and_is_tried_again_where_one_asks_for_it(project: Project):
    text = "_target_: tests.scores.scorers.Brightness\nname: mine\nfails_on: yak\n"
    project.write("conf/scorer/mine.yaml", text)
    make_run(project.path / "runs" / "x", subjects=["a fox", "a yak"], styles=["noto"], num_seeds=1)
    score = ["score", "--with", "mine", "--no-report", "--no-sync"]
    assert main(score) == 1
    assert "1 scored, 1 failed (RuntimeError: no yak please)" in project.capsys.readouterr().out
    project.write("conf/scorer/mine.yaml", text.replace("yak", "gnu"))
    assert main(score) == 0
    assert "mine: 0 scored, 2 known" in project.capsys.readouterr().out
    assert main([*score, "--retry-failed"]) == 0
    assert "mine: 1 scored, 1 known" in project.capsys.readouterr().out
    assert not (project.path / "runs" / "x" / "index.html").exists()
