"""A fresh run folder."""

import pytest

from promptlab.paths import RunPaths


@pytest.fixture
def paths(tmp_path):
    return RunPaths(str(tmp_path / "runs" / "2026-11-22_22-00-00_test"))
