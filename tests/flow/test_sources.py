"""An image can be drawn from another one: its parent is an axis, and its pixels count in the id."""

from __future__ import annotations

import os
import shlex

import numpy as np
import pytest

from promptlab.errors import StoreError
from promptlab.flow.sources import Sources
from promptlab.paths import RunPaths
from promptlab.records import Request, Result
from promptlab.store import read_run
from tests.conftest import PAINT, Project
from tests.store.painting import Painter, make_plan
from tests.store.sweeping import draw_plan


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


def draw_run(runs_dir, name: str, grey: int, age_s: int, **known):
    """Draw one image, the same request in every run, in a grey of its own; return its row."""
    model = Painter(lambda r: Result(r, np.full((8, 8, 3), grey, np.uint8), **known))
    model.is_deterministic = False
    paths = RunPaths(str(runs_dir / name))
    draw_plan(paths, make_plan(("a fox",), ("noto",), (0,), model=model), reuse=False)
    moment = os.stat(paths.sweep_yaml).st_mtime - age_s
    os.utime(paths.sweep_yaml, (moment, moment))
    return read_run(paths).rows()[0]


def test_of_images_with_one_id_the_one_with_the_pixels_asked_for_is_the_source(tmp_path):
    old, new = draw_run(tmp_path, "z", 10, 200), draw_run(tmp_path, "a", 20, 100)
    image_id = old["image_id"]
    assert new["image_id"] == image_id
    assert Sources(str(tmp_path)).find(image_id).sha256 == new["sha256"]
    for name, row in (("z", old), ("a", new)):
        source = Sources(str(tmp_path)).find(image_id[:9], row["sha256"])
        assert (source.image_id, source.sha256, source.png) == (image_id, row["sha256"], b"")
        assert not source.is_repeatable
        bare = Request("x", "a robot", 0, {}, source)
        # Handed out in the process that found it, and in one that has not looked for it.
        for sources in (Sources(str(tmp_path)), Sources(str(tmp_path))):
            filled = sources.with_bytes(bare)
            assert filled.source is not None
            assert filled.source.png == read_run(str(tmp_path / name)).image_bytes(image_id)
            assert sources.with_bytes(filled) is filled


def test_of_several_runs_the_newest_holds_an_image_whatever_was_looked_for_before(tmp_path):
    row = draw_run(tmp_path, "z", 10, 200)
    both = make_plan(("a fox", "an owl"), ("noto",), (0,))
    draw_plan(RunPaths(str(tmp_path / "z")), both)  # the owl is in the older run alone
    moment = os.stat(tmp_path / "z" / "sweep.yaml").st_mtime - 300
    os.utime(tmp_path / "z" / "sweep.yaml", (moment, moment))
    draw_run(tmp_path, "a", 20, 100)
    (owl,) = (r for r in read_run(str(tmp_path / "z")).rows() if r["subject"] == "an owl")
    sources = Sources(str(tmp_path))
    for image_id, name in ((owl["image_id"], "z"), (row["image_id"], "a")):
        run, found = sources.locate(image_id)
        assert (run.paths.name, found["image_id"]) == (name, image_id)


def test_a_request_without_a_source_stays_as_it_is(tmp_path):
    request = Request("x", "a robot", 0, {})
    assert Sources(str(tmp_path)).with_bytes(request) is request


def test_nothing_is_drawn_from_an_image_that_failed_or_is_gone(tmp_path):
    row = draw_run(tmp_path, "a", 10, 0)
    sources = Sources(str(tmp_path))
    request = Request("x", "a robot", 0, {}, sources.find(row["image_id"]))
    for path in (tmp_path / "a").rglob("*.png"):
        path.unlink()
    for path in (tmp_path / "a" / "images.parquet").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match=f"The PNG of the image {row['image_id']} is gone"):
        sources.with_bytes(request)
    failing = Painter(lambda r: Result(r, error="no"))
    plan = make_plan(("an owl",), ("noto",), (0,), model=failing)
    draw_plan(RunPaths(str(tmp_path / "b")), plan)
    with pytest.raises(StoreError, match="failed: there is nothing to draw from"):
        Sources(str(tmp_path)).parent(read_run(str(tmp_path / "b")).rows()[0]["image_id"])
