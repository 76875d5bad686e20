"""Runs and browsers for the tests of the contact sheet."""

import shutil

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.store import read_run
from tests.report.browsing import Page
from tests.report.runs import make_run, write_scores

WINDOW = {"width": 1280, "height": 900}
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Work in a folder of the test's own: the page of several runs is written below it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def foxes(tmp_path_factory):
    """A run of 4 subjects × 3 styles × 2 seeds that no test changes."""
    return make_run(tmp_path_factory.mktemp("runs") / "20261122_1200_foxes")


@pytest.fixture(scope="session")
def chromium():
    """One headless Chromium for all tests; skipped where there is none."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium):
    """Open pages in fresh contexts; at the end no page may have complained."""
    contexts = []
    pages = []

    def make(**options):
        context = chromium.new_context(**{"viewport": WINDOW, **options})
        context.set_default_timeout(8_000)
        contexts.append(context)
        pages.append(Page(context.new_page()))
        return pages[-1]

    yield make
    problems = [problem for page in pages for problem in page.problems]
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="module")
def sheet(foxes, tmp_path_factory):
    """A page of the run that no test changes, beside its images."""
    ids = [row["image_id"] for row in read_run(foxes).rows(["image_id"])]
    write_scores(foxes, {image_id: i / len(ids) for i, image_id in enumerate(ids)})
    return write_contact_sheet(foxes, ReportOptions(png=False)).index_html
