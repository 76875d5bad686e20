"""A file of picks finds the run that it is about, wherever that is by now, and no other one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from promptlab.errors import ReportError
from promptlab.store import read_run
from promptlab.verdicts.picks_file import downloads_folder, find_picks_file, runs_of_picks
from tests.report.runs import make_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of different images, the second one under two names."""
    for name, subject in (("first", "a fox"), ("second", "an owl")):
        make_run(tmp_path / name, subjects=[subject], styles=["noto"], num_seeds=1)
    shutil.copytree(tmp_path / "second", tmp_path / "copy")
    return tmp_path


def naming(runs: Path, *names: str, root: str | None = None) -> str:
    """Return the text of a file that a page of these runs saved."""
    named = [
        {"root": root or str(runs / name), "run_id": read_run(str(runs / name)).record.run_id}
        for name in names
    ]
    return json.dumps({"runs": named})


def found(runs: Path, text: str, *held: str) -> set[str]:
    """Return the names of the folders that are found; the picks are on images of `held`."""
    ids = {row["image_id"] for name in held for row in read_run(str(runs / name)).rows()}
    return {Path(root).name for root in runs_of_picks(text, ids, str(runs))}


@pytest.mark.parametrize(
    ("saved", "is_meant"),
    [
        ("picks_run.json", True),
        ("picks_run (1).json", True),  # Chromium and Firefox
        ("picks_run(12).json", True),
        ("picks_run2.json", False),
        ("picks_run (a).json", False),
        ("my picks_run.json", False),
        ("picks_run.json.part", False),
        ("picks_runXjson", False),
    ],
)
def test_a_file_that_a_browser_saved_under_another_number_is_found(
    tmp_path, monkeypatch, saved, is_meant
):
    monkeypatch.chdir(tmp_path)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(downloads))
    (downloads / saved).write_text("{}")
    if is_meant:
        assert find_picks_file("picks_run.json") == downloads / saved
    else:
        with pytest.raises(ReportError, match="neither here nor in"):
            find_picks_file("picks_run.json")


def test_a_file_that_is_named_with_its_folder_is_none_of_the_downloads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("downloads", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(tmp_path / "downloads"))
    (tmp_path / "downloads" / "picks_run.json").write_text("{}")
    for name in ("here/picks_run.json", str(tmp_path / "here" / "picks_run.json")):
        with pytest.raises(ReportError, match="neither here nor in"):
            find_picks_file(name)
    (tmp_path / "picks_run.json").write_text("{}")
    assert find_picks_file("picks_run.json") == Path("picks_run.json"), "here before elsewhere"
    assert find_picks_file("") == tmp_path / "downloads" / "picks_run.json"


def test_downloads_are_in_the_home_folder_unless_the_desktop_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", "")
    assert downloads_folder() == tmp_path / "Downloads"
    with pytest.raises(ReportError, match="No picks_"):
        find_picks_file("")


@pytest.mark.parametrize("names", [("first",), ("second",), ("copy",), ("first", "second")])
def test_the_runs_that_a_file_names_are_meant_and_not_their_copies(runs, names):
    assert found(runs, naming(runs, *names), *names) == set(names)


def test_a_run_that_was_moved_is_found_where_it_is_now(runs):
    text = naming(runs, "first")
    (runs / "first").rename(runs / "moved")
    assert found(runs, text, "moved") == {"moved"}


def test_a_run_that_is_named_twice_is_found_once(runs):
    text = json.dumps({"runs": json.loads(naming(runs, "first"))["runs"] * 2})
    assert runs_of_picks(text, [], str(runs)) == [str(runs / "first")]


def test_a_folder_that_holds_another_run_by_now_is_not_taken_for_the_one_that_is_named(runs):
    text = naming(runs, "first", root=str(runs / "second"))
    assert found(runs, text, "first") == {"first"}


def test_a_file_that_names_no_run_is_about_those_that_hold_its_images(runs):
    assert found(runs, "{}", "first") == {"first"}
    for root in ("", "nowhere", str(runs)):
        text = json.dumps({"runs": [{"root": root, "run_id": ""}, "x", None]})
        assert found(runs, text, "second") == {"second", "copy"}
    assert found(runs, '\ufeff{"runs": 5}', "first") == {"first"}
    with pytest.raises(ReportError, match="None of the 1 picked images"):
        runs_of_picks("{}", ["0" * 16], str(runs))
