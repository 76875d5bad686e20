"""Runs and browsers for the tests of the contact sheet."""

import shutil

import pytest

from tests.report.runs import make_run

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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
