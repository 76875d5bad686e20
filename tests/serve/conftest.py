"""A server's engine room and its pages, and a whole server that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.serve.children import Children
from promptlab.serve.desk import Desk
from promptlab.store import read_run
from tests.conftest import PAINT, ROOT
from tests.serve.drawing import Drawing, Site
from tests.serve.running import Running, prepare_folder, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Enter a folder that knows the model `paint`; all tests share it and its children."""
    path = tmp_path_factory.mktemp("served")
    (path / "conf/model").mkdir(parents=True)
    (path / "conf/model/paint.yaml").write_text(PAINT.format(name="paint"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield path


@pytest.fixture(scope="module")
def children(folder: Path) -> Iterator[Children]:
    """Open children with a desk of one worker."""
    desk = Desk(1)
    desk.start()
    found = Children("runs", desk, folder / ".serve")
    yield found
    found.close()
    desk.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of an empty folder of runs."""
    site = Site(tmp_path / "runs").start()
    yield site
    site.stop()


@pytest.fixture
def drawing(site: Site) -> Iterator[Drawing]:
    """A run of 4 subjects × 3 styles × 2 seeds in the queue, of which nothing is drawn yet."""
    drawing = Drawing(site.runs_dir / "20261128_1200_foxes", site.queue)
    yield drawing
    drawing.close()


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on loopback in a process of its own, whose model is `paint`."""
    folder = tmp_path_factory.mktemp("live")
    prepare_folder(folder)
    with running(folder) as server:
        yield server


def runs_of(name: str) -> list[Path]:
    """Return the run folders of a sweep."""
    return sorted(Path("runs").glob(f"*_{name}"))


def rows_of(run: Path) -> list[dict[str, Any]]:
    return read_run(str(run)).rows()
