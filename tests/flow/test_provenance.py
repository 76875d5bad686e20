"""sweep.yaml says which state of a repository a sweep came from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from promptlab.flow.provenance import git_revision

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_revision_is_the_commit_and_whether_its_files_were_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert git_revision() is None
    git(tmp_path, "init", "-q")
    (tmp_path / "a.yaml").write_text("a")
    git(tmp_path, "add", "a.yaml")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "new").write_text("what a sweep writes is no change")
    assert git_revision() == {"commit": commit, "is_dirty": False}
    (tmp_path / "a.yaml").write_text("b")
    assert git_revision() == {"commit": commit, "is_dirty": True}
