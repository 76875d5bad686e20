"""A server's engine room: a folder with the model `paint`, a desk with one worker, children."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.serve.children import Children
from promptlab.serve.desk import Desk
from promptlab.store import read_run
from tests.conftest import PAINT, ROOT


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


def runs_of(name: str) -> list[Path]:
    """Return the run folders of a sweep."""
    return sorted(Path("runs").glob(f"*_{name}"))


def rows_of(run: Path) -> list[dict[str, Any]]:
    return read_run(str(run)).rows()
