"""Runs for the tests of the contact sheet."""

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.store import read_run
from tests.report.runs import make_run, write_scores


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Work in a folder of the test's own: the page of several runs is written below it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def foxes(tmp_path_factory):
    """A run of 4 subjects × 3 styles × 2 seeds that no test changes."""
    return make_run(tmp_path_factory.mktemp("runs") / "20261122_1200_foxes")


@pytest.fixture(scope="module")
def sheet(foxes, tmp_path_factory):
    """A page of the run that no test changes, beside its images."""
    ids = [row["image_id"] for row in read_run(foxes).rows(["image_id"])]
    write_scores(foxes, {image_id: i / len(ids) for i, image_id in enumerate(ids)})
    return write_contact_sheet(foxes, ReportOptions(png=False)).index_html
