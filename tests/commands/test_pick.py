"""What `promptlab pick` changes of a verdict, and of which runs."""

from __future__ import annotations

import argparse
import itertools
import logging
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.commands import pick as command
from promptlab.store import read_run
from promptlab.verdicts import picks
from promptlab.verdicts.picks import Pick
from tests.report.runs import make_run

A = "0123456789abcdef"


def changed(pick: Pick, *words: str) -> Pick:
    """Return a verdict as the words of a command change it."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command._changed(pick, parser.parse_args([A, "--who", "bob", *words]))


BEFORE = [
    Pick(A, rating=rating, is_favourite=is_favourite, is_reject=is_reject, note=note, who="bob")
    for rating, is_favourite, is_reject, note in itertools.product(
        (None, 2), (False, True), (False, True), ("", "hm")
    )
]


@pytest.mark.parametrize("before", BEFORE, ids=command.describe)
def test_a_verdict_changes_what_it_names_and_what_cannot_stand_beside_it(before: Pick):
    def facts(pick: Pick) -> tuple[object, ...]:
        assert pick.who == "bob"
        assert pick.picked_at >= before.picked_at
        return pick.rating, pick.is_favourite, pick.is_reject, pick.note

    rating, is_favourite, is_reject, note = facts(before)
    assert facts(changed(before, "--rating", "4")) == (4, is_favourite, False, note)
    assert facts(changed(before, "--favourite")) == (rating, True, False, note)
    assert facts(changed(before, "--reject")) == (None, False, True, note)
    assert facts(changed(before, "--note", "")) == (rating, is_favourite, is_reject, "")
    assert facts(changed(before, "--note", "new")) == (rating, is_favourite, is_reject, "new")


def test_a_verdict_is_told_in_all_its_words():
    assert command.describe(Pick(A, is_favourite=True, rating=5, note="hm")) == "favourite, 5 of 5"
    assert command.describe(Pick(A, is_reject=True)) == "reject"
    assert command.describe(Pick(A, note="hm")) == "note"
    assert command.describe(Pick(A)) == "cleared"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two runs of one image each."""
    monkeypatch.chdir(tmp_path)
    options = {"styles": ["noto"], "num_seeds": 1}
    return [make_run(tmp_path / "runs" / name, subjects=[name], **options) for name in ("a", "b")]


def image_of(run: str) -> str:
    return str(read_run(run).rows(["image_id"])[0]["image_id"])


def test_each_run_takes_the_verdicts_on_its_own_images_and_strangers_are_counted(
    runs: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys
):
    given = [Pick(i, rating=5, who="ann") for i in (*map(image_of, runs), A)]
    (tmp_path / "picks.json").write_text(picks.picks_to_json(given))
    words = ["pick", "--import", "picks.json", *runs, "--no-report", "--who", "bob"]
    with caplog.at_level(logging.WARNING):
        assert main(words) == 0
    assert "1 picked images are in none of the runs" in caplog.text
    assert "2 new of 3 picks" in capsys.readouterr().out
    for run in runs:
        assert set(picks.current_picks(run)) == {image_of(run)}
        assert picks.current_picks(run)[image_of(run)].who == "ann"
        assert not Path(run, "index.html").exists()


def test_pages_are_built_and_mlflow_is_left_alone_where_it_never_held_the_run(
    runs: list[str], tmp_path: Path
):
    assert main(["pick", image_of(runs[0]), "--rating", "5"]) == 0
    assert [Path(run, "index.html").exists() for run in runs] == [True, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_verdicts_are_kept_although_the_page_cannot_be_built(
    runs: list[str], caplog: pytest.LogCaptureFixture
):
    Path(runs[0], "index.html").mkdir()
    with caplog.at_level(logging.WARNING):
        assert main(["pick", image_of(runs[0]), "--rating", "5"]) == 0
    assert "The picks are kept, but the page is not up to date: " in caplog.text
    assert len(picks.current_picks(runs[0])) == 1
    caplog.clear()
    assert main(["pick", image_of(runs[0]), "--reject", "--no-report"]) == 0
    assert "up to date" not in caplog.text


@pytest.mark.parametrize("flag", ["--export", "--copy"])
def test_the_run_that_is_named_is_exported_and_not_the_newest(
    runs: list[str], tmp_path: Path, flag: str, capsys
):
    for run in runs:
        picks.record_picks(run, [Pick(image_of(run), rating=5)])
    words = [flag, "out"] if flag == "--copy" else [flag]
    for named in (runs[:1], runs[1:], runs):
        assert main(["pick", *words, *named]) == 0
        meant = {image_of(run) for run in named}
        if flag == "--copy":
            found = {path.stem.rpartition("_")[2] for path in (tmp_path / "out").iterdir()}
            for path in (tmp_path / "out").iterdir():
                path.unlink()
        else:
            found = {pick.image_id for pick in picks.picks_from_json(capsys.readouterr().out)}
        assert found == meant


def test_a_rejected_and_a_poor_image_are_not_copied(runs: list[str], tmp_path: Path, capsys):
    picks.record_picks(runs[0], [Pick(image_of(runs[0]), rating=5, is_reject=True)])
    assert main(["pick", "--copy", "out", runs[0]]) == 0
    assert "No picks yet" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
