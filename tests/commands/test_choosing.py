"""Which images `vary` and `upscale` draw from, and what the new sweep is called."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from promptlab.commands.choosing import (
    Chosen,
    add_arguments,
    bring_pages_up_to_date,
    choose,
    named,
    split_words,
)
from promptlab.errors import ConfigError, NoPicksError, StoreError
from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, record_picks
from promptlab.verdicts.scores import Scorer, record_scores
from tests.conftest import Project
from tests.report.runs import make_run


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_intermixed_args(words)


def chosen(*words: str) -> tuple[str, ...]:
    """Return the images that a command's words choose."""
    args = arguments(*words)
    return choose(args, split_words(args.words)[0]).image_ids


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run of two subjects and two seeds, three of whose images exist."""
    monkeypatch.chdir(tmp_path)
    options = {"subjects": ["a fox", "a yak"], "styles": ["noto"], "fails_on": "yak"}
    return make_run(tmp_path / "runs" / "foxes", **options)


def ids(run: str) -> list[str]:
    return [row["image_id"] for row in read_run(run).rows(["image_id"])]


def test_words_with_an_equals_sign_are_overrides_unless_they_are_a_folder(run, tmp_path):
    (tmp_path / "x=y").mkdir()
    words = ["0123", "seeds=3", "x=y", "runs/foxes", "+a=b"]
    assert split_words(words) == (["0123", "x=y", "runs/foxes"], ["seeds=3", "+a=b"])


def test_of_a_run_all_images_are_chosen_that_were_drawn(run):
    first, second, failed, _ = ids(run)
    assert chosen() == (first, second)
    assert chosen("runs/foxes") == chosen(run) == (first, second)
    assert chosen(second[:9], run, second) == (second, first), "each image once"
    assert chosen(failed) == (failed,), "what is named is tried"


def test_enlarged_images_of_a_run_are_not_enlarged_again(project: Project):
    assert project.run("sweep", "subject=a", "upscale=lanczos").code == 0
    original = next(row for row in project.rows() if row["source_id"] is None)
    assert len(project.rows()) == 2
    assert chosen() == (original["image_id"],)


def test_the_picked_and_the_best_are_chosen_as_people_and_scores_say(run):
    first, second, *_ = ids(run)
    with pytest.raises(NoPicksError):
        chosen("--picked")
    with pytest.raises(NoPicksError):
        chosen("--best", "1")
    record_scores(run, Scorer("sharp"), {first: 0.1, second: 0.9})
    assert chosen("--best", "1") == (second,)
    assert chosen("--best", "9") == (second, first), "a failed image is never the best"
    record_picks(run, [Pick(first, rating=4)])
    assert chosen("--picked") == chosen("--best", "1") == (first,)
    for number in ("0", "-1"):
        with pytest.raises(ConfigError, match="at least 1 image"):
            chosen("--best", number)


def test_a_run_without_images_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "none", subjects=["a yak"], fails_on="yak")
    with pytest.raises(StoreError, match="no image to draw from"):
        chosen()


def test_the_runs_that_hold_the_images_are_named_once_and_the_first_ones_sweep(run, tmp_path):
    other = make_run(tmp_path / "runs" / "owls", subjects=["an owl"], sweep="owls")
    found = choose(arguments(), [ids(other)[0], "runs/foxes", "runs/owls"])
    assert found.runs == ("runs/owls", "runs/foxes")
    assert found.sweep == "owls"


@pytest.mark.parametrize(
    ("sweep", "overrides", "expected"),
    [
        ("cats", ["seeds=3"], ["name='cats_varied'", "seeds=3"]),
        ("cats_varied", [], ["name='cats_varied'"]),
        ("cats_upscaled", [], ["name='cats_upscaled_varied'"]),
        ("cats", ["name=mine"], ["name=mine"]),
        ("cats", ["+name=mine", "x=1"], ["+name=mine", "x=1"]),
        ("cats", ["rename=1"], ["name='cats_varied'", "rename=1"]),
    ],
)
def test_the_new_sweep_is_called_after_the_first_one_unless_it_has_a_name(
    sweep, overrides, expected
):
    assert named(Chosen((), (), sweep), overrides, "_varied") == expected


def test_the_pages_of_parents_are_built_again_where_there_are_any(run, tmp_path, caplog):
    page = Path(run, "index.html")
    gone = Chosen((), (run, str(tmp_path / "runs" / "gone")), "x")
    bring_pages_up_to_date(gone)
    assert not page.exists()
    page.write_text("old")
    bring_pages_up_to_date(gone)
    assert page.read_text() != "old"
    Path(run, "images.parquet").rename(tmp_path / "away")
    Path(run, "images.parquet").write_text("no folder")
    bring_pages_up_to_date(gone)
    assert "is not up to date" in caplog.text
