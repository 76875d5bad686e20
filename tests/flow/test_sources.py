"""An image can be drawn from another one: its parent is an axis, and its pixels count in the id."""

from __future__ import annotations

import shlex

import pytest

from tests.conftest import PAINT, Project


@pytest.fixture
def drawn(project: Project) -> Project:
    """A project with a run of two images, on a model that can paint over images."""
    text = PAINT.replace("PaintModel", "OverpaintModel").format(name="paint")
    project.write("conf/model/paint.yaml", text)
    assert project.run("sweep", "subject=a fox", "seeds=2").code == 0
    return project


def test_parents_are_an_axis_and_each_makes_a_cell_of_its_own(drawn: Project):
    parents = [row["image_id"] for row in drawn.rows()]
    done = drawn.run("sweep", "-m", "subject=a robot", f"parent={','.join(parents)}", "seeds=2")
    assert done.code == 0, done.err
    rows = drawn.rows()
    assert [row["parent"] for row in rows] == [parents[0]] * 2 + [parents[1]] * 2
    for name in ("image_id", "sha256"):
        assert len({row[name] for row in rows}) == 4, name
    assert len({row["cell_id"] for row in rows}) == 2
    again = drawn.run("sweep", "-m", "subject=a robot", f"parent={','.join(parents)}", "seeds=2")
    assert "nothing to do" in again.out


def test_a_model_that_draws_from_no_image_refuses_a_parent(drawn: Project):
    drawn.write("conf/model/other.yaml", PAINT.format(name="other"))
    parent = drawn.rows()[0]["image_id"]
    done = drawn.run("sweep", "model=other", "subject=a robot", f"parent={parent}")
    assert done.code == 1
    assert "the model other draws from no image" in done.err


def test_a_parent_that_no_run_holds_is_one_message(drawn: Project):
    done = drawn.run("sweep", "subject=a robot", "parent=ffffffffffffffff")
    assert done.code == 1
    assert "holds an image 'ffffffffffffffff'" in done.err


def test_an_image_drawn_from_another_is_verified_and_its_command_draws_it_again(drawn: Project):
    parent = drawn.rows()[0]["image_id"]
    assert drawn.run("sweep", "subject=a robot", f'parent="{parent}"', "seeds=2").code == 0
    rows = drawn.rows()
    assert {row["source_id"] for row in rows} == {parent}
    assert drawn.run("verify").out == "2 of 2 images are bit for bit the same.\n"
    command = drawn.run("show", rows[1]["image_id"], "--command").out.strip()
    again = drawn.run(*shlex.split(command)[1:], "reuse=false")
    assert again.code == 0, again.err
    (row,) = drawn.rows()
    assert [row[name] for name in ("image_id", "sha256", "source_id")] == [
        rows[1][name] for name in ("image_id", "sha256", "source_id")
    ]
