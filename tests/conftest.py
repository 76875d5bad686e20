"""A user's folder to run promptlab in, and a browser to open pages in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.painters import CALLS
from tests.report.browsing import Page

hypothesis.settings.register_profile("no deadline", deadline=None)  # the machine may be busy
hypothesis.settings.load_profile("no deadline")

ROOT = Path(__file__).parents[1]  # what finds `tests.painters`
PAINT = """\
# @package _global_
# Paints colored tiles.
model:
  _target_: tests.painters.PaintModel
  name: {name}
  size: 32
  delay_s: 0.0
  fails_on: ""
temperature: null
top_k: null
supercondition_factor: null
"""


class FailuresAtOnce:
    """Prints each failure when it comes: a run that is cut off never prints its summary.

    A test that ends its process fails once: pytest-xdist would start it again in each new process.
    """

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failed step of a test, and why it failed."""
        if report.failed:
            self._terminal.write_line(f"\n{report.when} of {report.nodeid} failed:")
            self._terminal.write_line(report.longreprtext)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, sched: Any) -> None:
        """Remove a test that ended its process from the tests that are left."""
        for scope, tests in list(getattr(sched, "workqueue", {}).items()):
            tests.pop(crashitem, None)
            if all(tests.values()):  # those that are done
                del sched.workqueue[scope]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Print failures at once where several processes run the tests."""
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None and config.getoption("numprocesses", None):
        config.pluginmanager.register(FailuresAtOnce(terminal))


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> Iterator[None]:
    """Skip the disk's own time: no test cuts the power, and which calls are made is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # refuses what is no open file, as fsync does
        yield


@dataclass
class Project:
    """A working directory with a model of its own, `paint`, that draws at once."""

    path: Path
    capsys: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> Path:
        """Write a file below the working directory."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str) -> Done:
        """Run promptlab in this process, without MLflow, on the model `paint`."""
        from promptlab.cli import main

        if arguments[0] == "sweep":
            arguments = ("sweep", "model=paint", "tracking=null", *arguments[1:])
        self.capsys.readouterr()
        code = main(list(arguments))
        return Done(code, *self.capsys.readouterr())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run promptlab in a process of its own, the leader of its own group."""
        return subprocess.Popen(
            [sys.executable, "-m", "promptlab.cli", *arguments],
            cwd=self.path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def runs(self) -> list[Path]:
        """The run folders, oldest first; two of one second by when they were begun."""

        def age(folder: Path) -> tuple[str, int]:
            recorded = folder / "sweep.yaml"
            second = folder.name[: len("2026-11-28_12-00-00")]
            return second, recorded.stat().st_mtime_ns if recorded.exists() else 0

        return sorted((self.path / "runs").glob("*"), key=age)

    def rows(self, run: Path | None = None) -> list[dict[str, Any]]:
        """The rows of a run, by default the newest."""
        from promptlab.store import read_run

        return read_run(str(run or self.runs[-1])).rows()


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Project:
    """Enter an empty folder that knows the model `paint`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    CALLS.clear()
    found = Project(tmp_path, capsys)
    found.write("conf/model/paint.yaml", PAINT.format(name="paint"))
    return found


WINDOW = {"width": 1280, "height": 900}
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.evil.example 127.0.0.1",  # as after DNS rebinding
]


# The shell first: it draws pages alike without a browser around them, in less than half the time.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One headless Chromium for all tests; skipped where there is none."""
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any) -> Iterator[Any]:
    """Open pages in fresh contexts; at the end no page may have complained."""
    contexts = []
    pages = []

    def make(**options: Any) -> Page:
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
