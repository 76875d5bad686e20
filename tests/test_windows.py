"""What promptlab asks of a system, it asks by Windows' rules too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab import atomic, machine
from promptlab.commands.ui import _end_group
from promptlab.models.dalle.blocks import free_memory_bytes
from promptlab.paths import RunPaths, image_path, is_portable
from tests.conftest import ROOT, Project
from tests.windows import pretend

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="borrows Linux' locks")
AWKWARD = ("CON", "a fox: red? <yes> | no * ...", "nul.", "C:\\\\temp\\\\a fox", "…")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.mark.parametrize("name", ["a.png", "console", "a b", "käse", ".lock", "com10", "x" * 255])
def test_a_plain_name_is_portable(name):
    assert is_portable(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a:b", "a/b", "a\\b", "a.", "a ", "..", "con", "NUL.txt", "Com1", "a\nb", "x?"),
        *("x" * 256, "ä" * 128),
    ],
)
def test_what_some_system_refuses_is_not_portable(name):
    assert not is_portable(name)


@given(st.text(max_size=300), st.integers(0, 2**63 - 1))
def test_an_image_of_any_prompt_has_a_portable_name(prompt, seed):
    folder, name = image_path(prompt, seed, "0" * 16).split("/")
    assert is_portable(folder)
    assert is_portable(name)


def test_every_file_of_the_repository_can_be_checked_out_everywhere():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    parts = {part for line in listed.stdout.splitlines() for part in line.split("/")}
    assert [part for part in sorted(parts) if not is_portable(part)] == []


def test_a_sweep_of_awkward_names_is_drawn_picked_and_published(project: Project, monkeypatch):
    assert project.run("sweep", "subject=a first fox").code == 0  # imports what is large
    pretend(monkeypatch)
    subjects = "[" + ",".join(f'"{text}"' for text in AWKWARD) + "]"
    done = project.run("sweep", f"subject={subjects}", "name='aux: 50 %. '", "style=noto")
    assert done.code == 0, done.err
    assert {row["status"] for row in project.rows()} == {"ok"}
    image_id = project.rows()[0]["image_id"]
    run = str(project.runs[-1])
    for words in (
        ["pick", image_id, "--favourite", "--no-sync"],
        ["pick", "--copy", "picked"],
        ["report", run, "--best", "--publish", "sheet"],
        ["report", run.replace("/", "\\"), "--no-png"],
        ["show", image_id],
        ["verify", run],
    ):
        done = project.run(*words)
        assert done.code == 0, (words, done.out, done.err)
    names = [path.name for path in project.path.rglob("*")]
    assert len(names) > 30
    assert [name for name in names if not is_portable(name)] == []
    assert project.run("report", run, "--publish", "con").code == 1
    assert project.run("sweep", f"subject={subjects}", "name='aux: 50 %. '", "style=noto").code == 0
    assert len(project.runs) == 2, "the second time it resumes"


def test_a_run_folder_may_be_typed_with_backslashes(windows):
    assert RunPaths("runs\\a\\").images == "runs/a/images"
    assert RunPaths("C:\\work\\runs\\a").name == "a"
    assert RunPaths("s3://bucket/back\\slash").name == "back\\slash"


def test_elsewhere_a_backslash_is_part_of_a_name():
    assert RunPaths("runs/a\\b").name == "a\\b"


def test_a_file_that_somebody_reads_is_replaced_once_they_are_done(tmp_path, monkeypatch):
    refusals = iter([True, True, False])
    replace = os.replace

    def refuse(old: str, new: str) -> None:
        if next(refusals):
            raise PermissionError(13, "another process reads it")
        replace(old, new)

    path = tmp_path / "picks.parquet"
    pretend(monkeypatch)
    monkeypatch.setattr(os, "replace", refuse)
    atomic.write_files({str(path): b"new"}, is_durable=True)
    assert path.read_bytes() == b"new"
    monkeypatch.setattr(atomic, "PATIENCE_S", 0.05)
    monkeypatch.setattr(os, "replace", lambda old, new: refuse_always())
    with pytest.raises(PermissionError):
        atomic.write_files({str(path): b"newer"}, is_durable=True)
    assert path.read_bytes() == b"new"
    assert [name.name for name in tmp_path.iterdir()] == ["picks.parquet"]


def refuse_always() -> None:
    raise PermissionError(13, "another process reads it")


def test_the_machine_is_described_without_proc(windows):
    machine._cpu_field.cache_clear()
    try:
        assert machine.usable_cores() == os.cpu_count()
        assert machine.memory_gib() is None
        assert machine.cpu_name()
        assert machine.cpu_flags() == frozenset()
        assert free_memory_bytes() == 4 * 2**30
    finally:
        machine._cpu_field.cache_clear()


def test_a_server_is_ended_with_its_children_by_the_systems_own_means(tmp_path, monkeypatch):
    program = tmp_path / "taskkill"
    program.write_text('#!/bin/sh\n[ "$1 $2 $3" = "/F /T /PID" ] && kill -9 "$4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    pretend(monkeypatch)
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, **machine.own_session()
    )
    _end_group(process)
    assert process.wait(10) != 0
    process.stdin.close()
