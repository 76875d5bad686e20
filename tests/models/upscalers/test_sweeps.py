"""An enlarged image is a row like any other: it names its parent, resumes and draws again."""

from __future__ import annotations

import shlex

from tests.conftest import Project


def test_a_sweep_over_parents_enlarges_each_and_says_from_what(project: Project):
    assert project.run("sweep", "subject=a fox", "seeds=2").code == 0
    parents = project.rows()
    ids = ",".join(row["image_id"] for row in parents)
    command = ("sweep", "-m", "subject=a fox", f"parent={ids}", "model=animevideov3,lanczos")
    done = project.run(*command)
    assert done.code == 0, done.err
    rows = project.rows()
    assert {(row["model"], row["source_id"]) for row in rows} == {
        (model, parent["image_id"]) for model in ("animevideov3", "lanczos") for parent in parents
    }
    for row in rows:
        assert (row["width"], row["height"]) == (4 * parents[0]["width"], 4 * parents[0]["height"])
    assert "nothing to do" in project.run(*command).out


def test_show_prints_the_command_that_enlarges_it_again(project: Project):
    assert project.run("sweep", "subject=a fox", "seeds=1").code == 0
    parent = project.rows()[0]["image_id"]
    assert project.run("sweep", "subject=a fox", f"parent={parent}", "model=animevideov3").code == 0
    first = project.rows()[0]
    shown = project.run("show", first["image_id"]).out
    line = next(line for line in shown.splitlines() if "promptlab sweep" in line)
    arguments = shlex.split(line[line.index("promptlab sweep") :])[1:]
    assert project.run(*arguments, "reuse=false", "name=again").code == 0
    again = project.rows()[0]
    assert (again["image_id"], again["sha256"]) == (first["image_id"], first["sha256"])


def test_without_a_parent_nothing_is_enlarged_and_the_row_says_why(project: Project):
    done = project.run("sweep", "subject=a fox", "model=lanczos")
    assert done.code == 1
    assert "without a source" in done.err + done.out
